"""The client cuts pairs as transformers does."""

from __future__ import annotations

from conch_client._tokenization.tokenizer import TextTokenizer
from conch_client._transport.deadline import Deadline
from conch_client.testing import fake_tokenizer_json
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from tests.steps import finish

reference = Tokenizer.from_str(fake_tokenizer_json().decode())
tokenizer = TextTokenizer(fake_tokenizer_json())


@given(
    st.text("abcdefgh", max_size=60),
    st.lists(st.text("abcdefgh", max_size=60), min_size=1, max_size=5),
    st.integers(3, 64),
    st.sampled_from(["left", "right"]),
)
def test_pairs_are_cut_as_transformers_cuts_them(query: str, documents: list[str], limit: int, side: str) -> None:
    authors = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=Tokenizer.from_str(reference.to_str()), truncation_side=side, pad_token="[PAD]"
    )
    expected = authors([query] * len(documents), documents, truncation="longest_first", max_length=limit)
    truncate = "start" if side == "left" else "end"
    steps = tokenizer.encode_pairs(query, documents, max_length=limit, truncate=truncate)  # type: ignore[arg-type]
    rows = finish(steps, Deadline(60))
    assert rows.segments is not None
    assert rows.tolist() == expected["input_ids"]
    assert rows.segments.tolist() == [number for types in expected["token_type_ids"] for number in types]
