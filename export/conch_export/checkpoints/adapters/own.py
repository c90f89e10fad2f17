"""Adapters that a checkpoint itself has, one for each task, as jina-embeddings-v3 does (Sturua et al. 2024).

config.json lists their names (`lora_adaptations`), and what is put before the texts of each (`task_instructions`).
Every weight that they change has two further tensors, in which all adapters lie one behind the other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from conch_export.checkpoints.adapters.low_rank import LowRank
from conch_export.errors import SourceError, UndecidedError, UnsupportedError

if TYPE_CHECKING:
    from conch_export.checkpoints.adapters.low_rank import Tensors
    from conch_export.checkpoints.settings import Settings

NONE = "none"
"""Chooses the weights without any of the adapters."""
_LEFT, _RIGHT = ".parametrizations.weight.0.lora_B", ".parametrizations.weight.0.lora_A"


def names(config: Settings) -> list[str]:
    """The adapters that a checkpoint has, by name."""
    return config.texts("lora_adaptations")


def refuse_unchosen(config: Settings, chosen: str) -> None:
    """Refuse a checkpoint of which one of several adapters has to be chosen, and is not.

    Raises:
        UndecidedError: none is chosen.
        UnsupportedError: it has none of that name.
    """
    known = names(config)
    if known and not chosen:
        msg = (
            f"the checkpoint has an adapter for each of {', '.join(known)}: choose one with --adapter NAME, or "
            f"--adapter {NONE}. Each is a public model of its own"
        )
        raise UndecidedError(msg)
    if known and chosen not in (*known, NONE):
        raise UnsupportedError(f"the checkpoint has no adapter {chosen!r}, only {', '.join(known)} and {NONE}")


def prompts(config: Settings, chosen: str) -> dict[str, str]:
    """What is put before the texts of an adapter, by its name; empty where the checkpoint does not state it."""
    stated = config.inner("task_instructions")
    return {chosen: stated.of(chosen, str, "")} if chosen in stated else {}


def low_ranks(config: Settings, weights: Tensors, chosen: str) -> dict[str, LowRank]:
    """Return the low-rank change of the chosen adapter to each weight, by the weight's name.

    Raises:
        SourceError: the tensors are not those that config.json says.
    """
    refuse_unchosen(config, chosen)
    known, found = names(config), [name for name in weights.tensors if name.endswith(_LEFT)]
    if found and not known:
        raise SourceError(f"{config.place} lists no lora_adaptations, but there is a tensor {found[0]!r}: {_FIX}")
    if not known or chosen == NONE:
        return {}
    if not found:
        raise SourceError(f"{config.place} lists lora_adaptations, but there are no tensors of them: {_FIX}")
    changed = [name.removesuffix(_LEFT) for name in found]
    return {f"{name}.weight": _low_rank(config, weights, name, chosen) for name in changed}


def _low_rank(config: Settings, weights: Tensors, name: str, chosen: str) -> LowRank:
    known, rank = names(config), config["lora_rank"]
    index, count = known.index(chosen), len(known)
    rows, columns = weights.shape(f"{name}.weight")
    a, b = weights.shape(name + _RIGHT), weights.shape(name + _LEFT)
    if (a, b) == ((count, rank, columns), (count, rows, rank)):
        left, right = name + _LEFT, name + _RIGHT
    elif (a, b) == ((count, rows, rank), (count, rank, columns)):  # of a table, whose weight is the other way round
        left, right = name + _RIGHT, name + _LEFT
    else:
        raise SourceError(f"the adapters of {name}.weight {(rows, columns)} have the shapes {a} and {b}: {_FIX}")
    parts = (lambda: weights.part(left, index), lambda: weights.part(right, index))
    return LowRank(*parts, config["lora_alpha"] / rank)


_FIX = "fetch it again"
