"""An actor for tests of what ends; in a module that imports nothing, because its process imports the module first."""

from __future__ import annotations

import os


class Dying:
    """An actor whose process ends when it is made."""

    def __init__(self) -> None:
        os._exit(1)

    def compute(self, shard: str) -> dict[str, str]:
        return {"shard": shard}
