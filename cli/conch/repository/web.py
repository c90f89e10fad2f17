"""`conch web`: writes models of the repository as static files for web pages."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from conch.console import facts, refused, stderr, transfers
from conch.options import DEFAULT_REPOSITORY, Repository

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conch_export import Written

_WITHOUT_MODULE = (
    "no conch-web beside them: this installation has not built the JavaScript module that loads them. `make web` in a "
    "checkout builds it, wheels of a release contain it, and pages with a bundler install it with npm"
)


def web(
    models: Annotated[list[str], typer.Argument(metavar="NAME", help="Names of models of the repository.")],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="FOLDER",
            help="The folder, to be served by any web server or by CONCH_WEB_MODELS.",
        ),
    ],
    repository: Repository = DEFAULT_REPOSITORY,
) -> None:
    """Write models as static files, with the JavaScript module that runs them in a web page."""
    from conch_export import has_module, write_web  # noqa: PLC0415

    with refused(), transfers() as progress:
        written = write_web(models, repository, output, progress)
    for each in written:
        stderr.print(facts(f"{each.model.name} → {output / each.model.name}", _told(each)))
    if not has_module():
        stderr.print(_WITHOUT_MODULE, soft_wrap=True, highlight=False)


def _told(written: Written) -> Iterator[tuple[str, str]]:
    infos = [info for info, _ in written.model.heads]
    yield "models", "\n".join(f"{info.name} ({info.task})" for info in infos)
    if written.model.left_out:
        yield "not for browsers", "\n".join(f"{name} ({task})" for name, task in written.model.left_out.items())
    yield "vector space", next((info.space_id for info in infos if info.space_id is not None), "none")
    yield "files", f"{len(written.files)}, {written.size / 1e6:,.1f} MB"
