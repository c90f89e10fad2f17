"""Capacity planning: measures the profile of a deployment, and finds the size of a deployment for a load."""
