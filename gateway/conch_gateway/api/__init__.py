"""One file per resource; each has `router(...)`, which takes what its endpoints need."""
