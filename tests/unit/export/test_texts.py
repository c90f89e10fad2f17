"""The sentences by which exports are calibrated and verified."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from conch_export.verification.texts import docstrings

if TYPE_CHECKING:
    import pytest


def test_sentences_are_the_same_whatever_libraries_have_changed_in_this_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = docstrings.__wrapped__()
    monkeypatch.setattr(textwrap.dedent, "__doc__", "as PyTorch does with others")
    assert docstrings.__wrapped__() == before
    assert len(before) > 1000
