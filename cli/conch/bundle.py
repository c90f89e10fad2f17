"""`conch bundle` and `conch unbundle`: checkpoints and their models in one file, for places without a network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from conch.preload import console, refused, transfers

if TYPE_CHECKING:
    from conch_export import Bundle

Repository = Annotated[Path, typer.Option(envvar="CONCH_MODEL_REPOSITORY", help="Triton's model repository.")]


def bundle(
    models: Annotated[list[str], typer.Argument(metavar="MODEL...", help="Known names, Hub ids or folders.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write.")],
    repository: Repository = Path("model_repository"),
    revision: Annotated[str | None, typer.Option(help="Commit, branch or tag on the Hub.")] = None,
) -> None:
    """Write checkpoints, and the models exported from them, into one verified file."""
    from conch_export import make_bundle  # noqa: PLC0415
    from conch_export.bundles.bundle import digest  # noqa: PLC0415

    with refused(), transfers() as on_bytes:
        made = make_bundle(models, repository, output, revision=revision, on_bytes=on_bytes)
    with refused():
        sha256 = digest(output)
    console.print(_contents(made, f"{output} ({made.size / 1e6:.0f} MB)"))
    console.print(f"SHA-256 {sha256}", soft_wrap=True)


def unbundle(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="A file written by `conch bundle`.")],
    repository: Repository = Path("model_repository"),
    sha256: Annotated[
        str | None, typer.Option(help="SHA-256 that `conch bundle` printed; any other file is refused.")
    ] = None,
    update_lock: Annotated[
        bool,
        typer.Option(
            "--update-lock", help="Take the checkpoints and record them, even if they differ from conch.lock."
        ),
    ] = False,
) -> None:
    """Verify a bundle, publish its models in the repository, and keep its checkpoints for exports; all or nothing."""
    from conch_export import open_bundle  # noqa: PLC0415

    with refused(), transfers() as on_bytes:
        opened = open_bundle(path, repository, sha256=sha256, update_lock=update_lock, on_bytes=on_bytes)
    console.print(_contents(opened, f"{path} → {repository}"))


def _contents(what: Bundle, title: str) -> Table:
    table = Table(title=title, title_justify="left", show_header=False)
    for key, locked in what.lock.sources.items():
        table.add_row(f"checkpoint {key}", f"{locked.origin} {locked.revision}")
    for name in what.model_names:
        table.add_row("model", name)
    return table
