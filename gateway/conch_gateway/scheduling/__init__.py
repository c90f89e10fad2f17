"""Scheduling: how much may be in flight, whose call is next, and how long a request would wait.

Pure: no settings, no HTTP; clocks are injected.
"""
