"""The engine that runs the graphs of a model in this process, with the same answers as Triton."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from conch_client import ConchError, jobs
from conch_contract import Task, space_of
from conch_export import Ensemble, ExportError, Published, Target
from tritonclient.grpc import service_pb2 as pb

from conch_batch.engines.calls import Calls
from conch_batch.engines.refusals import answered
from conch_batch.errors import EngineError
from conch_batch.job import Reranking
from conch_batch.model import Model
from conch_batch.outputs import columns

if TYPE_CHECKING:
    from collections.abc import Sequence

    from conch_contract import ModelInfo
    from numpy.typing import NDArray

    from conch_batch.engines.engine import Answers, Item
    from conch_batch.job import Embedding, Job

_MOST_ROWS = 256
"""Most rows of a run of the graphs; `conch_client` limits a run to about a thousand tokens."""
_DATATYPES = {"f": "FP32", "i": "INT32"}
_HASH = "graphs_sha256"
_PROSE = "description"
"""A parameter of models on which no answer depends."""


def describe(job: Job) -> Model:
    """The model, identified by a hash of its graphs: another export of the same checkpoint may round differently.

    Raises:
        EngineError: the repository has no such model, or it does not support the task.
    """
    published = _published(job)
    Calls(job.task, _loaded(published)).check()
    space_id = _space_of(job.task, published.info)
    schema = columns.counted(columns.added(job.task, published.info, space_id))
    stated = {key: value for key, value in published.info.to_parameters().items() if key != _PROSE}
    identity = {"name": job.model, _HASH: _hash(published), **stated}
    return Model(published.info, space_id, schema, identity)


def is_for_gpu(job: Job) -> bool:
    """Whether the model was exported for a GPU."""
    return _published(job).target is Target.CUDA


class Graphs:
    """Answers items with a model of a repository; see `Engine`.

    Args:
        job: names the repository, the model and the task.
        model: as returned by `describe`.
        threads: onnxruntime's threads inside one operator.

    Raises:
        EngineError: it cannot be run here.
    """

    def __init__(self, job: Job, model: Model, threads: int = 1) -> None:
        published = _published(job)
        if _hash(published) != model.identity[_HASH]:
            msg = f"{job.model} in {job.repository} is another export here than where the run was started: copy that"
            raise EngineError(msg)
        try:
            self._ensemble = Ensemble(published, threads)
        except ExportError as error:
            raise EngineError(str(error)) from error
        self._calls = Calls(job.task, _loaded(published))
        self._looks_up = published.info.query_model
        self.schema = model.schema

    def compute(self, items: Sequence[Item]) -> Answers:
        """See `Engine`."""
        return answered(self.schema, items, self._compute, self._calls.refusal)

    def close(self) -> None:
        """Nothing needs to be closed."""

    def _compute(self, items: Sequence[Item]) -> Answers:
        return self._calls.answers(self.schema, items, self._run)

    def _run(self, job: jobs.Job[Any]) -> Any:
        return job.result([self._respond(job.request(part)) for part in job.parts])

    def _respond(self, request: pb.ModelInferRequest) -> pb.ModelInferResponse:
        """Answer a request as Triton does."""
        tensors: dict[str, NDArray[np.int64]] = {
            tensor.name: np.frombuffer(content, "<i8").reshape(tuple(tensor.shape))
            for tensor, content in zip(request.inputs, request.raw_input_contents, strict=True)
        }
        outputs = self._ensemble(tensors, looked_up=request.model_name == self._looks_up)
        contents = [array.tobytes() for array in outputs.values()]
        response = pb.ModelInferResponse(model_name=request.model_name, raw_output_contents=contents)
        for name, array in outputs.items():
            response.outputs.add(name=name, datatype=_DATATYPES[array.dtype.kind], shape=array.shape)
        return response


def _space_of(task: Embedding | Reranking, info: ModelInfo) -> str | None:
    if isinstance(task, Reranking):
        return None
    dimensions = task.dimensions if info.task is Task.EMBEDDING else None
    return space_of(info, dimensions, normalize=task.normalize)


def _published(job: Job) -> Published:
    try:
        return Published.find(job.repository, job.model)
    except ExportError as error:
        raise EngineError(str(error)) from error


def _hash(published: Published) -> str:
    try:
        return published.graphs_sha256()
    except OSError as error:
        raise EngineError(f"{published.info.name} cannot be read: {error}; export it again") from error


def _loaded(published: Published) -> jobs.LoadedModel:
    try:
        return jobs.load(published.info, published.tokenizer.read_bytes(), max_rows=_MOST_ROWS)
    except (ConchError, OSError) as error:
        raise EngineError(f"{published.info.name} cannot be run: {error}") from error
