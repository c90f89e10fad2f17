"""Measurements of `conch embed` over whole corpora."""
