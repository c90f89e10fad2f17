"""The `config.pbtxt` of every Triton model that serves a description: the one contract between export and clients."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from conch_contract import ModelInfo, Task, encoder_name, tokenizer_name
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from conch_export.model.description import Description, EmbeddingModel, GenerativeReranker, SparseModel, interaction_of
from conch_export.model.parts import Part, parts
from conch_export.onnx.encoder import Target
from conch_export.onnx.heads import REQUEST_ELEMENTS, VECTORS
from conch_export.onnx.layout import ROW_LENGTHS, lengths_name
from conch_export.triton.plan import PerCore

if TYPE_CHECKING:
    from conch_export.triton.plan import Plan, Queue

PER_CORE = "per_core"
"""Parameter that tells `conch serve` what to set to the cores of its machine; Triton itself does not read it."""
_LAST_IN_TURN = 1000
TOKENIZER_FILE = "tokenizer.json"
_DESCRIPTIONS = {
    Task.EMBEDDING: "Text embeddings ({0.architecture}, {0.pooling.value} pooling).",
    Task.CROSS_ENCODER: "Cross-encoder ({0.architecture}).",
    Task.MULTI_VECTOR: "A vector for every token ({0.architecture}).",
    Task.SPARSE: "Weights of words ({0.architecture}).",
    Task.LATE_INTERACTION: "Late interaction: MaxSim over the token vectors of {0.name}",
}
_NOT_TRAINED = ", an embedding model; not trained for reranking."


def triton_models(description: Description, plan: Plan) -> dict[str, pb.ModelConfig]:
    """Every Triton model of a description, by name."""
    configs = [_encoder(description, plan), _file(tokenizer_name(description.name))]
    for part in parts(description):
        configs += [] if part.step is None else [_step(description, plan, part, part.step)]
        configs.append(_ensemble(description, plan, part))
    return {config.name: config for config in configs}


def step_instances(description: Description, instances: int) -> int:
    """Instances of what follows an encoder that has so many."""
    # A vocabulary's head computes about as much as the encoder does; the others next to nothing.
    return instances if isinstance(description, SparseModel) else 1


def to_text(config: pb.ModelConfig) -> str:
    """config.pbtxt, the same text for the same configuration."""
    text: str = text_format.MessageToString(config, as_utf8=True)
    return text


def _matrices(description: Description, *, ragged: bool) -> list[pb.ModelInput]:
    names = ["input_ids", "attention_mask", *(["token_type_ids"] if description.segments else [])]
    return [_input(name, pb.TYPE_INT64, [-1], ragged=ragged) for name in names]


def _input(name: str, data_type: int, dims: list[int], *, ragged: bool = False) -> pb.ModelInput:
    return pb.ModelInput(name=name, data_type=data_type, dims=dims, allow_ragged_batch=ragged)


def _onnx(name: str, max_rows: int, instances: int, threads: int, queue: Queue | None = None) -> pb.ModelConfig:
    config = pb.ModelConfig(name=name, backend="onnxruntime", max_batch_size=max_rows)
    config.instance_group.add(kind=pb.ModelInstanceGroup.KIND_CPU, count=1)
    if instances > 1:
        _prefer_the_first(config, instances - 1)
    for key, value in (("intra_op_thread_count", threads), ("inter_op_thread_count", 1)):
        config.parameters[key].string_value = str(value)
    if queue is not None:
        # Ensembles have no queue of their own: what waits, waits for a step.
        policy = config.dynamic_batching.default_queue_policy
        policy.max_queue_size = queue.requests
        policy.default_timeout_microseconds = queue.timeout_s * 1_000_000
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
    kind = pb.BatchInput.BATCH_ITEM_SHAPE_FLATTEN
    for tensor in config.input:
        name = ROW_LENGTHS if tensor.name == leading else lengths_name(tensor.name)
        config.batch_input.add(kind=kind, target_name=[name], data_type=pb.TYPE_INT32, source_input=[tensor.name])


def _encoder(description: Description, plan: Plan) -> pb.ModelConfig:
    config = _onnx(encoder_name(description.name), plan.max_rows, plan.instances, plan.threads, plan.queue)
    if plan.target is Target.CUDA:
        config.instance_group[0].kind = pb.ModelInstanceGroup.KIND_GPU
    _say_per_core(config, plan.per_core)
    config.input.extend(_matrices(description, ragged=True))
    _add_lengths(config, "input_ids")
    config.output.add(name="token_embeddings", data_type=pb.TYPE_FP32, dims=[-1, description.hidden])
    config.batch_output.append(_scattered("token_embeddings", "input_ids"))
    return config


def _step(description: Description, plan: Plan, part: Part, name: str) -> pb.ModelConfig:
    instances = step_instances(description, plan.instances)
    config = _onnx(name, plan.max_rows, instances, 1, plan.queue)
    if instances > 1:
        _say_per_core(config, plan.per_core)
    config.input.append(_input("token_embeddings", pb.TYPE_FP32, [-1, description.hidden], ragged=True))
    config.input.append(_input("attention_mask", pb.TYPE_INT64, [-1], ragged=True))
    if _takes_ids(description, part):
        config.input.append(_input("input_ids", pb.TYPE_INT64, [-1], ragged=True))
    _add_lengths(config, "attention_mask")
    config.output.extend(_outputs(part))
    if part.task is Task.MULTI_VECTOR:
        config.output[0].name = VECTORS
        config.batch_output.append(_scattered(VECTORS, "attention_mask"))
    if part.task is Task.LATE_INTERACTION:
        kind, source = pb.BatchInput.BATCH_ELEMENT_COUNT, ["attention_mask"]
        config.batch_input.add(kind=kind, target_name=[REQUEST_ELEMENTS], data_type=pb.TYPE_INT32, source_input=source)
    return config


def _takes_ids(description: Description, part: Part) -> bool:
    """Whether the step needs to know the words: to name them, or to leave some out."""
    if part.task is Task.LATE_INTERACTION:
        rules = interaction_of(description)
        return rules is not None and bool(rules.skip_list)
    return part.task is Task.SPARSE and part.base is not None


def _outputs(part: Part) -> list[pb.ModelOutput]:
    if part.task is Task.SPARSE:
        kinds = {"indices": pb.TYPE_INT32, "weights": pb.TYPE_FP32}
        return [pb.ModelOutput(name=name, data_type=kind, dims=[-1]) for name, kind in kinds.items()]
    name, dims = {
        Task.EMBEDDING: ("embedding", [part.dimension]),
        Task.MULTI_VECTOR: ("token_embeddings", [-1, part.dimension]),
    }.get(part.task, ("score", [1]))
    return [pb.ModelOutput(name=name, data_type=pb.TYPE_FP32, dims=dims)]


def _scattered(name: str, source: str) -> pb.BatchOutput:
    kind = pb.BatchOutput.BATCH_SCATTER_WITH_INPUT_SHAPE
    return pb.BatchOutput(kind=kind, target_name=[name], source_input=[source])


def _file(name: str) -> pb.ModelConfig:
    config = _onnx(name, max_rows=0, instances=1, threads=1)
    config.input.append(_input("range", pb.TYPE_INT64, [2]))
    config.output.add(name="content", data_type=pb.TYPE_UINT8, dims=[-1])
    return config


def _ensemble(description: Description, plan: Plan, part: Part) -> pb.ModelConfig:
    config = pb.ModelConfig(name=part.name, platform="ensemble", max_batch_size=plan.max_rows)
    config.input.extend(_matrices(description, ragged=False))
    config.output.extend(_outputs(part))
    encoded = "token_embeddings" if part.step is None or part.task is not Task.MULTI_VECTOR else "encoded"
    encoder = config.ensemble_scheduling.step.add(model_name=encoder_name(description.name), model_version=-1)
    encoder.input_map.update({tensor.name: tensor.name for tensor in config.input})
    encoder.output_map["token_embeddings"] = encoded
    if part.step is not None:
        step = config.ensemble_scheduling.step.add(model_name=part.step, model_version=-1)
        step.input_map.update({"token_embeddings": encoded, "attention_mask": "attention_mask"})
        step.input_map.update({"input_ids": "input_ids"} if _takes_ids(description, part) else {})
        names = {VECTORS: "token_embeddings"} if encoded == "encoded" else {o.name: o.name for o in config.output}
        step.output_map.update(names)
    for key, value in _info(description, part, config).to_parameters().items():
        config.parameters[key].string_value = value
    return config


def _info(description: Description, part: Part, config: pb.ModelConfig) -> ModelInfo:
    """What clients read of a public model."""
    facts: dict[str, Any] = {}
    if part.task is Task.EMBEDDING and isinstance(description, EmbeddingModel):
        facts |= {
            "pooling": description.pooling.value,
            "normalized": description.normalize,
            "similarity": description.similarity,
            "matryoshka_dimensions": description.matryoshka,
            "matryoshka_centred": bool(description.matryoshka) and description.matryoshka_centred,
        }
    if part.task is Task.MULTI_VECTOR:
        facts["normalized"] = part.step is not None
    if part.task is not Task.LATE_INTERACTION:
        facts |= {"prompts": description.prompts, "default_prompt_name": description.default_prompt_name}
    return ModelInfo(
        name=part.name,
        task=part.task,
        base=part.base,
        architecture=description.architecture,
        precision=description.precision.value,
        description=_described(description, part),
        max_length=description.max_length,
        max_rows=config.max_batch_size,
        inputs=tuple(tensor.name for tensor in config.input),
        output=config.output[0].name,
        tokenizer=tokenizer_name(description.name),
        tokenizer_sha256=description.tokenizer_sha256,
        tokenizer_bytes=description.tokenizer_bytes,
        source=description.source.origin,
        revision=description.source.revision,
        weights_sha256=description.source.weights_sha256,
        code_sha256=description.source.code_sha256,
        dimension=part.dimension or None,
        pair_template=description.pair_template if isinstance(description, GenerativeReranker) else None,
        interaction=interaction_of(description),
        **facts,
    )


def _described(description: Description, part: Part) -> str:
    text = _DESCRIPTIONS[part.task].format(description)
    if part.task is not Task.LATE_INTERACTION:
        return text
    untrained = isinstance(description, EmbeddingModel) and not description.projected
    return text + (_NOT_TRAINED if untrained else ".")
