"""Moving from one published embedding model to another: compares both, fits a bridge from the new to the old."""
