"""Readers of what others wrote raise errors of their own and nothing else; `make fuzz` tries a million inputs."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from tests.fuzz.__main__ import fuzz
from tests.fuzz.mutation import changed_bytes, changed_value
from tests.fuzz.targets import Targets

INPUTS = 150


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # protobuf's text parser warns of bad escapes
@pytest.mark.parametrize("name", Targets(Path()).makers)
def test_a_reader_raises_its_own_errors_only(name: str, tmp_path: Path) -> None:
    target, random = Targets(tmp_path).make(name), Random(1)  # noqa: S311 - the same inputs every time
    for _ in range(INPUTS):
        seed = random.choice(target.seeds)
        data = (changed_value(seed, random) if random.random() < 0.5 else b"") or changed_bytes(seed, random)
        try:
            target.read(data)
        except target.expected:
            continue
        except BaseException as error:  # what compiled code raises when it panics is no Exception
            error.add_note(f"input: {data[:2_000]!r}") if hasattr(error, "add_note") else None
            raise


def test_the_fuzzer_itself_runs() -> None:
    assert fuzz("models file", 200) >= 200
