"""What the load is told: it is another program, which imports much that this one does without."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Orders:
    """What to ask, where and how often.

    Attributes:
        url: of the gateway.
        grpc_url: of its Triton.
        proxied_url: of a second gateway, which reaches that Triton through the proxy.
        key: API key for both.
        per_s: questions a second, at random moments.
        seconds: how long.
        seed: of the moments, questions and texts.
        folders: of the models, by the names of `Models`.
    """

    url: str
    grpc_url: str
    proxied_url: str
    key: str
    per_s: float
    seconds: float
    seed: int
    folders: dict[str, str]

    def as_json(self) -> str:
        """The argument that `main` reads."""
        return json.dumps(asdict(self))
