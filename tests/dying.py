"""A class for tests of processes that end; its module imports little, because its process imports the module first."""

from __future__ import annotations

import os
import signal


class Dying:
    """Its process ends when it is made."""

    def __init__(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def compute(self, shard: str) -> dict[str, str]:
        return {"shard": shard}
