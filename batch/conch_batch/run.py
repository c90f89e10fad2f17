"""A run: finds the inputs, writes the plan or compares it with the stored one, and computes the missing shards."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from conch_contract import Task

from conch_batch import cluster
from conch_batch.engines import opening
from conch_batch.errors import BatchError, EngineError, InterruptedRun
from conch_batch.inputs.files import find
from conch_batch.inputs.rows import Reader
from conch_batch.job import Embedding
from conch_batch.outputs.columns import added, with_input
from conch_batch.outputs.store import Store
from conch_batch.planning.manifest import Identity, Manifest, refuse_changes
from conch_batch.planning.plan import Piece, plan, rows_of
from conch_batch.shards import Corpus, Done, Shards, check_columns

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from conch_contract import ModelInfo

    from conch_batch.inputs.files import File
    from conch_batch.job import Job
    from conch_batch.model import Model

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
    files, store = find(job.inputs), Store(job.output)
    model = opening.describe(job)
    manifest = _manifest(job, files, model, store, watcher)
    present = store.done()
    missing = [number for number in range(len(manifest.plan.shards)) if number not in present]
    rows = [rows_of(shard) for shard in manifest.plan.shards]
    report = Report(sum(rows), sum(rows[number] for number in present), [])
    watcher.starting(report.rows, report.present)

    def on_done(done: Done) -> None:
        report.done.append(done)
        watcher.done(done)

    try:
        if missing:
            corpus = Corpus(job, model, files, manifest.plan.schema)
            _compute(corpus, {number: manifest.plan.shards[number] for number in missing}, workers, on_done)
    except KeyboardInterrupt as error:
        raise InterruptedRun(f"stopped; {len(store.done())} of {len(rows)} shards are in {job.output}") from error
    store.clear_unfinished()
    return report


def _manifest(job: Job, files: Sequence[File], model: Model, store: Store, watcher: Watcher) -> Manifest:
    """Return the manifest of the output, or plan the run and write a new one."""
    begun = store.read_manifest()
    identity = Identity(model.identity, _options(job), [(file.name, file.fingerprint) for file in files])
    if begun is not None:
        manifest = Manifest.from_json(begun, store.url)
        refuse_changes(manifest.identity, identity, store.url)
        return manifest
    planned = plan(
        files,
        Reader(job.text_rows),
        shard_rows=job.shard_rows,
        most_rows=_most_rows(job, model.info),
        on_file=watcher.reading,
    )
    check_columns(planned.schema, job.task)
    with_input(planned.schema, added(job.task, model), job.prefix)
    manifest = Manifest(identity, planned)
    store.write_manifest(manifest.to_json())
    return manifest


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


def _compute(
    corpus: Corpus, shards: Mapping[int, Sequence[Piece]], workers: Workers, on_done: Callable[[Done], None]
) -> None:
    on_gpu = opening.needs_gpu(corpus.job)
    with cluster.connected(workers.address, workers.cores) as resources:
        there = resources.gpus if on_gpu else resources.cpus // workers.threads
        if not there and workers.address is None:  # a running cluster may grow later
            wanted = "a GPU" if on_gpu else f"{workers.threads} cores (--threads)"
            raise EngineError(
                f"a process needs {wanted}; Ray has {resources.cpus} cores and {resources.gpus} GPUs here"
            )
        answers = cluster.spread(
            Worker,
            (corpus, workers.threads),
            [json.dumps(shard) for shard in shards.items()],
            actors=workers.actors or max(1, there),
            threads=workers.threads,
            on_gpu=on_gpu,
        )
        for answer in answers:
            if answer["error"]:
                raise BatchError(answer["error"])
            on_done(Done(*(answer[name] for name in Done._fields)))


class Worker:
    """Computes shards in a process of Ray.

    Args:
        corpus: source of the shards.
        threads: cores that it may use.
    """

    def __init__(self, corpus: Corpus, threads: int) -> None:
        # Read when texts are first tokenised; without it, each worker would use all cores to tokenise.
        os.environ["RAYON_NUM_THREADS"] = str(threads)
        self._shards = Shards(corpus, opening.opened(corpus.job, corpus.model, threads), Store(corpus.job.output))

    def __call__(self, row: dict[str, str]) -> dict[str, Any]:
        """Publish the shard in a row `{"item": JSON}`; return the fields of `Done`, or the reason in `error`."""
        number, pieces = json.loads(row["item"])
        try:
            done = self._shards.compute(number, [Piece(*piece) for piece in pieces])
        except BatchError as error:
            return {**dict.fromkeys(Done._fields, 0), "error": str(error)}
        return {**done._asdict(), "error": ""}
