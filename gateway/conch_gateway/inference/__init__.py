"""From a checked request to its result: jobs, prompts, the cache, and one service for each task."""
