"""Fields of request bodies that several dialects share, and how bodies are read."""
