"""Which of several equal servers gets a call: pure, on an injected clock. For Tritons here, for upstreams in a gateway.

Of the servers that have not been seen to fail, a call goes to the one that is predicted to answer it first.
``benchmarks/replicas.py`` measures how well that does; docs/adr/0030-routing.md says why it is done.
"""

from __future__ import annotations

from conch_client.routing.budget import RetryBudget
from conch_client.routing.load import Load
from conch_client.routing.pool import Call, Member, Outcome, Pool
from conch_client.routing.replica import Replica
from conch_client.routing.standing import Standing, State

__all__ = [
    "Call",
    "Load",
    "Member",
    "Outcome",
    "Pool",
    "Replica",
    "RetryBudget",
    "Standing",
    "State",
]
