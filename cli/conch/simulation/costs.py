"""Costs of texts, calls and requests: the numbers of a measured profile that a simulation uses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

PAUSE_S = 0.020
"""Seconds without work after which a request takes `GatewayCosts.cold_s` longer."""


@dataclass(frozen=True)
class EngineCosts:
    """Costs of one Triton.

    Attributes:
        instances: Instances of the encoder, which run in parallel.
        max_rows: Most texts in one run of an instance.
        fixed_s: Seconds of a run that do not depend on its texts.
        row_s: Seconds of each text in it.
        token_s: Seconds of each token.
        square_s: Seconds of each pair of a text's tokens (attention).
        mixed: Factor on the time of a run whose texts differ in length.
        call_s: Processor time of a call besides its run: the protocol, the queue, the head.
        path_s: Seconds of a call without computing: the network, threads that wake up.
        slowdown: Factor on the times of runs and calls while all instances run; the costs above are those of lone ones.
    """

    instances: int
    max_rows: int
    fixed_s: float
    row_s: float
    token_s: float
    square_s: float
    mixed: float
    call_s: float
    path_s: float
    slowdown: float

    def run_s(self, lengths: Sequence[int]) -> float:
        """Return the seconds of a run with texts of these lengths, while no other instance runs."""
        alike_s = self.fixed_s + sum(self.row_s + (self.token_s + self.square_s * n) * n for n in lengths)
        return alike_s * (self.mixed if len(set(lengths)) > 1 else 1.0)


@dataclass(frozen=True)
class GatewayCosts:
    """Costs of one gateway, whose event loop is one thread.

    Attributes:
        request_s: Processor time of a request.
        token_s: Processor time of each of its tokens.
        call_s: Processor time of a call to Triton, which small requests share.
        path_s: Seconds of a request without computing.
        cold_s: Seconds that a request takes longer after a pause, as cores sleep and caches cool.
    """

    request_s: float = 0.0
    token_s: float = 0.0
    call_s: float = 0.0
    path_s: float = 0.0
    cold_s: float = 0.0

    def longer_s(self, idle_s: float) -> float:
        """Return how much longer a request takes that comes after so many seconds without work."""
        return self.cold_s * min(1.0, idle_s / PAUSE_S)


FREE = GatewayCosts()
"""Costs of a gateway that was not measured."""
