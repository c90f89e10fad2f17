"""The command line: it ties the packages together and holds no logic of its own."""
