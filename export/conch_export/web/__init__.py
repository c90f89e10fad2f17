"""Models of a repository as static files for the browser: their graphs, a manifest, and the module that loads them."""
