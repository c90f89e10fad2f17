"""Checkpoints of true size with random weights, and what an export and a service of them take. See `sizes.py`."""
