"""A deployment in simulated time: the gateway's own scheduling over Tritons that are a law of their service times."""
