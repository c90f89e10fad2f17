"""The committed model repository: configurations that Triton can read, that fit together and fit their graphs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from conch_export import DEFAULT, Pooling
from conch_export.checkpoints.checkpoint import Checkpoint
from conch_export.families import bert
from conch_export.model.heads import Pooled, Projection, Unit
from conch_export.onnx.encoder import encoder_graph
from conch_export.onnx.file import file_graph
from conch_export.onnx.heads import maxsim_graph, pooled_graph
from conch_export.sources.finder import resolve
from conch_export.triton.configuration import to_text
from google.protobuf import text_format
from onnx import TensorProto
from tritonclient.grpc import model_config_pb2 as pb

if TYPE_CHECKING:
    from conch_export.onnx.graph import Graph

REPOSITORY = Path(__file__).parents[2] / "model_repository"
PATHS = {path.parent.name: path for path in sorted(REPOSITORY.glob("*/config.pbtxt"))}
CONFIGS: dict[str, Any] = {
    name: text_format.Parse(path.read_text("utf-8"), pb.ModelConfig()) for name, path in PATHS.items()
}
ENSEMBLES = [name for name, config in CONFIGS.items() if config.platform == "ensemble"]
PUBLIC = {
    "conch_format", "task", "architecture", "precision", "description", "max_length", "tokenizer", "tokenizer_sha256",
    "tokenizer_bytes", "source", "revision", "weights_sha256", "checkpoint_sha256",
}  # fmt: skip
VECTORS = {"space_id", "normalize", "dimension", "prompts", "default_prompt_name"}
OF_TASK = {
    "embedding": VECTORS | {"pooling"},
    "multi-vector": VECTORS | {"base"},
    "late-interaction": {"base"},
}
ELEMENTS = {
    pb.TYPE_INT64: TensorProto.INT64,
    pb.TYPE_INT32: TensorProto.INT32,
    pb.TYPE_FP32: TensorProto.FLOAT,
    pb.TYPE_UINT8: TensorProto.UINT8,
}
every_model = pytest.mark.parametrize("name", CONFIGS)
every_ensemble = pytest.mark.parametrize("name", ENSEMBLES)


def parameters(name: str) -> dict[str, str]:
    return {key: value.string_value for key, value in CONFIGS[name].parameters.items()}


def test_the_default_model_is_there_with_all_its_parts() -> None:
    parts = {f"{DEFAULT.name}.{part}" for part in ("encoder", "pooling", "tokenizer")}
    derived = {f"{DEFAULT.name}-{part}" for part in ("tokens", "maxsim", "maxsim.maxsim")}
    assert set(CONFIGS) == {DEFAULT.name} | parts | derived


@every_model
def test_a_configuration_is_named_as_its_folder_and_is_written_as_export_writes_it(name: str) -> None:
    assert CONFIGS[name].name == name
    assert to_text(CONFIGS[name]) == PATHS[name].read_text("utf-8")


@every_model
def test_every_model_says_how_many_instances_and_threads_it_takes(name: str) -> None:
    config = CONFIGS[name]
    if name in ENSEMBLES:
        assert not config.HasField("dynamic_batching")
        return
    assert config.backend == "onnxruntime"
    assert {group.kind for group in config.instance_group} == {pb.ModelInstanceGroup.KIND_CPU}
    if not name.endswith(".encoder"):
        assert sum(group.count for group in config.instance_group) == 1
    assert int(parameters(name)["intra_op_thread_count"]) >= 1
    assert config.HasField("dynamic_batching") == bool(config.max_batch_size)
    assert config.dynamic_batching.max_queue_delay_microseconds == 0


@pytest.mark.parametrize("name", [name for name in CONFIGS if name.endswith(".encoder")])
def test_requests_that_come_one_by_one_meet_the_same_instance(name: str) -> None:
    first, *others = CONFIGS[name].instance_group
    assert first.count == 1
    assert all(group.rate_limiter.priority > 100 * first.rate_limiter.priority for group in others)


@every_ensemble
def test_an_ensemble_joins_models_that_are_there_by_tensors_that_they_have(name: str) -> None:
    ensemble = CONFIGS[name]
    known = {tensor.name: (tensor.data_type, list(tensor.dims)) for tensor in ensemble.input}
    for step in ensemble.ensemble_scheduling.step:
        model = CONFIGS[step.model_name]
        assert model.max_batch_size >= ensemble.max_batch_size
        assert set(step.input_map) == {tensor.name for tensor in model.input}
        for tensor in model.input:
            assert known[step.input_map[tensor.name]] == (tensor.data_type, list(tensor.dims))
        for tensor in model.output:
            known[step.output_map[tensor.name]] = (tensor.data_type, list(tensor.dims))
    for tensor in ensemble.output:
        assert known[tensor.name] == (tensor.data_type, list(tensor.dims))


@every_ensemble
def test_clients_take_what_tokenizers_give(name: str) -> None:
    for tensor in CONFIGS[name].input:
        assert (tensor.data_type, list(tensor.dims)) == (pb.TYPE_INT64, [-1])
    assert [tensor.name for tensor in CONFIGS[name].input] == ["input_ids", "attention_mask"]


@every_ensemble
def test_public_models_tell_a_client_all_it_needs(name: str) -> None:
    told = parameters(name)
    assert set(told) - {"matryoshka_dimensions"} == PUBLIC | OF_TASK[told["task"]]
    assert told["conch_format"] == "1"
    assert told["tokenizer"] in CONFIGS
    assert int(told["max_length"]) > 2
    assert told.get("base") in {None, *(base for base in ENSEMBLES if "base" not in parameters(base))}
    if told["task"] != "late-interaction":
        assert int(told["dimension"]) == CONFIGS[name].output[0].dims[-1]
        assert told["normalize"] in {"true", "false"}
        assert isinstance(json.loads(told["prompts"]), dict)
        assert told["default_prompt_name"] in {"", *json.loads(told["prompts"])}


@pytest.mark.parametrize("name", sorted(set(CONFIGS) - set(ENSEMBLES)))
def test_parts_do_not_pass_for_public_models(name: str) -> None:
    assert "conch_format" not in parameters(name)


def test_the_default_model_is_what_its_authors_published() -> None:
    source, told = resolve(DEFAULT.name), parameters(DEFAULT.name)
    assert told["weights_sha256"] == source.weights_sha256
    assert (source.folder / "tokenizer.json").stat().st_size == int(told["tokenizer_bytes"])


@pytest.fixture(scope="module")
def graphs() -> dict[str, Graph]:
    """Every graph of the default model; the encoder without its layers, which change no input or output."""
    name, told = DEFAULT.name, parameters(DEFAULT.name)
    checkpoint = Checkpoint(resolve(name).folder)
    encoder = replace(bert.FAMILY.read_encoder(checkpoint.config, checkpoint.weights), layers=())
    assert told["normalize"] == "true"
    pooled = Pooled(Pooling(told["pooling"]), (Unit(),))
    return {
        f"{name}.encoder": encoder_graph(encoder),
        f"{name}.pooling": pooled_graph(encoder.hidden, pooled, "embedding", encoder.hidden),
        f"{name}.tokenizer": file_graph("tokenizer.json", int(told["tokenizer_bytes"])),
        f"{name}-maxsim.maxsim": maxsim_graph(encoder.hidden, Projection(), ()),
    }


@pytest.mark.parametrize("name", sorted(set(CONFIGS) - set(ENSEMBLES)))
def test_a_configuration_describes_its_graph(graphs: dict[str, Graph], name: str) -> None:
    config, graph = CONFIGS[name], graphs[name].model.graph
    stated = {tensor.name: tensor.data_type for tensor in config.input}
    stated |= {batch.target_name[0]: batch.data_type for batch in config.batch_input}
    assert {tensor.name: tensor.type.tensor_type.elem_type for tensor in graph.input} == {
        key: ELEMENTS[kind] for key, kind in stated.items()
    }
    assert {tensor.name: tensor.type.tensor_type.elem_type for tensor in graph.output} == {
        tensor.name: ELEMENTS[tensor.data_type] for tensor in config.output
    }
    for tensor in graph.input:
        assert len(tensor.type.tensor_type.shape.dim) == 1  # what a ragged input must be
    for tensor, output in zip(graph.output, config.output, strict=True):
        last = tensor.type.tensor_type.shape.dim[-1]
        assert output.dims[-1] == (last.dim_value or -1)


@every_model
def test_ragged_inputs_come_with_what_tells_their_rows_apart(name: str) -> None:
    config = CONFIGS[name]
    ragged = [tensor.name for tensor in config.input if tensor.allow_ragged_batch]
    kinds = {batch.target_name[0]: (batch.kind, batch.data_type) for batch in config.batch_input}
    if ragged:
        assert ragged == [tensor.name for tensor in config.input]
        assert kinds["row_lengths"] == (pb.BatchInput.BATCH_ITEM_SHAPE_FLATTEN, pb.TYPE_INT32)
        told = [b for b in config.batch_input if b.kind == pb.BatchInput.BATCH_ITEM_SHAPE_FLATTEN]
        assert sorted(source for batch in told for source in batch.source_input) == sorted(ragged)
    else:
        assert not kinds
    assert ("request_elements" in kinds) == name.endswith(".maxsim")


@every_model
def test_triton_forms_batches_ahead(name: str) -> None:
    """It does only without limits of its queue: with them an instance may be idle for half a second (ADR 43)."""
    config = CONFIGS[name]
    queues = config.HasField("dynamic_batching")
    assert queues == (config.max_batch_size > 0 and not config.HasField("ensemble_scheduling"))
    assert not config.dynamic_batching.HasField("default_queue_policy")
    assert not config.dynamic_batching.priority_levels
