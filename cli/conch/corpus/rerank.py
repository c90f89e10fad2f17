"""`conch rerank`: rankings of a column of lists of documents by a column of queries."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from conch.corpus import options as of
from conch.corpus.watching import compute
from conch.options import DEFAULT_MODEL, DEFAULT_REPOSITORY, Repository


def rerank(
    inputs: of.Inputs,
    output: of.Output,
    model: of.ModelName = f"{DEFAULT_MODEL}-maxsim",
    repository: Repository = DEFAULT_REPOSITORY,
    query: Annotated[str, typer.Option(metavar="COLUMN", help="Column of the queries.")] = "query",
    documents: Annotated[str, typer.Option(metavar="COLUMN", help="Column of the lists of documents.")] = "documents",
    top_n: Annotated[int | None, typer.Option(min=1, help="Most documents in a ranking.")] = None,
    instruction: Annotated[str | None, typer.Option(help="What to look for, for rerankers that read one.")] = None,
    raw_scores: Annotated[
        bool, typer.Option("--raw-scores", help="Logits of a cross-encoder instead of their sigmoids.")
    ] = False,
    truncate: of.Truncate = "end",
    prefix: of.Prefix = "",
    shard_rows: of.ShardRows = None,
    on_error: of.OnError = "record",
    actors: of.Actors = None,
    threads: of.Threads = 1,
    address: of.Address = None,
    server: of.Server = None,
) -> None:
    """Rank the documents of every row by its query, best first, in Parquet files. A stopped run can be continued."""
    import conch_batch as cb  # noqa: PLC0415
    from conch_contract import usable_cores  # noqa: PLC0415

    task = cb.Reranking(
        query=query,
        documents=documents,
        top_n=top_n,
        instruction=instruction,
        raw_scores=raw_scores,
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
        on_error=on_error,
    )
    compute(job, cb.Workers(address, usable_cores(), actors, threads))
