"""Pages for browsers, and models that web pages run themselves."""
