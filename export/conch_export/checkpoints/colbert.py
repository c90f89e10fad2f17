"""How a checkpoint writes queries and documents for late interaction.

ColBERT's own library, PyLate and sentence-transformers 6 each state it in files of their own.
"""

from __future__ import annotations

import string
from typing import TYPE_CHECKING

from conch_contract import Interaction

from conch_export.checkpoints.known_keys import QUERY_EXPANSION
from conch_export.errors import UnsupportedError

if TYPE_CHECKING:
    from conch_export.checkpoints.checkpoint import Checkpoint
    from conch_export.checkpoints.settings import Settings

_METADATA = "artifact.metadata"
_PYLATE = "config_sentence_transformers.json"


def read_interaction(checkpoint: Checkpoint, positions: int, skipped: list[str] | None) -> Interaction | None:
    """The rules, or None where the checkpoint states none.

    Args:
        checkpoint: of a multi-vector model.
        positions: most tokens that a row may have.
        skipped: the skip list of a MultiVectorEncoder; None where the checkpoint is none.

    Raises:
        UnsupportedError: a marker is no token of its tokenizer, or a rule is not built.
    """
    if skipped is not None:
        return _of_sentence_transformers(checkpoint, positions, skipped)
    metadata, pylate = checkpoint.settings(_METADATA), checkpoint.settings(_PYLATE)
    if metadata:
        return _of_colbert(checkpoint, metadata, positions)
    return _of_pylate(checkpoint, pylate, positions) if "query_length" in pylate else None


def is_colbert(checkpoint: Checkpoint) -> bool:
    """Whether ColBERT's own library saved it."""
    return bool(checkpoint.settings(_METADATA))


def _of_colbert(checkpoint: Checkpoint, stated: Settings, positions: int) -> Interaction:
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
    expands = stated.of("do_query_expansion", bool, default=True)
    words = [word for word in stated.texts("skiplist_words") if checkpoint.has_token(word)]
    return Interaction(
        query_marker=checkpoint.token_id(stated.of("query_prefix", str, "[Q] ") or "[Q] "),
        document_marker=checkpoint.token_id(stated.of("document_prefix", str, "[D] ") or "[D] "),
        query_length=_length(stated, "query_length", positions, positions),
        document_length=_length(stated, "document_length", positions, positions),
        augmentation=checkpoint.mask_id() if expands else None,
        attends_to_augmentation=stated.of("attend_to_expansion_tokens", bool, default=False),
        skip_list=tuple(sorted(map(checkpoint.token_id, words))),
    )


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
