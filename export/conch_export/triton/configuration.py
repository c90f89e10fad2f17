"""The `config.pbtxt` of every Triton model that serves a description: what export and clients agree on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from conch_contract import ModelInfo, Task, encoder_name, tokenizer_name
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from conch_export.model.description import (
    Classifier,
    EmbeddingModel,
    GenerativeReranker,
    StaticModel,
    Target,
    interaction_of,
)
from conch_export.model.public_models import PublicModel, public_models
from conch_export.onnx.layout import (
    CHUNK_ENDS,
    EMBEDDINGS,
    IDS,
    MASK,
    REQUEST_ELEMENTS,
    ROW_LENGTHS,
    TYPES,
    VECTORS,
    lengths_name,
)
from conch_export.triton.plan import PerCore

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from conch_export.model.description import Description
    from conch_export.triton.plan import Plan

PER_CORE = "per_core"
"""Parameter by which `conch serve` knows what to set to the cores of its machine; Triton itself does not read it."""
OWN_LENGTH = "own_length"
"""Parameter by which the embedded backend knows the input whose rows may have another length than the other inputs'."""
_LAST_IN_TURN = 1000
TOKENIZER_FILE = "tokenizer.json"
_DESCRIPTIONS = {
    Task.EMBEDDING: "Text embeddings ({0.architecture}, {0.pooling.value} pooling).",
    Task.CROSS_ENCODER: "Cross-encoder ({0.architecture}).",
    Task.CLASSIFICATION: "Classifier ({0.architecture}).",
    Task.MULTI_VECTOR: "A vector for every token ({0.architecture}).",
    Task.SPARSE: "Weights of words ({0.architecture}).",
    Task.LATE_CHUNKING: "Late chunking: vectors of a text's chunks, with {0.name}.",
    Task.LATE_INTERACTION: "Late interaction: MaxSim over the token vectors of {0.name}",
}
_NOT_TRAINED = ", an embedding model; not trained for reranking."


def triton_models(description: Description, plan: Plan) -> dict[str, pb.ModelConfig]:
    """Every Triton model of a description, by name."""
    configs = [_encoder(description, plan), _file(tokenizer_name(description.name))]
    for model in public_models(description):
        configs += [] if model.head is None else [_head(description, plan, model, model.head)]
        configs += [] if model.queries is None else [_queries(description, plan, model, model.queries)]
        configs.append(_ensemble(description, plan, model))
    return {config.name: config for config in configs}


def head_instances(description: Description, instances: int) -> int:
    """Instances of the head of an encoder that has so many."""
    # A vocabulary's head computes about as much as the encoder does; the others next to nothing.
    return instances if description.task is Task.SPARSE else 1


def to_text(config: pb.ModelConfig) -> str:
    """config.pbtxt, the same text for the same configuration."""
    text: str = text_format.MessageToString(config, as_utf8=True)
    return text


def save(configs: Mapping[str, pb.ModelConfig], folder: Path) -> None:
    """Write each configuration into a folder of its model's name, with a folder for its only version."""
    for name, config in configs.items():
        (folder / name / "1").mkdir(parents=True)
        (folder / name / "config.pbtxt").write_text(to_text(config), encoding="utf-8")


def _matrices(description: Description, *, ragged: bool) -> list[pb.ModelInput]:
    names = [IDS, MASK, *([TYPES] if description.segments else [])]
    return [_input(name, pb.TYPE_INT64, [-1], ragged=ragged) for name in names]


def _input(name: str, data_type: int, dims: list[int], *, ragged: bool = False) -> pb.ModelInput:
    return pb.ModelInput(name=name, data_type=data_type, dims=dims, allow_ragged_batch=ragged)


def _batching(name: str, plan: Plan, instances: int, threads: int) -> pb.ModelConfig:
    config = _onnx(name, plan.max_rows, instances, threads)
    config.dynamic_batching.SetInParent()
    if plan.queue is not None:
        # Ensembles have no queue of their own: requests wait for the models that they consist of.
        policy = config.dynamic_batching.default_queue_policy
        policy.max_queue_size = plan.queue.requests
        policy.default_timeout_microseconds = plan.queue.timeout_s * 1_000_000
    return config


def _onnx(name: str, max_rows: int, instances: int, threads: int) -> pb.ModelConfig:
    config = pb.ModelConfig(name=name, backend="onnxruntime", max_batch_size=max_rows)
    config.instance_group.add(kind=pb.ModelInstanceGroup.KIND_CPU, count=1)
    if instances > 1:
        _prefer_the_first(config, instances - 1)
    for key, value in (("intra_op_thread_count", threads), ("inter_op_thread_count", 1)):
        config.parameters[key].string_value = str(value)
    return config


def _prefer_the_first(config: pb.ModelConfig, others: int) -> None:
    """Let requests that come one by one meet the same instance, whose weights are still in the processor's cache.

    Triton takes turns otherwise. Its rate limiter gives an instance the next batch by executions times priority.
    """
    config.instance_group[0].name = "first"
    config.instance_group[0].rate_limiter.priority = 1
    config.instance_group.add(name="others", kind=pb.ModelInstanceGroup.KIND_CPU, count=others)
    config.instance_group[1].rate_limiter.priority = _LAST_IN_TURN


def _say_per_core(config: pb.ModelConfig, per_core: PerCore) -> None:
    if per_core is not PerCore.NOTHING:
        config.parameters[PER_CORE].string_value = per_core.value


def _add_lengths(config: pb.ModelConfig, leading: str) -> None:
    """Each input's length in every row; those of the leading one decide which slots there are."""
    # INT32 is the only integer type that Triton allows here, so graphs cast.
    kind = pb.BatchInput.BATCH_ITEM_SHAPE_FLATTEN
    for tensor in config.input:
        name = ROW_LENGTHS if tensor.name == leading else lengths_name(tensor.name)
        config.batch_input.add(kind=kind, target_name=[name], data_type=pb.TYPE_INT32, source_input=[tensor.name])


def _encoder(description: Description, plan: Plan) -> pb.ModelConfig:
    config = _batching(encoder_name(description.name), plan, plan.instances, plan.threads)
    if plan.target is Target.CUDA:
        config.instance_group[0].kind = pb.ModelInstanceGroup.KIND_GPU
    _say_per_core(config, plan.per_core)
    config.input.extend(_matrices(description, ragged=True))
    _add_lengths(config, IDS)
    if isinstance(description, StaticModel):
        config.output.extend(_outputs(public_models(description)[0]))
        return config
    config.output.add(name=EMBEDDINGS, data_type=pb.TYPE_FP32, dims=[-1, description.hidden])
    config.batch_output.append(_scattered(EMBEDDINGS, IDS))
    return config


def _queries(description: Description, plan: Plan, model: PublicModel, name: str) -> pb.ModelConfig:
    config = _batching(name, plan, 1, 1)
    config.input.extend(_matrices(description, ragged=True))
    _add_lengths(config, IDS)
    config.output.extend(_outputs(model))
    return config


def _head(description: Description, plan: Plan, model: PublicModel, name: str) -> pb.ModelConfig:
    instances = head_instances(description, plan.instances)
    config = _batching(name, plan, instances, 1)
    if instances > 1:
        _say_per_core(config, plan.per_core)
    config.input.append(_input(EMBEDDINGS, pb.TYPE_FP32, [-1, description.hidden], ragged=True))
    for tensor in (MASK, *([IDS] if _takes_ids(description, model) else [])):
        config.input.append(_input(tensor, pb.TYPE_INT64, [-1], ragged=True))
    if model.task is Task.LATE_CHUNKING:
        config.input.append(_input(CHUNK_ENDS, pb.TYPE_INT64, [-1], ragged=True))
        config.batch_output.append(_scattered("embeddings", CHUNK_ENDS))
        config.parameters[OWN_LENGTH].string_value = CHUNK_ENDS
    _add_lengths(config, MASK)
    config.output.extend(_outputs(model))
    if model.task is Task.MULTI_VECTOR:
        config.output[0].name = VECTORS
        config.batch_output.append(_scattered(VECTORS, MASK))
    if model.task is Task.LATE_INTERACTION:
        kind, target = pb.BatchInput.BATCH_ELEMENT_COUNT, [REQUEST_ELEMENTS]
        config.batch_input.add(kind=kind, target_name=target, data_type=pb.TYPE_INT32, source_input=[MASK])
    return config


def _takes_ids(description: Description, model: PublicModel) -> bool:
    """Whether the head needs token ids: to say which it weighs, or to leave out those on the skip list."""
    if model.task is Task.LATE_INTERACTION:
        rules = interaction_of(description)
        return rules is not None and bool(rules.skip_list)
    return model.task is Task.SPARSE and model.base is not None


def _outputs(model: PublicModel) -> list[pb.ModelOutput]:
    if model.task is Task.SPARSE:
        kinds = {"indices": pb.TYPE_INT32, "weights": pb.TYPE_FP32}
        return [pb.ModelOutput(name=name, data_type=kind, dims=[-1]) for name, kind in kinds.items()]
    name, dims = {
        Task.EMBEDDING: ("embedding", [model.dimension]),
        Task.CLASSIFICATION: ("logits", [model.dimension]),
        Task.LATE_CHUNKING: ("embeddings", [-1, model.dimension]),
        Task.MULTI_VECTOR: (EMBEDDINGS, [-1, model.dimension]),
    }.get(model.task, ("score", [1]))
    return [pb.ModelOutput(name=name, data_type=pb.TYPE_FP32, dims=dims)]


def _scattered(name: str, source: str) -> pb.BatchOutput:
    kind = pb.BatchOutput.BATCH_SCATTER_WITH_INPUT_SHAPE
    return pb.BatchOutput(kind=kind, target_name=[name], source_input=[source])


def _file(name: str) -> pb.ModelConfig:
    config = _onnx(name, max_rows=0, instances=1, threads=1)
    config.input.append(_input("range", pb.TYPE_INT64, [2]))
    config.output.add(name="content", data_type=pb.TYPE_UINT8, dims=[-1])
    return config


def _ensemble(description: Description, plan: Plan, model: PublicModel) -> pb.ModelConfig:
    config = pb.ModelConfig(name=model.name, platform="ensemble", max_batch_size=plan.max_rows)
    # Plain matrices: ragged features would be seen by clients, and are for the models inside only.
    config.input.extend(_matrices(description, ragged=False))
    config.output.extend(_outputs(model))
    # The ensemble's own output has this name where the head's answer are token vectors.
    encoded = "encoded" if model.head is not None and model.task is Task.MULTI_VECTOR else EMBEDDINGS
    encoder = config.ensemble_scheduling.step.add(model_name=encoder_name(description.name), model_version=-1)
    encoder.input_map.update({tensor.name: tensor.name for tensor in config.input})
    if isinstance(description, StaticModel):
        encoder.output_map.update({tensor.name: tensor.name for tensor in config.output})
    else:
        encoder.output_map[EMBEDDINGS] = encoded
    if model.task is Task.LATE_CHUNKING:
        config.input.append(_input(CHUNK_ENDS, pb.TYPE_INT64, [-1]))
    if model.head is not None:
        head = config.ensemble_scheduling.step.add(model_name=model.head, model_version=-1)
        head.input_map.update({EMBEDDINGS: encoded, MASK: MASK})
        head.input_map.update({IDS: IDS} if _takes_ids(description, model) else {})
        head.input_map.update({CHUNK_ENDS: CHUNK_ENDS} if model.task is Task.LATE_CHUNKING else {})
        names = {VECTORS: EMBEDDINGS} if encoded == "encoded" else {o.name: o.name for o in config.output}
        head.output_map.update(names)
    info = _info(description, model, config)
    for key, value in info.to_parameters().items():
        config.parameters[key].string_value = value
    return config


def _info(description: Description, model: PublicModel, config: pb.ModelConfig) -> ModelInfo:
    source = description.source
    return ModelInfo(
        name=model.name,
        task=model.task,
        base=model.base,
        architecture=description.architecture,
        precision=description.precision.value,
        description=_described(description, model.task),
        max_length=description.max_length,
        max_characters=description.max_characters if isinstance(description, StaticModel) else None,
        max_rows=config.max_batch_size,
        inputs=tuple(tensor.name for tensor in config.input),
        output=config.output[0].name,
        tokenizer=tokenizer_name(description.name),
        tokenizer_sha256=description.tokenizer_sha256,
        tokenizer_bytes=description.tokenizer_bytes,
        source=source.origin,
        revision=source.revision,
        weights_sha256=source.weights_sha256,
        checkpoint_sha256=source.checkpoint_sha256 or None,
        code_sha256=source.code_sha256,
        adapter=source.adapter,
        dimension=None if model.task is Task.CLASSIFICATION else model.dimension or None,
        interaction=interaction_of(description),
        query_model=model.queries,
        **_facts(description, model),
    )


def _facts(description: Description, model: PublicModel) -> dict[str, Any]:
    """Facts that only models of some tasks state."""
    if model.task is Task.LATE_INTERACTION:
        return {}
    facts = {"prompts": description.prompts, "default_prompt_name": description.default_prompt_name}
    if isinstance(description, Classifier):
        return {**facts, "labels": description.labels, "activation": description.activation}
    if isinstance(description, GenerativeReranker):
        template, instruction = description.pair_template, description.default_instruction
        return {**facts, "pair_template": template, "default_instruction": instruction or None}
    if model.task is Task.MULTI_VECTOR:
        skips_first = isinstance(description, EmbeddingModel) and description.skips_first
        return {**facts, "normalized": model.head is not None, "skips_first": skips_first}
    derived = model.base is not None and model.task is not Task.LATE_CHUNKING
    if derived or not isinstance(description, EmbeddingModel):
        return facts
    return {
        **facts,
        "pooling": description.pooling.value,
        "pools_prompt": description.pools_prompt,
        "normalized": description.normalize,
        "matryoshka_dimensions": description.matryoshka,
        "matryoshka_centred": description.matryoshka_centred,
        "similarity": description.similarity,
    }


def _described(description: Description, task: Task) -> str:
    text = _DESCRIPTIONS[task].format(description)
    if task is not Task.LATE_INTERACTION:
        return text
    untrained = isinstance(description, EmbeddingModel) and not description.projected
    return text + (_NOT_TRAINED if untrained else ".")
