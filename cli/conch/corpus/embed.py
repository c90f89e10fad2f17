"""`conch embed`: vectors of a column of texts."""

from __future__ import annotations

import os
from typing import Annotated, Literal

import typer

from conch.corpus import options as of
from conch.corpus.watching import compute
from conch.options import DEFAULT_MODEL, DEFAULT_REPOSITORY, Repository


def embed(
    inputs: of.Inputs,
    output: of.Output,
    model: of.ModelName = DEFAULT_MODEL,
    repository: Repository = DEFAULT_REPOSITORY,
    text: Annotated[str, typer.Option(metavar="COLUMN", help="Column of the texts.")] = "text",
    text_rows: Annotated[
        Literal["file", "paragraph", "line"], typer.Option(help="Unit of a text file that is a row.")
    ] = "file",
    prompt: Annotated[str | None, typer.Option(help="Text put before each, instead of the default prompt.")] = None,
    prompt_name: Annotated[str | None, typer.Option(metavar="NAME", help="Name of one of the model's prompts.")] = None,
    dimensions: Annotated[
        int | None, typer.Option(min=1, help="Length of the vectors, for models trained to be cut (Matryoshka).")
    ] = None,
    numbers: Annotated[
        Literal["float32", "float16", "int8", "binary"], typer.Option(help="Type of the vectors' numbers.")
    ] = "float32",
    normalize: Annotated[bool, typer.Option("--normalize/--no-normalize", help="Vectors of length 1.")] = True,
    truncate: of.Truncate = "end",
    prefix: of.Prefix = "",
    shard_rows: of.ShardRows = None,
    on_error: of.OnError = "record",
    actors: of.Actors = None,
    threads: of.Threads = 1,
    address: of.Address = None,
    server: of.Server = None,
) -> None:
    """Embed a corpus: every row of the input with its vector, in Parquet files. A stopped run can be continued."""
    import conch_batch as cb  # noqa: PLC0415
    from conch_contract import usable_cores  # noqa: PLC0415

    task = cb.Embedding(
        text=text,
        prompt=prompt,
        prompt_name=prompt_name,
        dimensions=dimensions,
        numbers=cb.Numbers(numbers),
        normalize=normalize,
        truncate=truncate,
    )
    job = cb.Job(
        inputs=tuple(inputs),
        output=output,
        task=task,
        model=model,
        repository=repository.absolute(),
        server=server,
        api_key=os.environ.get("CONCH_API_KEY"),
        prefix=prefix,
        shard_rows=shard_rows,
        text_rows=cb.TextRows(text_rows),
        on_error=on_error,
    )
    compute(job, cb.Workers(address, usable_cores(), actors, threads))
