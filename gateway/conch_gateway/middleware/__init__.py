"""Layers before the routes: HTTP framing, paths, limits of time and size, answers to errors."""
