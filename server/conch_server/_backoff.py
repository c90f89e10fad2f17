"""How long to wait before Triton is started again."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Backoff:
    """No wait the first time, then `first_s`, doubled up to `longest_s`; all forgotten after a run of `forget_s`."""

    first_s: float
    longest_s: float
    forget_s: float
    _restarts: int = 0

    def next_s(self, uptime_s: float) -> float:
        """Seconds to wait after a run that lasted `uptime_s` seconds."""
        if uptime_s >= self.forget_s:
            self._restarts = 0
        self._restarts += 1
        if self._restarts == 1:
            return 0.0
        # The exponent is bounded, or a server that fails for days would overflow.
        return min(self.longest_s, self.first_s * 2.0 ** min(self._restarts - 2, 30))
