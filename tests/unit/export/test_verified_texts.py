"""Which texts a model is verified with: what is computed stays short, and what is longer is still tokenised."""

from __future__ import annotations

from typing import TYPE_CHECKING

from conch_export.model.description import CrossEncoder
from conch_export.model.public_models import sides
from conch_export.verification.samples import LONGEST_CHARACTERS, LONGEST_TOKENS, verification_sample

from tests.unit.export.conftest import config, without

if TYPE_CHECKING:
    from collections.abc import Callable

    from conch_export import Description
    from conch_export.verification.samples import Item


def sizes(items: list[Item]) -> list[tuple[int, int]]:
    """Characters of the query and of the document, by pair."""
    return [(len(item.query), len(item.text)) for item in items]


def test_pairs_of_a_reranker_with_a_long_window_are_computed_as_short_as_others(
    read: Callable[..., Description],
) -> None:
    computed: dict[int, list[tuple[int, int]]] = {}
    tokenised: dict[int, list[tuple[int, int]]] = {}
    for positions in (512, 8192):
        label = config(architectures=["BertForSequenceClassification"], num_labels=1, max_position_embeddings=positions)
        description = read(without("modules.json"), label)
        assert isinstance(description, CrossEncoder)
        assert description.max_length == positions
        sample, (model,) = verification_sample(description, []), sides(description)
        computed[positions] = sizes(sample.items(description, model))
        tokenised[positions] = sizes(sample.long_items(description, model))
        assert not sample.longest_item(description, model, lambda _: 1)
    assert max(map(sum, computed[8192])) <= max(map(sum, computed[512]))
    for positions, pairs in ((512, computed[512]), (8192, tokenised[8192])):
        assert any(min(pair) > 2 * positions for pair in pairs), "both texts of a pair are cut"
    assert not tokenised[512]


def test_no_text_that_an_embedding_model_with_a_long_window_computes_takes_much_memory(
    read: Callable[..., Description],
) -> None:
    description = read(config(max_position_embeddings=8192))
    sample, (model,) = verification_sample(description, []), sides(description)
    assert max(len(item.text) for item in sample.items(description, model)) == LONGEST_CHARACTERS

    def tokens_of(item: Item) -> int:
        return min(description.max_length, 2 + len(item.text.split()))

    [longest] = sample.longest_item(description, model, tokens_of)
    assert LONGEST_TOKENS - 8 < tokens_of(longest) <= LONGEST_TOKENS
    assert min(len(item.text) for item in sample.long_items(description, model)) > 3 * description.max_length


def test_a_text_fills_the_window_of_an_embedding_model_that_reads_no_more_than_is_computed(
    read: Callable[..., Description],
) -> None:
    for positions, count in ((512, 0), (768, 1)):
        description = read(config(max_position_embeddings=positions))
        sample, (model,) = verification_sample(description, []), sides(description)
        longest = sample.longest_item(description, model, lambda _, filled=positions: filled)  # type: ignore[misc]
        assert [item.text for item in longest] == [sample.long[0]] * count
