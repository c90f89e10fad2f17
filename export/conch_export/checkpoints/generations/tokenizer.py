"""tokenizer_config.json as transformers 4 reads it. Hides what version 5 changed in its form.

Since version 5 tokenizer.json says all that a tokenizer does (`backend` says that there is one), whatever class
tokenizer_config.json names; version 4's class of that name would change it. Special tokens without a name of their own
are `extra_special_tokens`, a list, where version 4 has an object of named ones under that key; version 5 calls that
`model_specific_special_tokens`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

GENERIC = "PreTrainedTokenizerFast"
_RENAMED = "TokenizersBackend"
_WITH_TYPES = ("BertTokenizer", "DebertaTokenizer", "DebertaV2Tokenizer", "FNetTokenizer")
"""Version 5's classes of tokenizers that tell the texts of a pair apart; version 4's generic one always does."""


def tokenizer_changes(stated: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of tokenizer_config.json that have another value in version 4; empty for a file of that version."""
    changes: dict[str, Any] = {}
    name = stated.get("tokenizer_class")
    if stated.get("backend") == "tokenizers" or name == _RENAMED:
        types = ["token_type_ids"] if name in _WITH_TYPES else []
        inputs = stated.get("model_input_names") or ["input_ids", *types, "attention_mask"]
        changes |= {"tokenizer_class": GENERIC, "model_input_names": inputs}
    extra, named = stated.get("extra_special_tokens"), stated.get("model_specific_special_tokens") or {}
    if isinstance(extra, list):
        changes |= {"additional_special_tokens": extra, "extra_special_tokens": named}
    elif named:
        changes["extra_special_tokens"] = {**(extra or {}), **named}
    return changes
