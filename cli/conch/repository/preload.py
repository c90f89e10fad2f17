"""`conch preload`: fetch, verify and lock checkpoints, for an image or a machine that will export later."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from conch.console import refused, stderr, transfers
from conch.options import DEFAULT_REPOSITORY, Models, Repository, Revision, UpdateLock

if TYPE_CHECKING:
    from conch_export import Source


def preload(
    models: Models,
    repository: Repository = DEFAULT_REPOSITORY,
    revision: Revision = None,
    update_lock: UpdateLock = False,
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

    with refused(), transfers() as progress:
        sources = fetch(
            models,
            repository,
            revision=revision,
            update_lock=update_lock,
            trust_remote_code=trust_remote_code,
            progress=progress,
        )
    stderr.print(_checkpoints(sources))


def _checkpoints(sources: list[Source]) -> Table:
    table = Table(title="checkpoints", title_justify="left")
    for heading in ("from", "revision", "files", "MB", "SHA-256 of the weights"):
        table.add_column(heading, overflow="fold")
    for source in sources:
        megabytes = sum(file.size for file in source.files.values()) / 1e6
        table.add_row(source.origin, source.revision, str(len(source.files)), f"{megabytes:.1f}", source.weights_sha256)
    return table
