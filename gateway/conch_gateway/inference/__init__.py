"""From a checked request to its result: one service with one path for all tasks, and the cache of vectors."""
