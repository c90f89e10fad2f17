"""A model as data: its description by task, its encoder's network and its heads. Nothing is read or built here."""
