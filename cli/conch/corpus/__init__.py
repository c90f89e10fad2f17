"""`conch embed` and `conch rerank`: whole corpora, from files to files."""
