"""`conch migrate`: compare two models of the repository, and fit a bridge from the new one to the old."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from conch.console import fail, refused, stderr, stdout, steps
from conch.migrate.tables import bridge_table, comparison_tables
from conch.options import DEFAULT_REPOSITORY, TEXTS, AsJson, Repository
from conch.texts import read_sample

Old = Annotated[str, typer.Argument(metavar="OLD", help="Model of the repository with which the index was made.")]
New = Annotated[str, typer.Argument(metavar="NEW", help="Model of the repository that is to replace it.")]
Texts = Annotated[Path, TEXTS]
Most = Annotated[int, typer.Option(min=1, help="Most texts to use, chosen evenly from all.")]
OldPrompt = Annotated[
    str | None, typer.Option(help="Name of the old model's prompt before each text; '' for none. [default: its own]")
]
NewPrompt = Annotated[
    str | None, typer.Option(help="Name of the new model's prompt before each text; '' for none. [default: its own]")
]

migrate = typer.Typer(name="migrate", no_args_is_help=True)


@migrate.callback()
def group() -> None:
    """Move from one embedding model to another: compare both, and fit a bridge to search the old index meanwhile."""


@migrate.command()
def compare(
    old: Old,
    new: New,
    texts: Texts,
    repository: Repository = DEFAULT_REPOSITORY,
    most: Most = 2000,
    old_prompt: OldPrompt = None,
    new_prompt: NewPrompt = None,
    threshold: Annotated[
        list[float] | None,
        typer.Option(help="Score of the old model to translate; repeat for more. [default: 0.5 to 0.9]"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compare neighbours, scores and costs of two models on your texts. Both run in process, on one core."""
    sample = _sample(texts, most)
    import conch_export as ce  # noqa: PLC0415

    with refused(), steps("loading the models") as progress:
        found = ce.compare(
            old,
            new,
            repository,
            sample,
            progress,
            old_prompt=old_prompt,
            new_prompt=new_prompt,
            thresholds=threshold or ce.THRESHOLDS,
        )
    if as_json:
        typer.echo(json.dumps(found.as_dict(), indent=2))
        return
    for table in comparison_tables(found):
        stdout.print(table)


@migrate.command()
def fit(
    old: Old,
    new: New,
    texts: Texts,
    repository: Repository = DEFAULT_REPOSITORY,
    most: Most = 20_000,
    old_prompt: OldPrompt = None,
    new_prompt: NewPrompt = None,
    least_recall: Annotated[
        float,
        typer.Option(min=0, max=1, help="Publish only if the bridge finds this share of the old model's neighbours."),
    ] = 0.5,
    as_json: AsJson = False,
) -> None:
    """Learn a bridge and publish it as NEW-as-OLD: the new model's vectors, mapped into the old model's space.

    With the bridge, queries search the old index approximately until it is embedded with the new model.
    """
    sample = _sample(texts, most)
    import conch_export as ce  # noqa: PLC0415

    with refused(), steps("loading the models") as progress:
        bridge = ce.fit(
            old,
            new,
            repository,
            sample,
            progress,
            old_prompt=old_prompt,
            new_prompt=new_prompt,
            least_recall=least_recall,
        )
    if as_json:
        typer.echo(json.dumps(bridge.as_dict(), indent=2))
        return
    stdout.print(bridge_table(bridge))
    stderr.print(f"published in {repository}; a running server loads it when {new} is loaded again", soft_wrap=True)


def _sample(path: Path, most: int) -> list[str]:
    try:
        return read_sample(path, most)
    except ValueError as error:
        fail(str(error))
