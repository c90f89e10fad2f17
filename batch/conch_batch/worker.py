"""Computes shards in a process of its own. Whatever goes wrong there is told in one line, not as a traceback."""

from __future__ import annotations

import os
import socket
from functools import cached_property
from typing import TYPE_CHECKING, Any

from conch_batch.engines import opening
from conch_batch.errors import BatchError, EngineError
from conch_batch.outputs.store import Store
from conch_batch.processes.pool import NEEDS
from conch_batch.repeats import Answered
from conch_batch.shards import Done, Shards

if TYPE_CHECKING:
    from collections.abc import Sequence

    from conch_batch.planning.plan import Piece
    from conch_batch.shards import Corpus


_HOST = socket.gethostname()


class Worker:
    """Computes shards in its process.

    Args:
        corpus: source of the shards.
        repeated: source of the shards of repeated items, which are computed before; None if there are none.
        threads: cores that it may use.
    """

    def __init__(self, corpus: Corpus, repeated: Corpus | None, threads: int) -> None:
        # Read when texts are first tokenised; without it, each worker would use all cores to tokenise.
        os.environ["RAYON_NUM_THREADS"] = str(threads)
        self._corpus, self._repeated, self._threads = corpus, repeated, threads

    def compute(self, shard: tuple[int, Sequence[Piece], bool]) -> dict[str, Any]:
        """Publish a shard; return the fields of `Done`, or the reason in `error`.

        Args:
            shard: number, pieces, and whether its items are repeated ones.
        """
        number, pieces, is_repeated = shard
        try:
            done = self._shards[is_repeated].compute(number, pieces)
        except BatchError as error:
            return _failed(str(error))
        except Exception as error:  # noqa: BLE001 - of whatever library: the run ends, and its user gets the reason
            return _failed(f"shard {number} cannot be computed on {_HOST}: {_in_a_line(error)}")
        return {**done._asdict(), "error": ""}

    @cached_property
    def _shards(self) -> list[Shards]:
        """Made for the first shard, so that a model that cannot be loaded here is reported like all other errors."""
        job, model = self._corpus.job, self._corpus.model
        try:
            engine, store = opening.opened(job, model, self._threads), Store(job.output)
            if self._repeated is None:
                return [Shards(self._corpus, engine, store)]
            before = Store(self._repeated.job.output)
            known = Answered(before, job.task, engine.schema, job.prefix)
            return [Shards(self._corpus, engine, store, known), Shards(self._repeated, engine, before)]
        except BatchError:
            raise
        except Exception as error:
            msg = f"{job.model} cannot be loaded on {_HOST} ({_in_a_line(error)}): {NEEDS}"
            raise EngineError(msg) from error


def _in_a_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


def _failed(reason: str) -> dict[str, Any]:
    return {**dict.fromkeys(Done._fields, 0), "error": reason}
