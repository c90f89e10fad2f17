"""Costs of texts, calls and requests: the numbers of a measured profile that a simulation uses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


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
        call_s: Processor time of a call besides its run: the protocol, the queue, the head.
        path_s: Seconds of a call without computing: the network, threads that wake up.
        busy_path_s: The same while all cores are busy, and each of a dozen threads waits for one.
        slowdown: Factor on the times of runs and calls while all instances run; the costs above are those of lone ones.
    """

    instances: int
    max_rows: int
    fixed_s: float
    row_s: float
    token_s: float
    square_s: float
    call_s: float
    path_s: float
    busy_path_s: float
    slowdown: float

    def run_s(self, lengths: Iterable[int]) -> float:
        """Return the seconds of a run with texts of these lengths, while no other instance runs."""
        return self.fixed_s + sum(self.row_s + (self.token_s + self.square_s * n) * n for n in lengths)


@dataclass(frozen=True)
class GatewayCosts:
    """Costs of one gateway, whose event loop is one thread.

    Attributes:
        request_s: Processor time of a request.
        token_s: Processor time of each of its tokens.
        call_s: Processor time of a call to Triton, which small requests share.
        path_s: Seconds of a request without computing.
        busy_path_s: The same while all cores are busy that the gateway shares with others.
    """

    request_s: float = 0.0
    token_s: float = 0.0
    call_s: float = 0.0
    path_s: float = 0.0
    busy_path_s: float = 0.0


FREE = GatewayCosts()
"""Costs of a gateway that was not measured."""
