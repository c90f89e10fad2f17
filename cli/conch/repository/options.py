"""The options of `conch export`, by what they are about, and how their texts are read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

# What is served.
Name = Annotated[str | None, typer.Option(help="Name under which the model is served.")]
Precision = Annotated[
    Literal["fp32", "fp16", "int8"] | None,
    typer.Option(help="Number format of the matrix products. [default: int8, with --target cuda fp16]"),
]
Target = Annotated[Literal["cpu", "cuda"], typer.Option(help="Hardware that the encoder runs on.")]
LateInteraction = Annotated[
    bool | None,
    typer.Option(
        help="Also serve token vectors and a MaxSim reranker on the same encoder.",
    ),
]
Lexical = Annotated[
    bool | None,
    typer.Option(help="Also serve lexical weights, if the checkpoint has them."),
]
LateChunking = Annotated[
    bool | None,
    typer.Option(help="Also serve vectors of a text's chunks, for models that pool by the mean."),
]

# What the checkpoint does not state, or states otherwise.
Pooling = Annotated[
    Literal["mean", "cls", "max", "last", "weighted-mean", "mean-sqrt-length"] | None,
    typer.Option(help="Pooling of token vectors, if the checkpoint does not state it."),
]
Normalize = Annotated[
    bool | None,
    typer.Option(help="Whether vectors have length 1, if the checkpoint does not state it."),
]
Prompts = Annotated[
    str | None, typer.Option(help="Prompts by name as JSON or a file with JSON, instead of the checkpoint's.")
]
DefaultPrompt = Annotated[
    str | None, typer.Option(help="Name of the prompt for requests that name none; '' for no prompt.")
]
Matryoshka = Annotated[str | None, typer.Option(help="Dimensions to which vectors may be cut, such as 64,128,256.")]
MatryoshkaCentred = Annotated[
    bool | None,
    typer.Option(
        help="Whether the authors subtract a vector's mean (as a layer norm does) before they cut it.",
    ),
]
ScoreTokens = Annotated[str | None, typer.Option(help="The two words of a generative reranker, such as yes,no.")]
PairTemplate = Annotated[
    Path | None,
    typer.Option(help="File with the prompt of a generative reranker, containing {query} and {document}."),
]
DefaultInstruction = Annotated[
    str | None, typer.Option(help="Text for {instruction} in that prompt where a request states none.")
]

# What Triton is planned for.
Cores = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Cores to plan for. [default: those of the machine that `conch serve` runs on; with --check and "
        "--missing, those that the repository was planned for]",
    ),
]
QueueLength = Annotated[
    int | None,
    typer.Option(min=1, help="Requests that may wait for a model; others are refused. No limit if not stated."),
]
QueueTimeout = Annotated[
    int | None, typer.Option(min=1, help="Seconds that a request may wait, with --queue. [default: 600]")
]

# What the command does.
Missing = Annotated[bool, typer.Option("--missing", help="Do nothing if the repository has the model.")]
Check = Annotated[
    bool,
    typer.Option("--check", help="Write nothing; fail if the configurations differ from what an export would write."),
]
IgnoreMemory = Annotated[
    bool,
    typer.Option("--ignore-memory", help="Export even where there seems to be too little memory for it."),
]
TrustRemoteCode = Annotated[
    bool,
    typer.Option(
        "--trust-remote-code",
        help="Run the checkpoint's own code if no other code knows its architecture; needs a full --revision.",
    ),
]


def read_prompts(stated: str) -> dict[str, str]:
    """Return prompts by name from JSON, or from a file with it."""
    try:
        found = json.loads(stated if stated.lstrip().startswith("{") else Path(stated).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        msg = f'--prompts takes JSON such as {{"query": "query: "}}, or a file with it: {error}'
        raise typer.BadParameter(msg) from error
    if not isinstance(found, dict) or not all(isinstance(text, str) for text in found.values()):
        raise typer.BadParameter("--prompts takes one JSON object, with a text for each name")
    return found


def read_template(path: Path) -> str:
    """Return the text of a file."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise typer.BadParameter(f"--pair-template takes a file with UTF-8 text: {error}") from error


def read_lengths(stated: str) -> tuple[int, ...]:
    """Return numbers with commas between them."""
    try:
        return tuple(int(size) for size in stated.split(",") if size)
    except ValueError as error:
        raise typer.BadParameter(f"--matryoshka takes lengths such as 64,128,256, not {stated!r}") from error


def read_yes_and_no(stated: str) -> tuple[str, str]:
    """Return two words with a comma between them."""
    yes, comma, no = stated.partition(",")
    if not (yes and comma and no):
        raise typer.BadParameter(f"--score-tokens takes two words such as yes,no, not {stated!r}")
    return yes, no
