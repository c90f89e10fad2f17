"""Workers that run in a peer's own virtual environment; they import nothing of conch."""
