"""How far a long command is: a bar on a terminal, lines elsewhere."""

from __future__ import annotations

import io
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from conch.console import steps, transfers
from rich.console import Console

if TYPE_CHECKING:
    from collections.abc import Callable

    Show = Callable[[bool], io.StringIO]


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Show:
    def show(terminal: bool) -> io.StringIO:
        written = io.StringIO()
        monkeypatch.setattr("conch.console.stderr", Console(file=written, force_terminal=terminal, width=100))
        return written

    return show


def test_without_a_terminal_transfers_print_nothing(shown: Show) -> None:
    written = shown(False)
    with transfers() as told:
        told("model.onnx", 1, 2)
    assert written.getvalue() == ""


def test_without_a_terminal_each_step_is_a_line_and_a_long_one_says_how_much_is_left(
    shown: Show, monkeypatch: pytest.MonkeyPatch
) -> None:
    written, now = shown(False), 0.0
    monkeypatch.setattr("conch.console.time", SimpleNamespace(monotonic=lambda: now))
    with steps() as told:
        told("finding the checkpoint")
        for done in range(5):
            told("calibrating", done, 4)
            now += 6
        told("publishing")
    assert written.getvalue().splitlines() == [
        "calibrating …",
        "calibrating … 50%, about 12 s left",
        "calibrating … 100%, about 0 s left",
        "publishing …",
    ]


def test_on_a_terminal_there_is_a_bar_which_is_gone_in_the_end(shown: Show) -> None:
    written = shown(True)
    with steps() as told:
        told("calibrating", 1, 4)
    assert "calibrating" in written.getvalue()
    assert "25%" in written.getvalue()


def test_names_that_look_like_markup_are_shown_as_they_are(shown: Show) -> None:
    written = shown(True)
    with steps() as told:
        told("calibrating [/a]", 1, 4)
    with transfers() as told:
        told("[/b].onnx", 1, 2)
    assert "calibrating [/a]" in written.getvalue()
    assert "[/b].onnx" in written.getvalue()
