"""The `conch` command: a table of its subcommands, which import their packages only when they are called."""

from __future__ import annotations

import importlib.metadata
import os
from typing import Annotated

import typer

from conch.bench import bench
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

app = typer.Typer(name="conch", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
for command in (models, plan, export, verify, preload, bundle, unbundle, web, serve, embed, rerank, bench):
    app.command()(command)
app.add_typer(migrate, name="migrate")
app.add_typer(keys, name="keys")


@app.callback(invoke_without_command=True)
def conch(version: Annotated[bool, typer.Option("--version", help="Print the version and leave.")] = False) -> None:
    """Embeddings and rerankers served from Triton."""
    if version:
        typer.echo(importlib.metadata.version("conch"))
        raise typer.Exit


def main() -> None:
    """Run the command line."""
    # onnxruntime reports usage unless told otherwise before it is imported.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    # gRPC's handlers of fork() do nothing for a process that only forks to run a program, but write to the log.
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")
    app()
