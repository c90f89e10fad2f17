"""Texts that are much longer than a model takes need little memory, however they are cut."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from conch_client._tokenization.tokenizer import TextTokenizer
from conch_client._transport.deadline import Deadline
from conch_client.testing import fake_tokenizer_json

from tests.steps import finish

if TYPE_CHECKING:
    from collections.abc import Callable

    from conch_contract import Truncate

A_FEW_BYTES = 2**25
tokenizer = TextTokenizer(fake_tokenizer_json())


def resident_at_most() -> int:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def bytes_taken_by(work: Callable[[], object]) -> int:
    ctypes.CDLL(None).malloc_trim(0)  # what is free counts as taken when it is taken again
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the maximum begins anew
    before = resident_at_most()
    work()
    return resident_at_most() - before


@pytest.mark.parametrize("truncate", ["end", "start"])
def test_a_pair_of_which_both_texts_are_cut_takes_little_memory(truncate: Truncate) -> None:
    def encode() -> None:
        steps = tokenizer.encode_pairs("a" * 2_000, ["b" * 12_000], max_length=63, truncate=truncate)
        a, b = map(tokenizer._tokenizer.token_to_id, "ab")
        assert finish(steps, Deadline(60)).tolist() == [[1, *[a] * 30, 2, *[b] * 30, 2]]

    assert bytes_taken_by(encode) < A_FEW_BYTES
