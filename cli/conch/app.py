"""The `conch` command: a table of its subcommands, which import their packages only when they are called."""

from __future__ import annotations

import os
import traceback
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from conch.bench import bench
from conch.console import fail
from conch.corpus.embed import embed
from conch.corpus.rerank import rerank
from conch.keys import keys
from conch.migrate.command import migrate
from conch.planning.command import plan
from conch.repository.bundle import bundle, unbundle
from conch.repository.export import export
from conch.repository.models import models
from conch.repository.preload import preload
from conch.repository.verify import verify
from conch.repository.web import web
from conch.serve import serve

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

COMMANDS: Mapping[str, tuple[Callable[..., None] | typer.Typer, ...]] = {
    "Serve": (serve, keys, bench),
    "Models": (models, plan, export, verify, migrate),
    "Corpora": (embed, rerank),
    "Other machines": (preload, bundle, unbundle, web),
}
"""The subcommands, by what they are for."""

EXIT_STATUS = (
    "Exit status: 0 if it worked; 1 if it was refused, failed, or a check does not hold, with one line that says why "
    "and what to do; 2 if the command line is wrong; 130 after Ctrl-C."
)

EXTRAS = {"conch_batch": "batch", "conch_export": "export", "conch_gateway": "gateway", "conch_server": "server"}
"""The extra that brings what a package needs."""


class _Commands(TyperGroup):
    """The subcommands; one whose packages are not installed ends with the extra that brings them."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except ModuleNotFoundError as error:
            extra = _extra(error)
            if extra is None:
                raise
            fail(f"{error}; install what `conch {ctx.invoked_subcommand}` needs: pip install 'conch[{extra}]'")


def _extra(error: ModuleNotFoundError) -> str | None:
    """Return the extra of the first of our packages that was being imported, or was missing itself."""
    modules = [frame.f_globals.get("__name__") for frame, _ in traceback.walk_tb(error.__traceback__)]
    packages = (str(name).partition(".")[0] for name in (*modules, error.name))
    return next((EXTRAS[package] for package in packages if package in EXTRAS), None)


app = typer.Typer(
    name="conch",
    cls=_Commands,
    epilog=EXIT_STATUS,
    # Rich would take what help says in brackets, as in [default: its own], for styles.
    rich_markup_mode="markdown",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for purpose, commands in COMMANDS.items():
    for command in commands:
        if isinstance(command, typer.Typer):
            app.add_typer(command, rich_help_panel=purpose)
        else:
            app.command(rich_help_panel=purpose)(command)


@app.callback(invoke_without_command=True)
def conch(version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False) -> None:
    """Embeddings and rerankers served from Triton."""
    if version:
        import importlib.metadata  # noqa: PLC0415

        typer.echo(importlib.metadata.version("conch"))
        raise typer.Exit


def main() -> None:
    """Run the command line."""
    # onnxruntime reports usage unless told otherwise before it is imported.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    # gRPC's handlers of fork() do nothing for a process that only forks to run a program, but write to the log.
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")
    app()
