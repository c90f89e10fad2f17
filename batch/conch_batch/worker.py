"""Computes shards in a process of Ray. Whatever goes wrong there is told in one line, not as a traceback."""

from __future__ import annotations

import json
import os
import socket
from functools import cached_property
from typing import TYPE_CHECKING, Any

from conch_batch import actors
from conch_batch.engines import opening
from conch_batch.errors import BatchError, EngineError
from conch_batch.outputs.store import Store
from conch_batch.planning.plan import Piece
from conch_batch.shards import Done, Shards

if TYPE_CHECKING:
    from conch_batch.shards import Corpus


_HOST = socket.gethostname()


class Worker:
    """An actor that computes shards.

    Args:
        corpus: source of the shards.
        threads: cores that it may use.
    """

    def __init__(self, corpus: Corpus, threads: int) -> None:
        # Read when texts are first tokenised; without it, each worker would use all cores to tokenise.
        os.environ["RAYON_NUM_THREADS"] = str(threads)
        self._corpus, self._threads = corpus, threads

    def compute(self, shard: str) -> dict[str, Any]:
        """Publish a shard, its number and pieces as JSON; return the fields of `Done`, or the reason in `error`."""
        number, pieces = json.loads(shard)
        try:
            done = self._shards.compute(number, [Piece(*piece) for piece in pieces])
        except BatchError as error:
            return _failed(str(error))
        except Exception as error:  # noqa: BLE001 - of whatever library: the run ends, and its user gets the reason
            return _failed(f"shard {number} cannot be computed on {_HOST}: {_in_a_line(error)}")
        return {**done._asdict(), "error": ""}

    @cached_property
    def _shards(self) -> Shards:
        """Made for the first shard, so that a model that cannot be loaded here is reported like all other errors."""
        job, model = self._corpus.job, self._corpus.model
        try:
            return Shards(self._corpus, opening.opened(job, model, self._threads), Store(job.output))
        except BatchError:
            raise
        except Exception as error:
            msg = f"{job.model} cannot be loaded on {_HOST} ({_in_a_line(error)}): {actors.NEEDS}"
            raise EngineError(msg) from error


def _in_a_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


def _failed(reason: str) -> dict[str, Any]:
    return {**dict.fromkeys(Done._fields, 0), "error": reason}
