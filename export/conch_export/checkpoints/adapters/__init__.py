"""Low-rank adapters, merged into the weights that they change while those are read."""
