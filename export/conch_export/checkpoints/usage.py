"""How texts are prepared for a model: prompts and lengths, from the operator, the checkpoint or the catalog."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from conch_export.checkpoints.adapters.own import prompts as prompts_of_adapter
from conch_export.checkpoints.known_keys import MATRYOSHKA
from conch_export.errors import UndecidedError, UnsupportedError
from conch_export.sources import catalog

if TYPE_CHECKING:
    from conch_export.checkpoints.checkpoint import Checkpoint
    from conch_export.checkpoints.settings import Settings
    from conch_export.model.description import Overrides
    from conch_export.sources.source import Source


_SIMILARITIES = ("cosine", "dot", "euclidean", "manhattan")
"""sentence-transformers' names."""
_LEAST = 3
"""The shortest limit in tokens: room for one between the first and the last special token."""


def known_task(source: Source) -> str | None:
    """The task that the catalog has of a model on the Hub; None for a folder, of which nothing is assumed."""
    known = catalog.of_hub_id(_hub_id(source))
    return known.task if known else None


def known_usage(source: Source) -> catalog.Usage:
    """How the authors of a model on the Hub say it is used."""
    return catalog.usage_of(_hub_id(source))


def read_prompts(checkpoint: Checkpoint, usage: catalog.Usage, overrides: Overrides) -> tuple[dict[str, str], str]:
    """Prompts by name, and the name of the default one (empty for none).

    The operator's prompts come first, then the checkpoint's own, then those that its authors publish elsewhere.

    Raises:
        UnsupportedError: the default is not among them.
    """
    stated = checkpoint.settings("config_sentence_transformers.json")
    named = stated.inner("prompts")
    prompts = {name: named.of(name, str, "") for name in named}
    default = stated.of("default_prompt_name", str, "")
    if checkpoint.own_adapters and (of_adapter := prompts_of_adapter(checkpoint.stated_config, checkpoint.adapter)):
        prompts, default = of_adapter, checkpoint.adapter
    if not any(prompts.values()) and not default:
        prompts, default = dict(usage.prompts), usage.default_prompt_name
    if overrides.prompts is not None:
        prompts, default = dict(overrides.prompts), ""
    if overrides.default_prompt is not None:
        default = overrides.default_prompt
    if default and default not in prompts:
        msg = f"the default prompt {default!r} is not among the checkpoint's prompts {sorted(prompts)}"
        raise UnsupportedError(msg)
    return prompts, default


def read_max_length(checkpoint: Checkpoint, positions: int, asked: int | None, *, needed: bool, endless: bool) -> int:
    """Tokens at which the authors truncate, special tokens included.

    Args:
        checkpoint: its files.
        positions: most tokens that the encoder takes.
        asked: what the operator states.
        needed: whether the checkpoint or the operator has to state a length, as the encoder takes any.
        endless: whether the authors' library computes longer texts too.

    Raises:
        UndecidedError: neither does.
        UnsupportedError: the length is impossible, or more than is built.
    """
    if asked is not None:
        if not _LEAST <= asked <= positions:
            msg = f"--max-length {asked} is outside {_LEAST} to {positions}, what the model has positions for"
            raise UnsupportedError(msg)
        return asked
    stated = checkpoint.served_tokenizer.max_length
    if stated is not None and stated < _LEAST:
        msg = (
            f"{checkpoint.folder} truncates texts at {stated} tokens (max_seq_length, model_max_length), which leaves "
            f"no room for text: give the true number with --max-length, {_LEAST} or more"
        )
        raise UnsupportedError(msg)
    if endless and (length := checkpoint.stated_length or 0) > positions:
        msg = (
            f"{checkpoint.folder} truncates texts at {length} tokens (max_seq_length), of which {positions} are built "
            f"for {checkpoint.model_type}: state --max-length, {positions} or less"
        )
        raise UnsupportedError(msg)
    if stated is None and needed:
        msg = (
            f"{checkpoint.folder} does not say at how many tokens texts are truncated (max_seq_length, "
            "model_max_length): state its authors' choice with --max-length"
        )
        raise UndecidedError(msg)
    return positions if stated is None else min(positions, stated)


def read_matryoshka(
    checkpoint: Checkpoint, dimension: int, usage: catalog.Usage, asked: tuple[int, ...] | None
) -> tuple[int, ...]:
    """Lengths that vectors may be cut to, longest first; empty where they may not be cut.

    Raises:
        SourceError: config.json states something else than lengths.
        UnsupportedError: one is no length of a part of the vector.
    """
    config = checkpoint.stated_config
    own = tuple(config.of(MATRYOSHKA, list[Any], []))
    if not all(type(size) is int for size in own):
        raise config.wrong(MATRYOSHKA, "a list of whole numbers")
    stated = own or usage.matryoshka if asked is None else asked
    if any(not 0 < size <= dimension for size in stated):
        raise UnsupportedError(f"--matryoshka {','.join(map(str, stated))}: lengths must be from 1 to {dimension}")
    return tuple(sorted({*stated, dimension}, reverse=True)) if stated else ()


def refuse_cut_vectors(stated: Settings) -> None:
    """Raise UnsupportedError where settings of sentence-transformers let only the first numbers of a vector count."""
    if stated.of("truncate_dim", int, 0):
        msg = (
            f"{stated.place} states truncate_dim = {stated['truncate_dim']}: vectors are served whole, and cut for "
            "requests that ask; export a copy of the folder without it, with --matryoshka, and ask for `dimensions`"
        )
        raise UnsupportedError(msg)


def read_similarity(checkpoint: Checkpoint) -> str:
    """How the authors compare vectors; empty where the checkpoint does not state it.

    Raises:
        UnsupportedError: it states an unknown way.
    """
    stated = checkpoint.settings("config_sentence_transformers.json")
    stated.refuse_others("similarity_fn_name", "", *_SIMILARITIES)
    return stated.of("similarity_fn_name", str, "")


def _hub_id(source: Source) -> str:
    kind, _, place = source.origin.partition(":")
    return place if kind == "hub" else ""
