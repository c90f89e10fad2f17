"""Arguments and options that several commands have; lengths and sizes as people write them: `long`, `2GB`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from conch.console import fail

if TYPE_CHECKING:
    from collections.abc import Mapping, Set

LENGTHS = {"short": 1024, "medium": 2048, "long": 4096, "maximum": 8192}
"""Tokens of a text, by name."""
TOKENS = f"TOKENS|{'|'.join(LENGTHS)}"
_BYTES = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}


def tokens(text: str) -> int:
    """Return a number of tokens from a number or a name."""
    if text in LENGTHS:
        return LENGTHS[text]
    if not text.isdecimal():
        raise typer.BadParameter(f"{text!r} is neither a number of tokens nor one of {', '.join(LENGTHS)}")
    return int(text)


def size(text: str) -> int:
    """Return bytes from `2GB` (10^9), `512MiB` (2^20) and the like."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?i?)b?", text.strip().lower())
    if not found or found[2] not in _BYTES:
        raise typer.BadParameter(f"{text!r} is no size: write it as 2GB or 512MiB")
    return int(float(found[1]) * _BYTES[found[2]])


DEFAULT_MODEL = "all-minilm-l6-v2"
DEFAULT_REPOSITORY = Path("model_repository")

Model = Annotated[str, typer.Argument(metavar="MODEL", help="A known name, a folder or a Hub id.")]
Models = Annotated[list[str], typer.Argument(metavar="MODEL", help="Known names, folders or Hub ids.")]
Repository = Annotated[
    Path,
    typer.Option(
        metavar="FOLDER", envvar="CONCH_MODEL_REPOSITORY", help="Triton's model repository, and conch.lock in it."
    ),
]
Revision = Annotated[
    str | None,
    typer.Option(help="Commit, branch or tag on the Hub."),
]
Adapter = Annotated[
    str | None,
    typer.Option(
        metavar="FOLDER|ID|NAME",
        help="LoRA adapter that is merged into the weights: a folder, a Hub id (ID@REVISION), or the name of one that "
        "the checkpoint has itself (`none` for none of them).",
    ),
]
UpdateLock = Annotated[
    bool,
    typer.Option(
        "--update-lock", help="Take checkpoints as they are now and record them, even if they differ from conch.lock."
    ),
]
MaxLength = Annotated[
    int | None,
    typer.Option(
        parser=tokens,
        metavar=TOKENS,
        help="Tokens at which texts are truncated, instead of the checkpoint's limit.",
    ),
]
Task = Annotated[
    Literal["embedding", "cross-encoder", "classification", "multi-vector", "sparse"] | None,
    typer.Option(help="Kind of the model, if the checkpoint does not state it."),
]
Label = Annotated[
    str | None, typer.Option(help="Label of a classifier with several labels by which a reranker scores.")
]
Aim = Annotated[Literal["throughput", "latency"], typer.Option(help="Optimise throughput or latency.")]
TEXTS: Any = typer.Option(
    metavar="FILE|FOLDER",
    exists=True,
    help="Texts like yours: a file with one in every line, JSONL (strings, or objects with `text`), or a folder whose "
    "text files are read by paragraphs.",
)
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def named_options(context: typer.Context) -> dict[str, str]:
    """Return what is given on the command line: names of parameters, and how each is written there."""
    given = {each.name: each for each in context.command.params if each.name in context.params}
    sources = {name: context.get_parameter_source(name) for name in given}
    return {
        name: each.opts[0] if each.opts[0].startswith("-") else name.upper()
        for name, each in given.items()
        if (source := sources[name]) is not None and source.name == "COMMANDLINE"
    }


def refuse(given: Mapping[str, str], names: Set[str], why: str) -> None:
    """Fail if one of these parameters is given on the command line; `given` is from `named_options`."""
    for name in sorted(given.keys() & names):
        fail(f"{given[name]} {why}")
