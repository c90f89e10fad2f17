"""Model descriptions from the configurations that Triton serves."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from conch_contract import FORMAT_PARAMETER, DescriptionError, ModelInfo

from conch_client._errors import ServerError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tritonclient.grpc import model_config_pb2

_NONE: Mapping[str, model_config_pb2.ModelConfig] = MappingProxyType({})


def is_conch_model(config: model_config_pb2.ModelConfig) -> bool:
    """Whether a Triton model is the public face of a conch model (and not one of its parts, or somebody else's)."""
    return FORMAT_PARAMETER in config.parameters


def read_model_info(
    config: model_config_pb2.ModelConfig, others: Mapping[str, model_config_pb2.ModelConfig] = _NONE
) -> ModelInfo:
    """Reads the ensemble's configuration of a model that is ready; its encoder's is among the others, if known.

    Raises:
        ServerError: A parameter is missing or unreadable, or the format is another than this client's.
    """
    try:
        return ModelInfo.from_parameters(
            config.name,
            {name: parameter.string_value for name, parameter in config.parameters.items()},
            inputs=tuple(tensor.name for tensor in config.input),
            output=config.output[0].name if config.output else "",
            max_rows=max(1, config.max_batch_size),
            instances=_instances(config, others),
        )
    except DescriptionError as error:
        raise ServerError(str(error)) from error


def _instances(config: model_config_pb2.ModelConfig, others: Mapping[str, model_config_pb2.ModelConfig]) -> int | None:
    steps = [others[step.model_name] for step in config.ensemble_scheduling.step if step.model_name in others]
    return max((sum(group.count for group in step.instance_group) for step in steps), default=0) or None
