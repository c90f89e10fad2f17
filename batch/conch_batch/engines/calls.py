"""Converts items to jobs of the client, and their results to columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pyarrow as pa
from conch_client import InvalidInputError, jobs
from conch_contract import Task

from conch_batch.engines.engine import Answers, Item, Question, probe
from conch_batch.errors import EngineError
from conch_batch.job import Embedding, Reranking
from conch_batch.outputs import columns

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from conch_client.jobs import LoadedModel

    Run = Callable[[jobs.Job[Any]], Any]
    """Answers the requests of a job, and returns the result that the job makes of the responses."""


class Calls:
    """The calls of one task.

    Args:
        task: what is computed.
        model: the model that computes it.
    """

    def __init__(self, task: Embedding | Reranking, model: LoadedModel) -> None:
        self._task, self._model = task, model

    def answers(self, schema: pa.Schema, items: Sequence[Item], run: Run) -> Answers:
        """The answers to all items.

        Raises:
            InvalidInputError: some cannot be answered; `indices` has at least one of them.
        """
        if isinstance(self._task, Reranking):
            return self._rankings(self._task, schema, items, run)
        job = self._embedding(self._task, items)
        arrays = columns.arrays_of(self._task, self._model.info, run(job))
        counts = columns.counts(job.lengths, job.truncated)
        batch = pa.RecordBatch.from_arrays([*arrays, *counts], schema=schema)
        return Answers(batch, int(job.lengths.sum()), {})

    def refusal(self, item: Item) -> str | None:
        """The reason why an item cannot be answered; None if it can."""
        try:
            self._prepare(item)
        except InvalidInputError as error:
            return str(error).replace("texts[0] ", "the text ")
        return None

    def check(self) -> None:
        """Try the options of the task with a short text.

        Raises:
            EngineError: the model does not support an option.
        """
        try:
            self._prepare(probe(self._task))
        except InvalidInputError as error:
            raise EngineError(str(error)) from error

    def _prepare(self, item: Item) -> None:
        if isinstance(self._task, Reranking):
            self._ranking(self._task, item)
        else:
            self._embedding(self._task, [item])

    def _embedding(self, task: Embedding, items: Sequence[Item]) -> jobs.Job[Any]:
        texts = [item for item in items if isinstance(item, str)]
        options: Any = {"prompt": task.prompt, "prompt_name": task.prompt_name, "truncate": task.truncate}
        if self._model.info.task is Task.SPARSE:
            return jobs.sparse(self._model, texts, **options)
        options["normalize"] = task.normalize
        if self._model.info.task is Task.MULTI_VECTOR:
            return jobs.token_vectors(self._model, texts, **options)
        return jobs.embedding(self._model, texts, **options, dimensions=task.dimensions)

    def _rankings(self, task: Reranking, schema: pa.Schema, items: Sequence[Item], run: Run) -> Answers:
        rankings = [_placed(run, self._ranking(task, item), place) for place, item in enumerate(items)]
        tokens = np.array([each.tokens for each in rankings])
        truncated = np.flatnonzero([bool(each.truncated) for each in rankings]).tolist()
        arrays = columns.arrays_of(task, self._model.info, rankings)
        batch = pa.RecordBatch.from_arrays([*arrays, *columns.counts(tokens, truncated)], schema=schema)
        return Answers(batch, int(tokens.sum()), {})

    def _ranking(self, task: Reranking, item: Item) -> jobs.Job[Any]:
        query, documents = cast("Question", item)
        return jobs.ranking(
            self._model,
            query,
            documents,
            top_n=task.top_n,
            instruction=task.instruction,
            raw_scores=task.raw_scores,
            truncate=task.truncate,
        )


def _placed(run: Run, call: jobs.Job[Any], place: int) -> Any:
    """The result of a call; its errors state the place of the item, not that of a document in it."""
    try:
        return run(call)
    except InvalidInputError as error:
        raise InvalidInputError(str(error), (place,)) from error
