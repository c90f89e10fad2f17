"""`conch verify`: verify a model of the repository again and print its model card."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from conch.console import facts, refused, stdout, steps
from conch.options import DEFAULT_MODEL, DEFAULT_REPOSITORY, Adapter, AsJson, Repository

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conch_export import Inspection, Verification


def verify(
    model: Annotated[str, typer.Argument(metavar="NAME", help="Name of a model of the repository.")] = DEFAULT_MODEL,
    repository: Repository = DEFAULT_REPOSITORY,
    checkpoint: Annotated[
        str | None,
        typer.Option(help="Folder or Hub id that the model was exported from, if conch does not find it by itself."),
    ] = None,
    adapter: Adapter = None,
    trust_remote_code: Annotated[
        bool,
        typer.Option(
            "--trust-remote-code",
            help="Run the checkpoint's own code, to compare a model that was exported with it.",
        ),
    ] = False,
    ignore_memory: Annotated[
        bool,
        typer.Option("--ignore-memory", help="Compare even where there seems to be too little memory for it."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Compare an exported model with its checkpoint again and print its model card; status 1 if a check fails."""
    from conch_export import inspect  # noqa: PLC0415

    with refused(), steps() as progress:
        found = inspect(
            model,
            repository,
            checkpoint,
            progress,
            trust_remote_code=trust_remote_code,
            adapter=adapter,
            ignore_memory=ignore_memory,
        )
    if as_json:
        typer.echo(json.dumps(found.as_dict(), indent=2))
    else:
        stdout.print(facts(found.name, _card(found)))
    if found.problems:
        raise typer.Exit(1)


def agreement(found: Verification) -> str:
    """Return one public model's agreement with its reference, a line per measure."""
    return "\n".join(_agreement(found))


def _agreement(found: Verification) -> Iterator[str]:
    yield f"{found.texts} texts, {found.tokens} tokens: largest difference {found.max_difference:.1e}"
    if found.mean_cosine is not None:
        yield f"cosine mean {found.mean_cosine:.5f}, worst {found.min_cosine:.5f}"
    if found.centred_cosine is not None:
        yield f"after the common mean is subtracted: cosine {found.centred_cosine:.5f}"
    if found.length_error is not None:
        yield f"lengths of vectors off by {found.length_error:.2%}"
    if found.rank_correlation is not None:
        yield f"rank correlation {found.rank_correlation:.4f}, scores off by {found.score_error:.3f} of their spread"
    yield f"merged against alone: {found.max_merged_difference:.1e}"


def _card(found: Inspection) -> Iterator[tuple[str, str]]:
    yield "what it is", f"{found.task}, {found.precision}, up to {found.max_length} tokens"
    yield "from", f"{found.source} {found.revision}"
    if found.code_sha256:
        yield "by its own code", f"SHA-256 {found.code_sha256}"
    yield "licence", found.licence or "? (not in the catalog)"
    yield "exported with", ", ".join(f"{name} {version}" for name, version in found.versions.items())
    yield "size on disk", f"{found.disk_bytes / 1e6:,.1f} MB"
    if found.peak_bytes is not None:
        yield "memory", f"{found.peak_bytes / 1e6:,.0f} MB an instance, on {found.max_length} tokens"
    yield "speed", f"{found.texts_per_s:,.0f} texts/s, {found.tokens_per_s:,.0f} tokens/s on one core"
    for name, each in found.verification.items():
        yield f"{name} against its reference", agreement(each)
    if found.not_compared:
        yield "against its reference", f"not compared: {found.not_compared}"
    for name, difference in found.merging.items():
        yield f"{name} merged against alone", f"difference {difference:.1e}"
    yield "verdict", "; ".join(found.problems) or "all that was compared holds"
