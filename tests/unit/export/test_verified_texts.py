"""Which texts a model is verified with: what is computed stays short, and what is longer is still tokenised."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from conch_export.model.description import CrossEncoder
from conch_export.model.public_models import sides
from conch_export.verification.samples import LONGEST_CHARACTERS, LONGEST_TOKENS, verification_sample

from tests.unit.export.conftest import config, without

if TYPE_CHECKING:
    from collections.abc import Callable

    from conch_export import Description
    from conch_export.verification.samples import Item


def words(item: Item, most: int = 8192) -> int:
    """Tokens of an item, each word being one, as a tokenizer that cuts leaves them."""
    return min(most, len(f"{item.query} {item.text}".split()))


def sizes(items: list[Item]) -> list[tuple[int, int]]:
    """Characters of the query and of the document, by pair."""
    return [(len(item.query), len(item.text)) for item in items]


def test_one_pair_of_each_query_is_long_for_a_reranker_with_a_long_window_and_others_are_as_short_as_any(
    read: Callable[..., Description],
) -> None:
    computed: dict[int, list[Item]] = {}
    tokenised: dict[int, list[Item]] = {}
    for positions in (512, 8192):
        label = config(architectures=["BertForSequenceClassification"], num_labels=1, max_position_embeddings=positions)
        description = read(without("modules.json"), label)
        assert isinstance(description, CrossEncoder)
        assert description.max_length == positions
        sample, (model,) = verification_sample(description, []), sides(description)
        computed[positions] = sample.items(description, model, partial(words, most=positions))
        tokenised[positions] = sample.long_items(description, model)
    short = [item for item in computed[8192] if words(item) <= 512]
    long = [item for item in computed[8192] if words(item) > 512]
    assert max(map(sum, sizes(short))) <= max(map(sum, sizes(computed[512])))
    assert len({item.query for item in long}) == len(long) == len({item.query for item in computed[8192]})
    assert all(0.9 * LONGEST_TOKENS < words(item) <= LONGEST_TOKENS for item in long)
    for positions, pairs in ((512, computed[512]), (8192, tokenised[8192])):
        assert any(min(pair) > 2 * positions for pair in sizes(pairs)), "both texts of a pair are cut"
    assert not tokenised[512]


def test_the_longest_pair_of_a_reranker_that_answers_in_words_is_not_near_its_limit(
    read: Callable[..., Description],
) -> None:
    stated = {"score_tokens": ("yes", "no"), "pair_template": "{query} {document}"}
    for positions, is_long in ((128, False), (1024, False), (2048, True), (8192, True)):
        description = read(config(max_position_embeddings=positions), **stated)
        sample, (model,) = verification_sample(description, []), sides(description)
        items = sample.items(description, model, words)
        longest = max(map(words, items))
        assert (0.9 * LONGEST_TOKENS < longest <= LONGEST_TOKENS) if is_long else longest < 128
        assert not sample.long_items(description, model)


def test_no_text_that_an_embedding_model_with_a_long_window_computes_takes_much_memory(
    read: Callable[..., Description],
) -> None:
    description = read(config(max_position_embeddings=8192))
    sample, (model,) = verification_sample(description, []), sides(description)
    *short, longest = sorted(sample.items(description, model, words), key=words)
    assert max(len(item.text) for item in short) == LONGEST_CHARACTERS
    assert 0.9 * LONGEST_TOKENS < words(longest) <= LONGEST_TOKENS
    assert min(len(item.text) for item in sample.long_items(description, model)) > 3 * description.max_length


def test_a_text_fills_the_window_of_an_embedding_model_that_reads_no_more_than_is_computed(
    read: Callable[..., Description],
) -> None:
    for positions, count in ((512, 2), (768, 1)):
        description = read(config(max_position_embeddings=positions))
        sample, (model,) = verification_sample(description, []), sides(description)
        items = sample.items(description, model, partial(words, most=positions))
        assert [item.text for item in items if item.text in sample.long] == list(sample.long[:count])
