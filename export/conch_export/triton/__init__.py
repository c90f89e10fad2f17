"""The model repository: which models there are, their configurations, and how they are published."""
