"""Output of commands: errors in one line, tables of facts, progress."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

stdout = Console()
stderr = Console(stderr=True)


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
    table = Table(title=title, title_justify="left", show_header=False)
    for name, value in rows:
        table.add_row(Text(name), value if isinstance(value, Text) else Text(value))
    return table


@contextmanager
def steps(first: str = "starting") -> Iterator[Callable[[str], None]]:
    """A spinner, gone in the end; yields a function that shows the step that has begun."""
    with stderr.status(f"{first} …") as status:
        yield lambda step: status.update(f"{step} …")


@contextmanager
def transfers() -> Iterator[Callable[[str, int, int], None]]:
    """Progress bars, gone in the end; yields a function of a file's name, its bytes so far and its bytes in all."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    bars: dict[str, TaskID] = {}
    with Progress(*columns, console=stderr, transient=True) as progress:

        def show(name: str, done: int, total: int) -> None:
            if name not in bars:
                bars[name] = progress.add_task(name)
            progress.update(bars[name], completed=done, total=total)

        yield show
