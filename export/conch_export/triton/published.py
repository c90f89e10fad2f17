"""What a repository serves under a name, read back from its configurations: the mirror image of `triton_models`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from conch_contract import ModelInfo, Task, derived_name, encoder_name
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from conch_export.errors import SourceError
from conch_export.model.description import (
    CrossEncoder,
    Description,
    EmbeddingModel,
    GenerativeReranker,
    MultiVectorModel,
    Packing,
    Pooling,
    Precision,
    SparseModel,
)
from conch_export.onnx.encoder import Target
from conch_export.sources.source import Source
from conch_export.triton.configuration import PER_CORE
from conch_export.triton.ownership import owned
from conch_export.triton.plan import PerCore, Plan
from conch_export.verification.report import read_report

if TYPE_CHECKING:
    from pathlib import Path


def published(repository: Path, name: str) -> tuple[Description, Target]:
    """A public model as it was described when it was exported, as far as serving depends on it, and what it runs on.

    Its source's folder holds the tokenizer and nothing else.

    Raises:
        SourceError: there is no such model, it is derived from another, or its files are not those that were exported.
    """
    report = _report(repository, name)
    try:
        return _described(repository, name, report)
    except (LookupError, ValueError, TypeError, AttributeError) as error:
        message = f"{name} does not describe itself as an exported model does ({error!r}): export it again"
        raise SourceError(message) from error


def _described(repository: Path, name: str, report: dict[str, Any]) -> tuple[Description, Target]:
    ensemble, encoder = _config(repository, name), _config(repository, encoder_name(name))
    stated = ModelInfo.from_parameters(
        name,
        {key: value.string_value for key, value in ensemble.parameters.items()},
        inputs=tuple(tensor.name for tensor in ensemble.input),
        output=ensemble.output[0].name,
        max_rows=ensemble.max_batch_size,
    )
    derived, tokens = owned(repository, name), derived_name(name, Task.MULTI_VECTOR)
    common: dict[str, Any] = {
        "name": name,
        "source": Source(
            repository / stated.tokenizer / "1",
            stated.source,
            stated.revision,
            stated.weights_sha256,
            code_sha256=stated.code_sha256 or "",
        ),
        "architecture": stated.architecture,
        "precision": Precision(stated.precision),
        "packing": Packing(report["packing"]),
        "hidden": encoder.output[0].dims[-1],
        "vocabulary": 0,
        "max_length": stated.max_length,
        "segments": "token_type_ids" in stated.inputs,
        "tokenizer_sha256": stated.tokenizer_sha256,
        "tokenizer_bytes": stated.tokenizer_bytes,
        "prompts": stated.prompts,
        "default_prompt_name": stated.default_prompt_name or "",
    }
    dimension = stated.dimension or 0
    vectors: dict[str, Any] = {
        "dimension": dimension,
        "late_interaction": derived_name(name, Task.LATE_INTERACTION) in derived,
    }
    description: Description
    match stated.task:
        case Task.CROSS_ENCODER if stated.pair_template:
            description = GenerativeReranker(**common, pair_template=stated.pair_template)
        case Task.CROSS_ENCODER:
            description = CrossEncoder(**common)
        case Task.SPARSE:
            description = SparseModel(**common | {"vocabulary": dimension})
        case Task.MULTI_VECTOR:
            description = MultiVectorModel(**common, **vectors, interaction=stated.interaction)
        case _:
            description = EmbeddingModel(
                **common,
                **vectors,
                pooling=Pooling(stated.pooling),
                normalize=stated.normalized,
                projected=_projected(repository, tokens) if tokens in derived else 0,
                lexical=derived_name(name, Task.SPARSE) in derived,
            )
    return description, _target(encoder)


def planned(repository: Path, name: str) -> Plan | None:
    """What a public model's configurations are planned for, the queue aside; None where there are none.

    Raises:
        SourceError: the encoder's configuration cannot be read.
    """
    if not (repository / encoder_name(name) / "config.pbtxt").exists():
        return None
    encoder = _config(repository, encoder_name(name))
    return Plan(
        instances=sum(group.count for group in encoder.instance_group),
        threads=int(encoder.parameters["intra_op_thread_count"].string_value or 1),
        max_rows=encoder.max_batch_size,
        target=_target(encoder),
        per_core=PerCore(encoder.parameters[PER_CORE].string_value if PER_CORE in encoder.parameters else ""),
    )


def _target(encoder: pb.ModelConfig) -> Target:
    on_gpu = any(group.kind == pb.ModelInstanceGroup.KIND_GPU for group in encoder.instance_group)
    return Target.CUDA if on_gpu else Target.CPU


def _report(repository: Path, name: str) -> dict[str, Any]:
    report = read_report(repository, name)
    if report is not None:
        return report
    if not (repository / name / "config.pbtxt").exists():
        message = f"{repository} has no model {name!r}: `conch models` lists what it has, `conch export` adds to it"
        raise SourceError(message)
    base = _config(repository, name).parameters["base"].string_value
    if base:
        message = f"{name} is derived from {base}: verify that, which verifies both"
    else:
        message = f"{name} is damaged, files that its report states are missing or of another size: export it again"
    raise SourceError(message)


def _config(repository: Path, name: str) -> pb.ModelConfig:
    path = repository / name / "config.pbtxt"
    try:
        return text_format.Parse(path.read_text("utf-8"), pb.ModelConfig())
    except (OSError, ValueError, text_format.ParseError) as error:
        message = f"{path} is damaged ({error}): export the model again"
        raise SourceError(message) from error


def _projected(repository: Path, name: str) -> int:
    """Length of the vectors that a step behind the encoder makes for late interaction; 0 where there is no step."""
    config = _config(repository, name)
    return int(config.output[0].dims[-1]) if len(config.ensemble_scheduling.step) > 1 else 0
