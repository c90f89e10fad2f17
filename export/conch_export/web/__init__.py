"""Writes models of a repository as static files for the browser: graphs, a manifest, and the module that loads them."""
