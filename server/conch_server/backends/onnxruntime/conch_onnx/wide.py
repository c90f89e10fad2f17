"""Every core for a long run that no other instance competes with.

Instances of a large model compute with one thread each, which is fastest while all cores are busy and leaves them idle
while a single request is computed. Triton gives such a request to the instance that config.pbtxt prefers. So that one
has a second session, with a thread for every instance, and uses it while no other instance computes, nor did a moment
ago: the gap between two requests of a busy instance is no idle core. Both sessions map the same packed weights.
"""

from __future__ import annotations

import fcntl
import os
import time
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

WORTH_TOKENS = 16
"""Shorter runs gain less than waking the threads costs."""
IDLE_NS = 100_000_000
"""How long no other instance must have computed."""


class Session(Protocol):
    """The interface of an onnxruntime session that an instance uses."""

    def run(self, names: Sequence[str], feed: Mapping[str, NDArray[Any]], /) -> Sequence[NDArray[Any]]:
        """Return the outputs of these names."""


class WideWhenAlone:
    """The sessions of one instance.

    Args:
        narrow: with the thread that is the instance's own.
        wide: with a thread for every instance; None where another instance is preferred.
        computing: file that whoever computes holds a lock on, and whose time is the end of the last
            run, by the monotonic clock; the same for all instances of all such models.
    """

    def __init__(self, narrow: Session, wide: Session | None, computing: Path) -> None:
        self._narrow, self._wide = narrow, wide
        # Open for as long as the process lives, which is the instance; however it ends, the kernel lets go of its lock.
        self._computing = os.open(computing, os.O_CREAT | os.O_RDWR, 0o600)
        self._ended_ns = os.fstat(self._computing).st_mtime_ns
        self._others_ended_ns = 0

    def run(self, names: Sequence[str], feed: Mapping[str, NDArray[Any]], /) -> Sequence[NDArray[Any]]:
        """Return the outputs of these names; the same from either session."""
        session = self._narrow
        if self._wide is not None and max(tensor.size for tensor in feed.values()) >= WORTH_TOKENS and self._is_alone():
            session = self._wide
        fcntl.flock(self._computing, fcntl.LOCK_SH)
        try:
            return session.run(names, feed)
        finally:
            self._look_for_others()
            self._ended_ns = time.monotonic_ns()
            os.utime(self._computing, ns=(self._ended_ns, self._ended_ns))
            fcntl.flock(self._computing, fcntl.LOCK_UN)

    def _is_alone(self) -> bool:
        """Whether nobody computes. If so the lock is exclusive, and others wait until it is shared a moment later."""
        try:
            fcntl.flock(self._computing, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        self._look_for_others()
        return time.monotonic_ns() - self._others_ended_ns > IDLE_NS

    def _look_for_others(self) -> None:
        """Remember when another instance ended a run, if that was after this one's last."""
        ended_ns = os.fstat(self._computing).st_mtime_ns
        if ended_ns != self._ended_ns:
            self._others_ended_ns = ended_ns
