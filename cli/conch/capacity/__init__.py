"""How much a deployment does: a profile measured on one, and the size of one for a load."""
