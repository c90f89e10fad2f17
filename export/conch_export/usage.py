"""How texts are prepared for a model: prompts, lengths, templates. From the operator, the checkpoint or the catalog."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from conch_export import catalog
from conch_export.errors import UnsupportedError

if TYPE_CHECKING:
    from conch_export.checkpoint import Checkpoint
    from conch_export.description import Overrides
    from conch_export.sources import Source


def known_usage(source: Source) -> catalog.Usage:
    """What the authors of a model on the Hub say of its use; nothing is assumed of a folder."""
    return catalog.USAGES.get(source.origin.removeprefix("hub:").lower(), catalog.Usage())


def read_prompts(checkpoint: Checkpoint, usage: catalog.Usage, overrides: Overrides) -> tuple[dict[str, str], str]:
    """Prompts by name, and the name of the default one (empty for none).

    The operator's come first, then the checkpoint's own, then those that its authors publish elsewhere.

    Raises:
        UnsupportedError: the default is not among them.
    """
    stated = checkpoint.settings("config_sentence_transformers.json")
    prompts = {str(name): str(text) for name, text in (stated.get("prompts") or {}).items()}
    default = str(stated.get("default_prompt_name") or "")
    if not any(prompts.values()) and not default:
        prompts, default = dict(usage.prompts), usage.default_prompt_name
    if overrides.prompts is not None:
        prompts, default = dict(overrides.prompts), ""
    if overrides.default_prompt is not None:
        default = overrides.default_prompt
    if default and default not in prompts:
        message = f"the default prompt {default!r} is not among the checkpoint's prompts {sorted(prompts)}"
        raise UnsupportedError(message)
    return prompts, default


def read_max_length(checkpoint: Checkpoint, positions: int, asked: int | None) -> int:
    """Tokens at which the authors truncate, special tokens included."""
    if asked is not None:
        if not 2 < asked <= positions:
            message = f"--max-length {asked} is outside 3 to {positions}, what the model has positions for"
            raise UnsupportedError(message)
        return asked
    stated = checkpoint.settings("sentence_bert_config.json").get("max_seq_length")
    stated = stated or checkpoint.settings("tokenizer_config.json").get("model_max_length")
    return min(positions, int(stated)) if stated else positions


def read_matryoshka(dimension: int, usage: catalog.Usage, asked: tuple[int, ...] | None) -> tuple[int, ...]:
    """Lengths that vectors may be cut to, longest first; empty where nothing says that they may be.

    Raises:
        UnsupportedError: one is no length of a part of the vector.
    """
    stated = usage.matryoshka if asked is None else asked
    if any(not 0 < size <= dimension for size in stated):
        message = f"--matryoshka {','.join(map(str, stated))}: lengths must be from 1 to {dimension}"
        raise UnsupportedError(message)
    return tuple(sorted({*stated, dimension}, reverse=True)) if stated else ()


def is_centred(usage: catalog.Usage, asked: bool | None) -> bool:  # noqa: FBT001 - mirrors the override
    """Whether vectors lose their mean before they are cut."""
    return usage.matryoshka_centred if asked is None else asked


def refuse_lower_casing(checkpoint: Checkpoint) -> None:
    """Refuse what the tokenizer alone does not do: sentence-transformers lower-cases before it tokenises."""
    stated = checkpoint.settings("sentence_bert_config.json").get("do_lower_case")
    if stated and not _lower_cases(checkpoint.settings("tokenizer.json").get("normalizer") or {}):
        message = "do_lower_case is set, but tokenizer.json does not lower-case: add a Lowercase normalizer to it"
        raise UnsupportedError(message)


def _lower_cases(normalizer: dict[str, Any]) -> bool:
    if normalizer.get("type") == "Lowercase" or normalizer.get("lowercase"):
        return True
    return any(map(_lower_cases, normalizer.get("normalizers") or ()))
