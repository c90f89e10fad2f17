"""The command line: options, progress and tables around the other packages."""
