"""An architecture that nobody knows, whose checkpoints bring its code."""
