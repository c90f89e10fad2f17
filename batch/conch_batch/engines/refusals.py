"""Answers items with a model that answers all of a call or none: those that it refuses are found and left out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from conch_client import InvalidInputError

from conch_batch.engines.engine import Answers, no_answers
from conch_batch.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import pyarrow as pa

    from conch_batch.engines.engine import Item


def answered(
    schema: pa.Schema,
    items: Sequence[Item],
    compute: Callable[[Sequence[Item]], Answers],
    refusal: Callable[[Item], str | None],
) -> Answers:
    """The answers to the items that can be answered.

    Args:
        schema: columns of the answers.
        items: different items.
        compute: answers all items, or raises InvalidInputError, whose `indices` has at least one that it cannot answer.
        refusal: the reason why an item cannot be answered, as far as it is known without computing it.

    Raises:
        EngineError: no item can be answered.
    """
    refused: dict[Item, str] = {}
    kept = list(items)
    while kept:
        try:
            return compute(kept)._replace(refused=refused)
        except InvalidInputError as error:  # which may name only one of several
            found = {item: reason for item in kept if (reason := refusal(item)) is not None}
            found = found or {kept[index]: "the model answers NaN to it" for index in error.indices}
            if not found:
                raise EngineError(str(error)) from error
            refused |= found
        kept = [item for item in kept if item not in refused]
    return no_answers(schema, refused)
