"""The `config.pbtxt` of every Triton model that serves a description: the one contract between export and clients."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from conch_export.description import Description, Task
from conch_export.graphs.encoder import Target
from conch_export.graphs.heads import REQUEST_ELEMENTS
from conch_export.graphs.ragged import ROW_LENGTHS

if TYPE_CHECKING:
    from conch_export.plan import Plan

FORMAT = "1"
"""Version of the meaning of the public models' parameters."""
_LAST_IN_TURN = 1000
TOKENIZER_FILE = "tokenizer.json"
LATE_INTERACTION = (
    "Late interaction: MaxSim over the token vectors of {name}, an embedding model; not trained for reranking."
)


def triton_models(description: Description, plan: Plan, *, late_interaction: bool) -> dict[str, pb.ModelConfig]:
    """Every Triton model of a description, by name."""
    head = head_name(description)
    configs = [
        _encoder(description, plan),
        _head(description, plan, head),
        _file(f"{description.name}.tokenizer"),
        _ensemble(description, plan, description.name, head, _parameters(description)),
    ]
    if late_interaction:
        name = f"{description.name}-maxsim"
        configs += [
            _maxsim(description, plan, f"{name}.maxsim"),
            _ensemble(description, plan, name, f"{name}.maxsim", _late_interaction_parameters(description)),
        ]
    return {config.name: config for config in configs}


def head_name(description: Description) -> str:
    """The Triton model that follows the encoder."""
    return f"{description.name}.{'pooling' if description.task is Task.EMBEDDING else 'classifier'}"


def model_names(name: str) -> set[str]:
    """Every Triton model that an export under this name may make."""
    parts = {f"{name}.{part}" for part in ("encoder", "pooling", "classifier", "tokenizer")}
    return parts | {name, f"{name}-maxsim", f"{name}-maxsim.maxsim"}


def to_text(config: pb.ModelConfig) -> str:
    """config.pbtxt, the same text for the same configuration."""
    text: str = text_format.MessageToString(config, as_utf8=True)
    return text


def _matrices(description: Description, *, ragged: bool) -> list[pb.ModelInput]:
    names = ["input_ids", "attention_mask", *(["token_type_ids"] if description.segments else [])]
    return [_input(name, pb.TYPE_INT64, [-1], ragged=ragged) for name in names]


def _input(name: str, data_type: int, dims: list[int], *, ragged: bool = False) -> pb.ModelInput:
    return pb.ModelInput(name=name, data_type=data_type, dims=dims, allow_ragged_batch=ragged)


def _onnx(name: str, max_rows: int, instances: int, threads: int) -> pb.ModelConfig:
    config = pb.ModelConfig(name=name, backend="onnxruntime", max_batch_size=max_rows)
    config.instance_group.add(kind=pb.ModelInstanceGroup.KIND_CPU, count=1)
    if instances > 1:
        _prefer_the_first(config, instances - 1)
    for key, value in (("intra_op_thread_count", threads), ("inter_op_thread_count", 1)):
        config.parameters[key].string_value = str(value)
    if max_rows:
        config.dynamic_batching.SetInParent()
    return config


def _prefer_the_first(config: pb.ModelConfig, others: int) -> None:
    """Let requests that come one by one meet the same instance, whose weights are still in the processor's cache.

    Triton takes turns otherwise. Its rate limiter gives an instance the next batch by executions times priority.
    """
    config.instance_group[0].name = "first"
    config.instance_group[0].rate_limiter.priority = 1
    config.instance_group.add(name="others", kind=pb.ModelInstanceGroup.KIND_CPU, count=others)
    config.instance_group[1].rate_limiter.priority = _LAST_IN_TURN


def _row_lengths(source: str) -> pb.BatchInput:
    kind = pb.BatchInput.BATCH_ITEM_SHAPE_FLATTEN
    return pb.BatchInput(kind=kind, target_name=[ROW_LENGTHS], data_type=pb.TYPE_INT32, source_input=[source])


def _encoder(description: Description, plan: Plan) -> pb.ModelConfig:
    config = _onnx(f"{description.name}.encoder", plan.max_rows, plan.instances, plan.threads)
    if plan.target is Target.CUDA:
        config.instance_group[0].kind = pb.ModelInstanceGroup.KIND_GPU
    config.input.extend(_matrices(description, ragged=True))
    config.batch_input.append(_row_lengths("input_ids"))
    config.output.add(name="token_embeddings", data_type=pb.TYPE_FP32, dims=[-1, description.hidden])
    config.batch_output.add(
        kind=pb.BatchOutput.BATCH_SCATTER_WITH_INPUT_SHAPE, target_name=["token_embeddings"], source_input=["input_ids"]
    )
    return config


def _head(description: Description, plan: Plan, name: str) -> pb.ModelConfig:
    config = _onnx(name, plan.max_rows, instances=1, threads=1)
    config.input.append(_input("token_embeddings", pb.TYPE_FP32, [-1, description.hidden], ragged=True))
    config.input.append(_input("attention_mask", pb.TYPE_INT64, [-1], ragged=True))
    config.batch_input.append(_row_lengths("attention_mask"))
    config.output.append(_output(description))
    return config


def _output(description: Description) -> pb.ModelOutput:
    if description.task is Task.EMBEDDING:
        return pb.ModelOutput(name="embedding", data_type=pb.TYPE_FP32, dims=[description.hidden])
    return _score()


def _score() -> pb.ModelOutput:
    return pb.ModelOutput(name="score", data_type=pb.TYPE_FP32, dims=[1])


def _maxsim(description: Description, plan: Plan, name: str) -> pb.ModelConfig:
    config = _head(description, plan, name)
    config.output[0].CopyFrom(_score())
    config.batch_input.add(
        kind=pb.BatchInput.BATCH_ELEMENT_COUNT,
        target_name=[REQUEST_ELEMENTS],
        data_type=pb.TYPE_INT32,
        source_input=["attention_mask"],
    )
    return config


def _file(name: str) -> pb.ModelConfig:
    config = _onnx(name, max_rows=0, instances=1, threads=1)
    config.input.append(_input("range", pb.TYPE_INT64, [2]))
    config.output.add(name="content", data_type=pb.TYPE_UINT8, dims=[-1])
    return config


def _ensemble(description: Description, plan: Plan, name: str, head: str, parameters: dict[str, str]) -> pb.ModelConfig:
    config = pb.ModelConfig(name=name, platform="ensemble", max_batch_size=plan.max_rows)
    config.input.extend(_matrices(description, ragged=False))
    config.output.append(_score() if head.endswith(".maxsim") else _output(description))
    encoder = config.ensemble_scheduling.step.add(model_name=f"{description.name}.encoder", model_version=-1)
    encoder.input_map.update({tensor.name: tensor.name for tensor in config.input})
    encoder.output_map.update({"token_embeddings": "token_embeddings"})
    step = config.ensemble_scheduling.step.add(model_name=head, model_version=-1)
    step.input_map.update({"token_embeddings": "token_embeddings", "attention_mask": "attention_mask"})
    step.output_map[config.output[0].name] = config.output[0].name
    for key, value in parameters.items():
        config.parameters[key].string_value = value
    return config


def _common_parameters(description: Description) -> dict[str, str]:
    return {
        "conch_format": FORMAT,
        "architecture": description.architecture,
        "precision": description.precision.value,
        "max_length": str(description.max_length),
        "tokenizer": f"{description.name}.tokenizer",
        "tokenizer_sha256": description.tokenizer_sha256,
        "tokenizer_bytes": str(description.tokenizer_bytes),
        "source": description.source.origin,
        "revision": description.source.revision,
        "weights_sha256": description.source.weights_sha256,
    }


def _parameters(description: Description) -> dict[str, str]:
    common = _common_parameters(description) | {"task": description.task.value}
    if description.pooling is None:
        return common | {"description": f"Cross-encoder ({description.architecture})."}
    return common | {
        "description": f"Text embeddings ({description.architecture}, {description.pooling.value} pooling).",
        "pooling": description.pooling.value,
        "normalize": str(description.normalize).lower(),
        "dimension": str(description.hidden),
        "prompts": json.dumps(description.prompts, sort_keys=True, ensure_ascii=False),
        "default_prompt_name": description.default_prompt_name,
    }


def _late_interaction_parameters(description: Description) -> dict[str, str]:
    return _common_parameters(description) | {
        "task": Task.LATE_INTERACTION.value,
        "description": LATE_INTERACTION.format(name=description.name),
    }
