"""`conch bundle` and `conch unbundle`: checkpoints and their models in one file, for places without a network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from conch.console import facts, refused, stderr, transfers
from conch.options import DEFAULT_REPOSITORY, Models, Repository, Revision, UpdateLock

if TYPE_CHECKING:
    from conch_export import Bundle
    from rich.table import Table


def bundle(
    models: Models,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The file to write.")],
    repository: Repository = DEFAULT_REPOSITORY,
    revision: Revision = None,
) -> None:
    """Write checkpoints, and the models exported from them, into one verified file."""
    from conch_export import make_bundle  # noqa: PLC0415
    from conch_export.bundles.bundle import digest  # noqa: PLC0415

    with refused(), transfers() as progress:
        made = make_bundle(models, repository, output, revision=revision, progress=progress)
    with refused():
        sha256 = digest(output)
    stderr.print(_contents(made, f"{output} ({made.size / 1e6:.0f} MB)"))
    stderr.print(f"SHA-256 {sha256}", soft_wrap=True)


def unbundle(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="A file written by `conch bundle`.")],
    repository: Repository = DEFAULT_REPOSITORY,
    sha256: Annotated[
        str | None, typer.Option(help="SHA-256 that `conch bundle` printed; any other file is refused.")
    ] = None,
    update_lock: UpdateLock = False,
) -> None:
    """Verify a bundle, publish its models in the repository, and keep its checkpoints for exports; all or nothing."""
    from conch_export import open_bundle  # noqa: PLC0415

    with refused(), transfers() as progress:
        opened = open_bundle(path, repository, sha256=sha256, update_lock=update_lock, progress=progress)
    stderr.print(_contents(opened, f"{path} → {repository}"))


def _contents(what: Bundle, title: str) -> Table:
    checkpoints = [
        (f"checkpoint {key}", f"{locked.origin} {locked.revision}") for key, locked in what.lock.sources.items()
    ]
    return facts(title, [*checkpoints, *(("model", name) for name in what.model_names)])
