"""Moving from one published embedding model to another: comparing both, and a bridge from the new one to the old."""
