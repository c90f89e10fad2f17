"""Output of commands: errors in one line, tables of facts, progress."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

# Paths and names of models are printed as they are: brackets in them may look like markup, and colons like emoji.
stdout = Console(markup=False, emoji=False)
stderr = Console(stderr=True, markup=False, emoji=False)
LINE_EVERY_S = 10.0


def fail(message: str) -> NoReturn:
    """Print an error as one line and end with status 1."""
    stderr.print(Text.assemble(("error: ", "red"), message), soft_wrap=True)
    raise typer.Exit(1)


@contextmanager
def refused() -> Iterator[None]:
    """End with status 1 on an ExportError."""
    from conch_export import ExportError  # noqa: PLC0415

    try:
        yield
    except ExportError as error:
        fail(str(error))


def facts(title: str, rows: Iterable[tuple[str, str | Text]]) -> Table:
    """Return a table of names and values."""
    table = Table(title=Text(title), title_justify="left", show_header=False)
    for name, value in rows:
        table.add_row(Text(name), value if isinstance(value, Text) else Text(value))
    return table


@contextmanager
def steps(first: str = "starting") -> Iterator[_Bar | _Lines]:
    """Show the progress of a long task; yields a function that receives it (see `conch_export.progress.Progress`).

    Args:
        first: name of the first step.
    """
    if not stderr.is_terminal:
        yield _Lines()
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn())
    with Progress(*columns, TimeRemainingColumn(), console=stderr, transient=True) as bars:
        shown = _Bar(bars)
        shown(first)
        yield shown


class _Bar:
    """A bar that restarts with each step."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._what, self._task = "", TaskID(0)

    def __call__(self, what: str, done: int = 0, total: int = 0, /) -> None:
        if what != self._what:
            for task in self._bars.task_ids:
                self._bars.remove_task(task)
            self._what, self._task = what, self._bars.add_task(what, total=None)
        self._bars.update(self._task, completed=done, total=total or None)


class _Lines:
    """Prints a line for each step but the first, which is usually short, and one every few seconds during a step."""

    def __init__(self) -> None:
        self._what, self._began, self._said = "", 0.0, 0.0

    def __call__(self, what: str, done: int = 0, total: int = 0, /) -> None:
        now = time.monotonic()
        if what != self._what:
            if self._what:
                stderr.print(f"{what} …", highlight=False)
            self._what, self._began, self._said = what, now, now
        elif done and total and now - self._said >= LINE_EVERY_S:
            self._said, left = now, (now - self._began) * (total - done) / done
            stderr.print(f"{what} … {done / total:.0%}, about {left:.0f} s left", highlight=False)


@contextmanager
def transfers() -> Iterator[Callable[..., None]]:
    """Show progress bars of files; yields a function that receives a name, its bytes so far, and its total bytes."""
    if not stderr.is_terminal:
        yield lambda *_: None
        return
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    bars: dict[str, TaskID] = {}
    with Progress(*columns, console=stderr, transient=True) as progress:

        def show(name: str, done: int = 0, total: int = 0, /) -> None:
            if name not in bars:
                bars[name] = progress.add_task(name)
            progress.update(bars[name], completed=done, total=total)

        yield show
