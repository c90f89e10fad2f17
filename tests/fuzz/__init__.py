"""Coverage-guided fuzzing (atheris) of everything that reads what others wrote."""
