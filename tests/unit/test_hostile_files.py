"""Readers of what others wrote raise errors of their own and nothing else; `make fuzz` tries a million inputs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.__main__ import fuzz
from tests.fuzz.targets import Targets

INPUTS = 500


@pytest.mark.parametrize("name", Targets(Path()).makers)
def test_a_reader_raises_its_own_errors_only(name: str) -> None:
    assert fuzz(name, INPUTS) >= INPUTS
