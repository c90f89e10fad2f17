"""Families of decoders: rotary positions, root mean square norms before each part, a gated feed-forward."""
