"""How many tokens of a text are read: what a checkpoint, the operator and the architecture say of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from conch_export import Description, UnsupportedError

from tests.unit.export.conftest import config, put, tokenizer_settings

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        pytest.param({}, 128, id="as many as there are positions"),
        pytest.param({"sentence_bert_config.json": {"max_seq_length": 64}}, 64, id="sentence-transformers'"),
        pytest.param({"tokenizer_config.json": {"model_max_length": 100}}, 100, id="the tokenizer's"),
        pytest.param({"tokenizer_config.json": {"model_max_length": 10**30}}, 128, id="no limit of the tokenizer's"),
        pytest.param(
            {"sentence_bert_config.json": {"max_seq_length": 64}, "tokenizer_config.json": {"model_max_length": 100}},
            64,
            id="sentence-transformers' before the tokenizer's",
        ),
        pytest.param(
            {"sentence_bert_config.json": {"max_seq_length": None}, "tokenizer_config.json": {"model_max_length": 9}},
            9,
            id="sentence-transformers' left open",
        ),
    ],
)
def test_texts_are_truncated_where_the_authors_do(
    read: Callable[..., Description], files: dict[str, Any], expected: int
) -> None:
    settings = tokenizer_settings(**files.pop("tokenizer_config.json", {}))
    assert read(put(*settings), *(put(name, content) for name, content in files.items())).max_length == expected


DEBERTA = {"model_type": "deberta-v2", "relative_attention": True, "pos_att_type": ["c2p", "p2c"]}
ROWS_WITHOUT_END = {
    "relative positions": DEBERTA | {"position_biased_input": False},
    "rotary positions": {"model_type": "qwen3", "type_vocab_size": None},
    "rotary positions of an encoder": {"model_type": "modernbert", "type_vocab_size": None},
}


@pytest.mark.parametrize("stated", ROWS_WITHOUT_END.values(), ids=ROWS_WITHOUT_END)
def test_longer_texts_than_are_built_are_refused_where_their_library_computes_them(
    read: Callable[..., Description], stated: dict[str, Any]
) -> None:
    longer = [config(**stated), put("sentence_bert_config.json", {"max_seq_length": 256})]
    with pytest.raises(UnsupportedError, match=r"at 256 tokens .*, of which 128 are built.* state --max-length, 128"):
        read(*longer)
    assert read(*longer, max_length=128).max_length == 128
    of_the_tokenizer = put(*tokenizer_settings(model_max_length=256))  # which the library cuts to the positions
    assert read(config(**stated), of_the_tokenizer, put("sentence_bert_config.json", {})).max_length == 128


@pytest.mark.parametrize("stated", [{}, DEBERTA | {"position_biased_input": True}], ids=["bert", "deberta"])
def test_texts_are_cut_where_a_table_of_positions_ends(
    read: Callable[..., Description], stated: dict[str, Any]
) -> None:
    assert read(config(**stated), put("sentence_bert_config.json", {"max_seq_length": 256})).max_length == 128


def test_positions_that_a_family_does_not_use_are_not_counted(read: Callable[..., Description]) -> None:
    roberta = config(model_type="xlm-roberta", max_position_embeddings=130, pad_token_id=1)
    assert read(roberta).max_length == 128


@pytest.mark.parametrize("asked", [-1, 0, 2, 129, 10**9])
def test_a_max_length_without_positions_is_refused(read: Callable[..., Description], asked: int) -> None:
    with pytest.raises(UnsupportedError, match=rf"--max-length {asked} is outside 3 to 128"):
        read(max_length=asked)


@pytest.mark.parametrize("asked", [3, 50, 128])
def test_a_max_length_with_positions_is_taken(read: Callable[..., Description], asked: int) -> None:
    assert read(put("sentence_bert_config.json", {"max_seq_length": 64}), max_length=asked).max_length == asked
