"""A run: finds the inputs, writes the plan or compares it with the stored one, and computes the missing shards."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import pyarrow as pa
from conch_contract import Task

from conch_batch import repeats
from conch_batch.engines import opening
from conch_batch.engines.engine import columns_of
from conch_batch.errors import BatchError, ChangedError, InputError, InterruptedRun, OutputError
from conch_batch.inputs.files import PARQUET, TEXT, File, find
from conch_batch.inputs.rows import Reader
from conch_batch.job import Embedding, TextRows
from conch_batch.outputs.columns import with_input
from conch_batch.outputs.store import Store, refuse_unwritable
from conch_batch.planning import plan as plans
from conch_batch.planning.manifest import Identity, Manifest, refuse_changes
from conch_batch.planning.plan import files_of, plan_repeated, rows_of
from conch_batch.processes import cluster, local, pool
from conch_batch.shards import Corpus, Done, check_columns
from conch_batch.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from conch_contract import ModelInfo

    from conch_batch.job import Job
    from conch_batch.model import Model
    from conch_batch.planning.plan import Piece, Plan

_MOST_ROWS = 4096
_MOST_LARGE_ROWS = 256
"""Rows of a shard with large answers: vectors of all tokens, rankings of long lists."""


@dataclass(frozen=True)
class Workers:
    """The processes that compute.

    Attributes:
        address: address of a Ray cluster; None for this machine.
        cores: cores of this machine that may be used.
        actors: number of processes; None for one on each core, or on each GPU.
        threads: cores of each process.
    """

    address: str | None = None
    cores: int = 1
    actors: int | None = None
    threads: int = 1


class _Stage(NamedTuple):
    """Shards that are to be computed, by their numbers, and their source."""

    corpus: Corpus
    shards: Mapping[int, Sequence[Piece]]


class Report(NamedTuple):
    """The result of a run.

    Attributes:
        rows: rows of the input.
        present: rows of shards that existed when it began.
        done: the shards that it has computed.
    """

    rows: int
    present: int
    done: list[Done]


class Watcher(Protocol):
    """Receives the progress of a run."""

    def reading(self, files: int, of: int, /) -> None:
        """`files` of `of` files have been read for the plan."""

    def starting(self, rows: int, present: int, /) -> None:
        """Computing begins; `present` of `rows` rows exist in the output."""

    def done(self, shard: Done, /) -> None:
        """A shard is published."""


def run(job: Job, workers: Workers, watcher: Watcher) -> Report:
    """Compute the shards that the output lacks.

    Raises:
        BatchError: see `errors`. Published shards stay, and the next run continues from there.
    """
    store, files = Store(job.output), find(job.inputs, job.output)
    _refuse_unused(job, files)
    model = opening.describe(job)
    with store.locked():
        stamps = [file.stamp() for file in files]
        manifest = _manifest(job, files, model, store, watcher)
        report = _fill(Corpus(job, model, files, manifest.plan.schema), manifest.plan, store, workers, watcher)
        store.clear_unfinished()
        _refuse_changes_meanwhile(files, stamps, store)
    return report


def _refuse_unused(job: Job, files: Sequence[File]) -> None:
    """Refuse an option that means nothing for these files."""
    if job.text_rows is not TextRows.FILE and files[0].kind != TEXT:
        raise InputError(f"--text-rows is for text files, and the input is {files[0].kind}: leave it out")


def _fill(corpus: Corpus, plan: Plan, store: Store, workers: Workers, watcher: Watcher) -> Report:
    """Compute the shards of a plan that are not there."""
    present, rows = store.done(), [rows_of(shard) for shard in plan.shards]
    if max(present, default=0) >= len(rows):
        msg = f"{store.url} has part-{max(present):05}.parquet, which no run has planned: remove it"
        raise OutputError(msg)
    missing = {number: shard for number, shard in enumerate(plan.shards) if number not in present}
    report = Report(sum(rows), sum(rows[number] for number in present), [])
    watcher.starting(report.rows, report.present)

    def on_done(done: Done) -> None:
        report.done.append(done)
        watcher.done(done)

    try:
        if missing:
            _compute(_Stage(corpus, missing), _repeated(corpus, plan, store), workers, on_done)
    except KeyboardInterrupt as error:
        raise InterruptedRun(f"stopped; {len(store.done())} of {len(rows)} shards are in {store.url}") from error
    return report


def _repeated(corpus: Corpus, plan: Plan, store: Store) -> _Stage:
    """The shards of repeated items whose answers are not there."""
    job = replace(corpus.job, output=store.repeated_answers, on_error="record")  # a row that fails stops its own shard
    files = [File(store.repeated(number), "", PARQUET) for number in range(files_of(plan.repeated))]
    present = Store(job.output).done() if files else set()
    missing = {number: shard for number, shard in enumerate(plan.repeated) if number not in present}
    return _Stage(Corpus(job, corpus.model, files, _of_items(corpus.schema, job)), missing)


def _refuse_changes_meanwhile(files: Sequence[File], stamps: Sequence[str], store: Store) -> None:
    """Refuse an output of files that were written to while they were read: it may be of both states."""
    for file, stamp in zip(files, stamps, strict=True):
        if file.stamp() != stamp:
            msg = f"{file.url} has changed while it was read: remove {store.url}, or name another --output"
            raise ChangedError(msg)


def _manifest(job: Job, files: Sequence[File], model: Model, store: Store, watcher: Watcher) -> Manifest:
    """Return the manifest of the output, or plan the run and write a new one."""
    begun = store.read_manifest()
    identity = Identity(model.identity, _options(job), [(file.name, file.fingerprint) for file in files])
    if begun is not None:
        manifest = Manifest.from_json(begun, store.url)
        refuse_changes(manifest.identity, identity, store.url)
        return manifest
    planned = plans.plan(
        files,
        Reader(job.text_rows),
        shard_rows=job.shard_rows,
        most_rows=_most_rows(job, model.info),
        on_file=watcher.reading,
    )
    check_columns(planned.schema, job.task)
    refuse_unwritable(with_input(planned.schema, model.schema, job.prefix))
    rows = store.write_repeated(_repeats(job, files, planned))
    manifest = Manifest(identity, planned._replace(repeated=plan_repeated(rows, repeats.MOST_ROWS)))
    store.write_manifest(manifest.to_json())
    return manifest


def _repeats(job: Job, files: Sequence[File], plan: Plan) -> Iterator[pa.Table]:
    """The items that occur in several shards."""
    reader, schema = Reader(job.text_rows), _of_items(plan.schema, job)
    several = files if len(plan.shards) > 1 else ()
    tables = (table for file in several for table in reader.tables(file, schema))
    return repeats.find(tables, job.task, rows=plan.rows, shard_rows=rows_of(plan.shards[0]))


def _of_items(schema: pa.Schema, job: Job) -> pa.Schema:
    """The columns that make an item."""
    return pa.schema([schema.field(name) for name in columns_of(job.task)])


def _options(job: Job) -> dict[str, Any]:
    """Return the options on which the output depends."""
    asked = {key: value if value is None else str(value) for key, value in vars(job.task).items()}
    kind = "embed" if isinstance(job.task, Embedding) else "rerank"
    return {
        "command": kind,
        **asked,
        "prefix": job.prefix,
        "text_rows": str(job.text_rows),
        "shard_rows": job.shard_rows,
    }


def _most_rows(job: Job, info: ModelInfo) -> int:
    is_small = isinstance(job.task, Embedding) and info.task is not Task.MULTI_VECTOR
    return _MOST_ROWS if is_small else _MOST_LARGE_ROWS


def _compute(stage: _Stage, before: _Stage, workers: Workers, on_done: Callable[[Done], None]) -> None:
    arguments = stage.corpus, before.corpus if before.corpus.files else None, workers.threads
    with _processes(workers, arguments, on_gpu=opening.needs_gpu(stage.corpus.job)) as processes:
        answers = pool.spread(
            processes,
            [(*shard, False) for shard in stage.shards.items()],
            before=[(*shard, True) for shard in before.shards.items()],
            size=workers.actors or processes.room,
        )
        for number, answer in enumerate(answers):
            if answer["error"]:
                raise BatchError(answer["error"])
            done = Done(*(answer[name] for name in Done._fields))
            is_before = number < len(before.shards)
            on_done(done._replace(repeated=True, rows=0, failed=0) if is_before else done)


def _processes(workers: Workers, arguments: Sequence[Any], *, on_gpu: bool) -> AbstractContextManager[pool.Processes]:
    if workers.address:
        return cluster.connected(workers.address, Worker, arguments, threads=workers.threads, on_gpu=on_gpu)
    return local.started(Worker, arguments, cores=workers.cores, threads=workers.threads, on_gpu=on_gpu)
