"""What newer libraries write, in the form that the installed ones read."""
