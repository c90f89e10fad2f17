"""Processes that compute shards, on this machine or on a Ray cluster."""
