"""What the server serves, as last read: models by name, tokenizers by the hash of their file.

A redeployment can give a name to another model, with another tokenizer, and ids of the old tokenizer would then give
wrong vectors without any error. Therefore a reading counts for ``TTL_S`` seconds only, and is void at once when the
server could not be reached (it may have been replaced) or refused a request. A request is repeated only after the model
that it was made for was found unchanged; otherwise the call starts anew.
"""

from __future__ import annotations

import hashlib
import math
import time
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from conch_contract import ENCODER, FORMAT_PARAMETER, INNER_NAMES, DescriptionError, InvalidInputError, ModelInfo, Task

from conch_client._errors import ModelNotFoundError, ServerError, UnavailableError
from conch_client._tokenization.tokenizer import TextTokenizer
from conch_client._transport.tensors import range_request, read_output

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from tritonclient.grpc import model_config_pb2
    from tritonclient.grpc import service_pb2 as pb

TTL_S = 10.0
"""Seconds that a reading counts: the longest that a redeployment goes unnoticed while nothing fails."""

FILE_PART_BYTES = 2 * 1024 * 1024  # gRPC's default limit of a message is 4 MiB

ANY_TASK = tuple(task for task in Task if task is not Task.RERANK)
"""Every task that an export has."""

_NOT_READ = tuple(f".{name}" for name in INNER_NAMES - {ENCODER})
_CALLS = {
    Task.EMBEDDING: "embed",
    Task.MULTI_VECTOR: "embed_tokens",
    Task.SPARSE: "embed_sparse",
    Task.CLASSIFICATION: "classify",
    Task.LATE_CHUNKING: "embed_chunks",
}


_NO_OTHERS: Mapping[str, model_config_pb2.ModelConfig] = MappingProxyType({})


class ModelChangedError(Exception):
    """The model is no longer the one that this job was made for. Internal: the call starts anew."""


class Reading(NamedTuple):
    """One reading of the server.

    Attributes:
        at: When it began, on the monotonic clock.
        models: Every conch model, by name, in the order of names.
        unreadable: Why a model's description could not be read, by name.
    """

    at: float
    models: Mapping[str, ModelInfo]
    unreadable: Mapping[str, str]


class Catalog:
    """The last reading and the tokenizers; both are replaced, never changed, so that threads need no lock to read."""

    def __init__(self) -> None:
        self._reading = Reading(-math.inf, {}, {})
        self._valid = False
        self._tokenizers: dict[str, TextTokenizer] = {}

    @property
    def models(self) -> list[ModelInfo]:
        """All models, by name."""
        return list(self._reading.models.values())

    def is_current(self) -> bool:
        """Whether the reading still counts."""
        return self._valid and time.monotonic() - self._reading.at <= TTL_S

    def is_newer_than(self, asked_at: float) -> bool:
        """Whether the reading began after that moment of the monotonic clock."""
        return self._valid and self._reading.at >= asked_at

    def expire(self) -> None:
        """Voids the reading: the next call reads anew."""
        self._valid = False

    def knows(self, name: str | None, tasks: Sequence[Task], asked_at: float) -> bool:
        """Whether the reading is enough to find a model, for a call that began at ``asked_at``.

        A model counts as missing or not ready only by a reading that is newer than the call.
        """
        found = self._find(name, tasks)
        return self.is_current() and ((found is not None and found.ready) or self._reading.at >= asked_at)

    def is_valid(self) -> bool:
        """Whether nothing has voided the reading; a call that began with it may go on however old it becomes."""
        return self._valid

    def confirm(self, info: ModelInfo) -> None:
        """Raises ModelChangedError if the reading has another model by that name, or none."""
        if self._reading.models.get(info.name) != info:
            raise ModelChangedError

    def find(self, name: str | None, tasks: Sequence[Task]) -> ModelInfo:
        """The model of that name, or the first of these tasks.

        Raises:
            ModelNotFoundError: There is none; the message lists what there is.
            InvalidInputError: The model's task is another.
            ServerError: Its description cannot be read.
        """
        info = self._find(name, tasks)
        if info is None:
            raise self._missing(name, tasks)
        if info.task not in tasks:
            call = _CALLS.get(info.task, "rerank")
            raise InvalidInputError(f"{info.name} is a model for {call}() ({info.task}); {self._listed(tasks)}")
        return info

    def update(
        self, at: float, index: pb.RepositoryIndexResponse, configs: Iterable[model_config_pb2.ModelConfig]
    ) -> None:
        """Replaces the reading by the server's index and the configurations of the models that it lists as ready."""
        models: dict[str, ModelInfo] = {}
        unreadable: dict[str, str] = {}
        by_name = {config.name: config for config in configs}
        for config in filter(is_conch_model, by_name.values()):
            try:
                models[config.name] = read_model_info(config, by_name)
            except ServerError as error:  # noqa: PERF203 - one bad model must not hide the others
                unreadable[config.name] = str(error)
        for name in {entry.name for entry in index.models} - models.keys():
            if name in self._reading.models:  # Triton does not describe unloaded models, but an earlier reading does
                models[name] = replace(self._reading.models[name], ready=False)
        self._reading = Reading(at, dict(sorted(models.items())), unreadable)
        self._valid = True
        kept = {info.tokenizer_sha256 for info in models.values()}
        self._tokenizers = {digest: value for digest, value in self._tokenizers.items() if digest in kept}

    def tokenizer(self, info: ModelInfo) -> TextTokenizer | None:
        """The model's tokenizer, if it was fetched before (perhaps for another model)."""
        return self._tokenizers.get(info.tokenizer_sha256)

    def add_tokenizer(self, info: ModelInfo, parts: Iterable[pb.ModelInferResponse]) -> TextTokenizer:
        """Puts the tokenizer together from the answers to ``tokenizer_requests``, and keeps it.

        Raises:
            ServerError: The file is not the one that the model was exported with, or cannot be read.
        """
        content = b"".join(read_output(part, "content").tobytes() for part in parts)
        digest = hashlib.sha256(content).hexdigest()
        if digest != info.tokenizer_sha256:
            self.expire()  # the model may have been replaced in between
            raise ServerError(
                f"{info.tokenizer} serves a file with SHA-256 {digest}, but {info.name} was exported with "
                f"{info.tokenizer_sha256}: export it again"
            )
        tokenizer = TextTokenizer(content)
        self._tokenizers = {**self._tokenizers, digest: tokenizer}
        return tokenizer

    def _find(self, name: str | None, tasks: Sequence[Task]) -> ModelInfo | None:
        if name is not None:
            return self._reading.models.get(name)
        fitting = (info for info in self._reading.models.values() if info.task in tasks)
        return min(fitting, key=lambda info: (not info.ready, info.task is not Task.EMBEDDING, info.name), default=None)

    def _missing(self, name: str | None, tasks: Sequence[Task]) -> ModelNotFoundError | ServerError:
        if name is None:
            return ModelNotFoundError(f"the server has no model for this; {self._listed(tasks)}")
        if name in self._reading.unreadable:
            return ServerError(self._reading.unreadable[name])
        return ModelNotFoundError(f"the server has no model {name!r}; {self._listed(tasks)}")

    def _listed(self, tasks: Sequence[Task]) -> str:
        names = [info.name for info in self._reading.models.values() if info.task in tasks]
        return f"it has: {', '.join(names) or 'none'} ({' or '.join(tasks)})"


def require_ready(info: ModelInfo) -> ModelInfo:
    """The model itself; raises UnavailableError when the server has not loaded it."""
    if not info.ready:
        raise UnavailableError(f"{info.name} is not loaded; see the server's log")
    return info


def names_to_read(index: pb.RepositoryIndexResponse) -> list[str]:
    """Models that are ready and may be public ones, and encoders; other parts are known by their suffix."""
    return sorted(
        {entry.name for entry in index.models if entry.state == "READY" and not entry.name.endswith(_NOT_READ)}
    )


def tokenizer_requests(info: ModelInfo) -> list[pb.ModelInferRequest]:
    """Requests for a model's ``tokenizer.json``, in parts that any message limit lets through."""
    begins = range(0, info.tokenizer_bytes, FILE_PART_BYTES)
    return [
        range_request(info.tokenizer, begin, min(begin + FILE_PART_BYTES, info.tokenizer_bytes)) for begin in begins
    ]


def is_conch_model(config: model_config_pb2.ModelConfig) -> bool:
    """Whether a Triton model is the public face of a conch model (and not one of its parts, or somebody else's)."""
    return FORMAT_PARAMETER in config.parameters


def read_model_info(
    config: model_config_pb2.ModelConfig, others: Mapping[str, model_config_pb2.ModelConfig] = _NO_OTHERS
) -> ModelInfo:
    """Reads the ensemble's configuration of a model that is ready; its encoder's is among the others, if known.

    Raises:
        ServerError: A parameter is missing or malformed, or the format is another than this client's.
    """
    steps = [others[step.model_name] for step in config.ensemble_scheduling.step if step.model_name in others]
    instances = max((sum(group.count for group in step.instance_group) for step in steps), default=0)
    try:
        return ModelInfo.from_parameters(
            config.name,
            {name: parameter.string_value for name, parameter in config.parameters.items()},
            inputs=tuple(tensor.name for tensor in config.input),
            output=config.output[0].name if config.output else "",
            max_rows=max(1, config.max_batch_size),
            instances=instances or None,
        )
    except DescriptionError as error:
        raise ServerError(str(error)) from error
