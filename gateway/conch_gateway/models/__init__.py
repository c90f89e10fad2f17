"""Which models there are: names, aliases, the models file, loading, readiness."""
