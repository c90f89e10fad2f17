"""A deployment in simulated time: the gateway's own scheduling over Tritons that are modelled by the costs of calls."""
