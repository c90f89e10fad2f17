"""The models of a server by name, as they were last read.

A redeployment can give a name to another model, with another tokenizer, and ids of the old tokenizer would then give
wrong vectors without any error. Therefore a reading counts for ``TTL_S`` seconds only, and is void at once when the
server could not be reached (it may have been replaced) or refused a request. A request is repeated only after the model
that it was made for was found unchanged; otherwise the call starts anew. With several servers each has a reading of its
own, and a request goes only to those whose reading has exactly the model that its ids were made for.
"""

from __future__ import annotations

import math
import time
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from conch_contract import ENCODER, FORMAT_PARAMETER, INNER_NAMES, DescriptionError, InvalidInputError, ModelInfo, Task

from conch_client._errors import ModelNotFoundError, ServerError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from tritonclient.grpc import model_config_pb2
    from tritonclient.grpc import service_pb2 as pb

TTL_S = 10.0
"""Seconds that a reading counts: the longest that a redeployment goes unnoticed while nothing fails."""

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
        instances: Of the encoder of each model that is ready; None where the server does not say.
    """

    at: float
    models: Mapping[str, ModelInfo] = MappingProxyType({})
    unreadable: Mapping[str, str] = MappingProxyType({})
    instances: Mapping[str, int | None] = MappingProxyType({})


class Catalog:
    """The last reading of one server, which is replaced and never changed, so that threads need no lock to read."""

    def __init__(self) -> None:
        self._reading = Reading(-math.inf)
        self._valid = False

    @property
    def reading(self) -> Reading:
        """The last one, whether it still counts or not."""
        return self._reading

    @property
    def age_s(self) -> float:
        """Seconds since the reading; infinity where none counts."""
        return time.monotonic() - self._reading.at if self._valid else math.inf

    def is_current(self) -> bool:
        """Whether the reading still counts."""
        return self.age_s <= TTL_S

    def is_newer_than(self, asked_at: float) -> bool:
        """Whether the reading began after that moment of the monotonic clock."""
        return self._valid and self._reading.at >= asked_at

    def is_valid(self) -> bool:
        """Whether nothing has voided the reading; a call that began with it may go on however old it becomes."""
        return self._valid

    def expire(self) -> None:
        """Voids the reading: the next call reads anew."""
        self._valid = False

    def has(self, info: ModelInfo) -> bool:
        """Whether the server has that very model, by a reading that nothing has voided."""
        return self._valid and self._reading.models.get(info.name) == info

    def update(
        self, at: float, index: pb.RepositoryIndexResponse, configs: Iterable[model_config_pb2.ModelConfig]
    ) -> None:
        """Replaces the reading by the server's index and the configurations of the models that it lists as ready."""
        if at < self._reading.at:  # one that began later has come first
            return
        models: dict[str, ModelInfo] = {}
        unreadable: dict[str, str] = {}
        by_name = {config.name: config for config in configs}
        for config in filter(is_conch_model, by_name.values()):
            try:
                models[config.name] = read_model_info(config, by_name)
            except ServerError as error:  # noqa: PERF203 - one bad model must not hide the others
                unreadable[config.name] = str(error)
        for name in {entry.name for entry in index.models} - by_name.keys():
            if name in self._reading.models:  # Triton does not describe unloaded models, but an earlier reading does
                models[name] = replace(self._reading.models[name], ready=False)
        instances = {name: info.instances for name, info in models.items() if info.ready}
        self._reading = Reading(at, dict(sorted(models.items())), unreadable, instances)
        self._valid = True


class Listing:
    """The models of several servers together; of several versions of a model, that of the first server.

    Args:
        readings: Of the servers, the one that should get the next call first.
    """

    def __init__(self, readings: Sequence[Reading]) -> None:
        self._readings = readings

    @property
    def models(self) -> dict[str, ModelInfo]:
        """All models by name; one that is not ready counts only where no server has it ready."""
        if len(self._readings) == 1:
            return dict(self._readings[0].models)
        found: dict[str, ModelInfo] = {}
        for reading in self._readings:
            for name, info in reading.models.items():
                if name not in found or (info.ready and not found[name].ready):
                    found[name] = info
        return dict(sorted(found.items()))

    def best(self, name: str | None, tasks: Sequence[Task]) -> ModelInfo | None:
        """The model of that name, or the first of these tasks; None if there is none."""
        if name is not None:
            found = [reading.models[name] for reading in self._readings if name in reading.models]
            return next((info for info in found if info.ready), found[0] if found else None)
        fitting = (info for info in self.models.values() if info.task in tasks)
        return min(fitting, key=lambda info: (not info.ready, info.task is not Task.EMBEDDING, info.name), default=None)

    def find(self, name: str | None, tasks: Sequence[Task]) -> ModelInfo:
        """The model of that name, or the first of these tasks.

        Raises:
            ModelNotFoundError: There is none; the message lists what there is.
            InvalidInputError: The model's task is another.
            ServerError: Its description cannot be read.
        """
        info = self.best(name, tasks)
        if info is None:
            raise self._missing(name, tasks)
        if info.task not in tasks:
            raise _other_task(info, self._listed(tasks))
        return info

    def _missing(self, name: str | None, tasks: Sequence[Task]) -> ModelNotFoundError | ServerError:
        if name is None:
            return ModelNotFoundError(f"the server has no model for this; {self._listed(tasks)}")
        for reading in self._readings:
            if name in reading.unreadable:
                return ServerError(reading.unreadable[name])
        return ModelNotFoundError(f"the server has no model {name!r}; {self._listed(tasks)}")

    def _listed(self, tasks: Sequence[Task]) -> str:
        names = [info.name for info in self.models.values() if info.task in tasks]
        kinds = "" if tasks == ANY_TASK else f" ({' or '.join(tasks)})"
        return f"it has: {', '.join(names) or 'none'}{kinds}"


def require_task(info: ModelInfo, tasks: Sequence[Task]) -> ModelInfo:
    """The model itself; raises InvalidInputError when it is of another task than these."""
    if info.task not in tasks:
        raise _other_task(info, f"pass one for {' or '.join(tasks)}")
    return info


def names_to_read(index: pb.RepositoryIndexResponse) -> list[str]:
    """Models that are ready and may be public ones, and encoders; other parts are known by their suffix."""
    return sorted(
        {entry.name for entry in index.models if entry.state == "READY" and not entry.name.endswith(_NOT_READ)}
    )


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


def _other_task(info: ModelInfo, remedy: str) -> InvalidInputError:
    call = _CALLS.get(info.task, "rerank")
    return InvalidInputError(f"{info.name} is a model for {call}() ({info.task}); {remedy}")
