"""A repository's models as one file: packing, unpacking, checking."""
