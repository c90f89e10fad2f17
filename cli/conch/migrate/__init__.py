"""Moving to another embedding model: comparing it with the old one, and a bridge into the old one's index."""
