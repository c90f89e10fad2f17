"""`conch migrate`: compares two embedding models, and fits a bridge to the index of the old one."""
