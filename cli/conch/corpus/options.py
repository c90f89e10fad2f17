"""Arguments and options that `conch embed` and `conch rerank` share."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

Inputs = Annotated[
    list[str],
    typer.Argument(
        metavar="INPUT",
        help="Files, folders or patterns, also URLs that fsspec knows (s3://, https://): Parquet, Arrow, JSONL, CSV, "
        "TSV, or texts (.txt, .md, .rst). Read in this order, files of a folder by name.",
    ),
]
Output = Annotated[
    str,
    typer.Option(
        "--output",
        "-o",
        metavar="FOLDER|URL",
        help="Folder of the Parquet files. Files that exist already are not computed again.",
    ),
]
ModelName = Annotated[str, typer.Option(metavar="NAME", help="A model of the repository, or of the server.")]
Truncate = Annotated[
    Literal["end", "start", "none"],
    typer.Option(help="End at which texts that are too long lose tokens; with `none` their rows fail."),
]
OnError = Annotated[
    Literal["record", "stop"],
    typer.Option(help="For a row that cannot be computed: record it with the reason in a side file, or stop the run."),
]
ShardRows = Annotated[
    int | None,
    typer.Option(min=1, metavar="ROWS", help="Rows of an output file, instead of a number that depends on the input."),
]
Prefix = Annotated[str, typer.Option(help="Prefix of the names of the columns that are added.")]
Address = Annotated[
    str | None,
    typer.Option(
        metavar="HOST:PORT",
        envvar="RAY_ADDRESS",
        help="A running Ray cluster, whose nodes have the same paths, instead of this machine's cores.",
    ),
]
Actors = Annotated[
    int | None,
    typer.Option(
        min=1, help="Processes that compute, each with its own copy of the model. [default: one per core, or per GPU]"
    ),
]
Threads = Annotated[int, typer.Option(min=1, help="Cores of each process.")]
Server = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="Compute with this gateway (http://…) instead, at background priority. CONCH_API_KEY is its key.",
    ),
]
