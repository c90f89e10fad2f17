"""Chooses the server of each call among several replicas: Tritons in the client, upstream servers in the gateway.

A call goes to the server that is predicted to answer it first, among those in service. The code does no I/O and takes a
clock. docs/adr/0030-routing.md has the reasons, and ``benchmarks/replicas.py`` measures the result.
"""

from __future__ import annotations

from conch_client.routing.load import Load
from conch_client.routing.pool import Call, Member, Outcome, Pool
from conch_client.routing.replica import Replica
from conch_client.routing.standing import State

__all__ = [
    "Call",
    "Load",
    "Member",
    "Outcome",
    "Pool",
    "Replica",
    "State",
]
