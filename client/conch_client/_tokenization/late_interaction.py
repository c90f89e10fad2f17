"""Token rows of queries and documents for late interaction, by the rules of `conch_contract.Interaction`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from conch_client._errors import Item
from conch_client._tokenization.rows import Rows, TokenIds

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from conch_contract import Interaction, Truncate

    from conch_client._tokenization.steps import Steps
    from conch_client._tokenization.tokenizer import TextTokenizer


def encode_marked(
    tokenizer: TextTokenizer,
    rules: Interaction,
    texts: Sequence[str],
    *,
    query: bool,
    truncate: Truncate,
    prompt: str = "",
    item: Callable[[int], Item] = Item.text,
) -> Steps[TokenIds]:
    """Token ids of queries or of documents; arguments and errors are those of ``TextTokenizer.encode``."""
    room = rules.room(query=query)
    found = yield from tokenizer.encode(texts, max_length=room, truncate=truncate, prompt=prompt, item=item)
    return TokenIds((rules.row(row, query=query) for row in found.tolist()), found.truncated)


def marked_rows(rules: Interaction, ids: Sequence[Sequence[int]], truncated: Sequence[int] = ()) -> Rows:
    """Rows that know which of their tokens no other attends to; ``truncated`` as of ``Rows``."""
    masked = np.array(list(map(rules.masked, ids))) if rules.masks_augmentation else None
    return Rows.of(ids, masked=masked, truncated=truncated)
