"""How a checkpoint writes queries and documents for late interaction.

ColBERT's own library, PyLate and sentence-transformers 6 each state it in files of their own.
"""

from __future__ import annotations

import string
from typing import TYPE_CHECKING

from conch_contract import Interaction

from conch_export.checkpoints.known_keys import COLBERT, PYLATE, QUERY_EXPANSION
from conch_export.errors import UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from conch_export.checkpoints.checkpoint import Checkpoint
    from conch_export.checkpoints.settings import Settings
    from conch_export.model.description import Overrides

_METADATA = "artifact.metadata"
_PYLATE = "config_sentence_transformers.json"
_COMPARED_BY = {"similarity": "cosine", "interaction": "colbert", "relu": False, "pool_factor": 1}
"""How ColBERT's own library compares vectors, in models that are built: each, by its cosine."""
_SIMILARITIES = ("maxsim", "meanmaxsim", "cosine", "dot")
"""What others call the comparison of token vectors, or say of the single vectors that a model had before."""


def read_interaction(checkpoint: Checkpoint, positions: int, skipped: list[str] | None) -> Interaction | None:
    """The rules, or None where the checkpoint states none.

    Args:
        checkpoint: of a multi-vector model.
        positions: most tokens that a row may have.
        skipped: the skip list of a MultiVectorEncoder; None where the checkpoint is none.

    Raises:
        UnsupportedError: a marker is no token of its tokenizer, or a rule is not built.
    """
    stated = checkpoint.settings(_PYLATE)
    if (similarity := stated.of("similarity_fn_name", str, "cosine")).lower() not in _SIMILARITIES:
        known = ", ".join(map(repr, _SIMILARITIES))
        msg = f"{stated.place} states similarity_fn_name = {similarity!r}, which is not built for token vectors"
        raise UnsupportedError(f"{msg} (known: {known})")
    if skipped is not None:
        return _of_sentence_transformers(checkpoint, positions, skipped)
    if metadata := checkpoint.settings(_METADATA):
        return _of_colbert(checkpoint, metadata, positions)
    is_of_pylate = stated.get("model_type") == "ColBERT" or not PYLATE.isdisjoint(stated)
    return _of_pylate(checkpoint, stated, positions) if is_of_pylate else None


def refuse_other_rules(checkpoint: Checkpoint, overrides: Overrides, *, markers: bool) -> None:
    """Refuse prompts and lengths beside the rules of a model, by which its queries and documents are written.

    Args:
        checkpoint: states the rules.
        overrides: what the operator states.
        markers: whether the prompts of queries and documents are their markers.

    Raises:
        UnsupportedError: there are some.
    """
    asked = {"--prompts": overrides.prompts, "--default-prompt": overrides.default_prompt}
    for option, value in {**asked, "--max-length": overrides.max_length}.items():
        if value is not None:
            msg = f"{option} is not built for a model that states how its queries and documents are written"
            raise UnsupportedError(f"{msg}: leave it out, or export a copy of the folder that states it otherwise")
    stated = checkpoint.settings(_PYLATE)
    prompts, default = stated.inner("prompts"), stated.of("default_prompt_name", str, "")
    others = [name for name in prompts if prompts[name] and not (markers and name in ("query", "document"))]
    if others:
        msg = f"{stated.place} states the prompt {others[0]!r}, which is not built for late interaction"
        raise UnsupportedError(f"{msg}: export a copy of the folder without it, if it is not meant for that")
    if default != "document" and prompts.get(default):
        msg = f"{stated.place} states default_prompt_name = {default!r}, but texts of which nothing is said are served"
        raise UnsupportedError(f"{msg} as documents: export a copy of the folder without it")


def is_colbert(checkpoint: Checkpoint) -> bool:
    """Whether ColBERT's own library saved it."""
    return bool(checkpoint.settings(_METADATA))


def _of_colbert(checkpoint: Checkpoint, stated: Settings, positions: int) -> Interaction:
    stated.refuse_unknown(COLBERT)
    for key, built in _COMPARED_BY.items():
        stated.refuse_others(key, built)
    punctuation = string.punctuation if stated.of("mask_punctuation", bool, default=True) else ""
    return Interaction(
        query_marker=checkpoint.token_id(stated.of("query_token_id", str, "[unused0]")),
        document_marker=checkpoint.token_id(stated.of("doc_token_id", str, "[unused1]")),
        query_length=_length(stated, "query_maxlen", 32, positions),
        document_length=_length(stated, "doc_maxlen", 220, positions),
        augmentation=checkpoint.mask_id(),
        attends_to_augmentation=stated.of("attend_to_mask_tokens", bool, default=False),
        skip_list=tuple(sorted({ids[0] for ids in map(checkpoint.token_ids, punctuation) if ids})),
    )


def _of_pylate(checkpoint: Checkpoint, stated: Settings, positions: int) -> Interaction:
    """PyLate's rules, with its own defaults for what is missing or null."""
    expands = stated.of("do_query_expansion", bool, default=True)
    listed = list(string.punctuation) if stated.get("skiplist_words") is None else stated.texts("skiplist_words")
    return Interaction(
        query_marker=_prefix(checkpoint, stated, "query_prefix", "[Q] "),
        document_marker=_prefix(checkpoint, stated, "document_prefix", "[D] "),
        query_length=_length(stated, "query_length", 32, positions),
        document_length=_length(stated, "document_length", 180, positions),
        augmentation=_expansion(checkpoint) if expands else None,
        attends_to_augmentation=stated.of("attend_to_expansion_tokens", bool, default=False),
        skip_list=_skipped(checkpoint, listed),
    )


def _expansion(checkpoint: Checkpoint) -> int:
    """What queries are filled up with: the mask token, else the one that ends texts, else the one that pads."""
    special = checkpoint.served_tokenizer.special
    stated = (special[name] for name in ("mask_token", "eos_token", "pad_token") if name in special)
    return checkpoint.token_id(next(stated, "[MASK]"))


def _skipped(checkpoint: Checkpoint, words: Iterable[str]) -> tuple[int, ...]:
    """Ids of the words, which for those outside the vocabulary is that of the unknown token."""
    unknown = checkpoint.served_tokenizer.special.get("unk_token", "")
    tokens = {word if checkpoint.has_token(word) else unknown for word in words}
    return tuple(sorted(map(checkpoint.token_id, filter(checkpoint.has_token, tokens))))


def _prefix(checkpoint: Checkpoint, stated: Settings, key: str, default: str) -> int | None:
    """The token that is put after the first one; None for none, which an empty text says."""
    prefix = stated.of(key, str, default)
    return checkpoint.token_id(prefix) if prefix else None


def _of_sentence_transformers(checkpoint: Checkpoint, positions: int, skipped: list[str]) -> Interaction:
    stated, prompts = checkpoint.transformer_settings, checkpoint.settings(_PYLATE).inner("prompts")
    expansion = stated.inner("query_expansion")
    most = min(positions, checkpoint.served_tokenizer.max_length or positions)
    expansion.refuse_unknown(QUERY_EXPANSION)
    if expansion and expansion["strategy"] != "fixed":
        msg = f"{expansion.place} states strategy = {expansion['strategy']!r}, which is not built (known: 'fixed')"
        raise UnsupportedError(msg)
    of_queries = (expansion, "length") if expansion else (stated, "query_length")
    token, words = expansion.of("token", str, ""), filter(checkpoint.has_token, skipped)
    return Interaction(
        query_marker=_marker(checkpoint, prompts, "query"),
        document_marker=_marker(checkpoint, prompts, "document"),
        query_length=_length(*of_queries, most, most),
        document_length=_length(stated, "document_length", most, most),
        augmentation=None if not expansion else checkpoint.token_id(token) if token else checkpoint.mask_id(),
        attends_to_augmentation=expansion.of("attend", bool, default=False),
        skip_list=tuple(sorted(map(checkpoint.token_id, words))),
    )


def _marker(checkpoint: Checkpoint, prompts: Settings, side: str) -> int | None:
    """The one token that the prompt of a side is; None for none."""
    prompt = prompts.of(side, str, "")
    ids = checkpoint.token_ids(prompt)
    if len(ids) > 1:
        msg = f"{prompts.place} states {side} = {prompt!r}: late interaction with several tokens as prompt is not built"
        raise UnsupportedError(msg)
    return ids[0] if ids else None


def _length(stated: Settings, key: str, default: int, positions: int) -> int:
    """Most tokens of a text, which are at least a first one, a marker and a last one."""
    length = stated.of(key, int, default)
    if length < 3:
        raise stated.wrong(key, "a number of tokens, at least 3,")
    return min(positions, length)
