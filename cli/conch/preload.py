"""`conch preload`: fetch, verify and lock checkpoints, for an image or a machine that will export later."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from conch_export import Source

console = Console(stderr=True)


def preload(
    models: Annotated[list[str], typer.Argument(metavar="MODEL...", help="Known names, Hub ids or folders.")],
    repository: Annotated[
        Path, typer.Option(envvar="CONCH_MODEL_REPOSITORY", help="Model repository whose conch.lock records them.")
    ] = Path("model_repository"),
    revision: Annotated[str | None, typer.Option(help="Commit, branch or tag on the Hub.")] = None,
    update_lock: Annotated[
        bool,
        typer.Option(
            "--update-lock",
            help="Take the checkpoints as they are now and record them, even if they differ from conch.lock.",
        ),
    ] = False,
    trust_remote_code: Annotated[
        bool,
        typer.Option(
            "--trust-remote-code",
            help="Also fetch and record code of checkpoints that need it to be exported; no code is run.",
        ),
    ] = False,
) -> None:
    """Fetch checkpoints into the cache and record them in conch.lock, without exporting them."""
    from conch_export import preload as fetch  # noqa: PLC0415

    with refused(), transfers() as on_bytes:
        sources = fetch(
            models,
            repository,
            revision=revision,
            update_lock=update_lock,
            trust_remote_code=trust_remote_code,
            on_bytes=on_bytes,
        )
    console.print(_checkpoints(sources))


@contextmanager
def refused() -> Iterator[None]:
    """Print an ExportError as one line and end with status 1."""
    from conch_export import ExportError  # noqa: PLC0415

    try:
        yield
    except ExportError as error:
        console.print(Text.assemble(("error: ", "red"), str(error)), soft_wrap=True)
        raise typer.Exit(1) from error


@contextmanager
def transfers() -> Iterator[Callable[[str, int, int], None]]:
    """Progress bars, gone in the end; yields a function of a file's name, its bytes so far and its bytes in all."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    bars: dict[str, TaskID] = {}
    with Progress(*columns, console=console, transient=True) as progress:

        def show(name: str, done: int, total: int) -> None:
            if name not in bars:
                bars[name] = progress.add_task(name)
            progress.update(bars[name], completed=done, total=total)

        yield show


def _checkpoints(sources: list[Source]) -> Table:
    table = Table(title="checkpoints", title_justify="left")
    for heading in ("from", "revision", "files", "MB", "SHA-256 of the weights"):
        table.add_column(heading, overflow="fold")
    for source in sources:
        megabytes = sum(file.size for file in source.files.values()) / 1e6
        table.add_row(source.origin, source.revision, str(len(source.files)), f"{megabytes:.1f}", source.weights_sha256)
    return table
