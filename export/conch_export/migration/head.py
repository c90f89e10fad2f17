"""Makes the Triton models of a bridge: the new model's head followed by the map, and the public model of both.

A bridge shares the encoder and the tokenizer of the new model, so it needs only the memory and time of a head.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import onnx
from conch_contract import ModelInfo, Task, head_name
from tritonclient.grpc import model_config_pb2 as pb

from conch_export.model.heads import Dense, Sum
from conch_export.onnx.builder import GraphBuilder
from conch_export.onnx.graph import Graph
from conch_export.onnx.heads.frame import through
from conch_export.triton.repository import graph_path, read_config

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from conch_export.model.heads import HeadLayer

_PREFIX = "bridge"
_BEFORE = "before_the_bridge"


def bridge_info(name: str, old: ModelInfo, new: ModelInfo, prompt_name: str, layers: Sequence[HeadLayer]) -> ModelInfo:
    """Return the description of a bridge.

    Args:
        name: name of its public model.
        old: the model to whose space it maps vectors.
        new: the model whose vectors they are.
        prompt_name: name of the prompt with which it was fitted; empty for none.
        layers: the map.
    """
    return replace(
        new,
        name=name,
        base=new.name,
        description=f"Vectors of {new.name}, mapped close to those of {old.name}.",
        dimension=old.dimension,
        normalized=old.normalized,
        similarity=old.similarity,
        prompts={prompt_name: new.prompts[prompt_name]} if prompt_name else {},
        default_prompt_name=prompt_name or None,
        matryoshka_dimensions=None,
        matryoshka_centred=False,
        bridge_sha256=_digest(layers),
        bridges_to=old.space_id,
    )


def bridge_models(repository: Path, info: ModelInfo) -> dict[str, pb.ModelConfig]:
    """Return the configurations of a bridge's Triton models by name, derived from those of its base."""
    head, public = pb.ModelConfig(), pb.ModelConfig()
    base = str(info.base)
    head.CopyFrom(read_config(repository, head_name(base, Task.EMBEDDING)))
    public.CopyFrom(read_config(repository, base))
    head.name, public.name = head_name(info.name, Task.EMBEDDING), info.name
    public.ensemble_scheduling.step[1].model_name = head.name
    public.ClearField("parameters")
    for key, value in info.to_parameters().items():
        public.parameters[key].string_value = value
    for config in (head, public):
        config.output[0].dims[:] = [info.dimension or 0]
    return {config.name: config for config in (head, public)}


def bridge_graph(repository: Path, info: ModelInfo, layers: Sequence[HeadLayer]) -> Graph:
    """Return the graph of the base model's head, followed by the map."""
    base = Graph.load(graph_path(repository, head_name(str(info.base), Task.EMBEDDING)))
    g = GraphBuilder(prefix=f"{_PREFIX}.")
    g.adopt(base.model.graph.initializer, base.weights)
    g.nodes.extend(_renamed(node, info.output) for node in base.model.graph.node)
    g.node("Identity", through(g, _BEFORE, layers, _PREFIX), name=info.output)
    inputs = [(tensor.name, tensor.type.tensor_type.elem_type, _shape(tensor)) for tensor in base.model.graph.input]
    return Graph.of(g, "bridge", inputs, [(info.output, onnx.TensorProto.FLOAT, ["R", info.dimension or 0])])


def _renamed(node: onnx.NodeProto, output: str) -> onnx.NodeProto:
    """Return the node, with another name for the output of the graph."""
    other = onnx.NodeProto()
    other.CopyFrom(node)
    if output in node.output:
        other.output[:] = [_BEFORE]
        other.name = _BEFORE  # nodes are named after their outputs
    return other


def _shape(tensor: onnx.ValueInfoProto) -> list[int | str]:
    return [axis.dim_param or axis.dim_value for axis in tensor.type.tensor_type.shape.dim]


def _digest(layers: Sequence[HeadLayer]) -> str:
    """Return the SHA-256 of the map: of the kinds and weights of its layers."""
    digest = hashlib.sha256()
    for part in _parts(layers):
        digest.update(part)
    return digest.hexdigest()


def _parts(layers: Sequence[HeadLayer]) -> Iterator[bytes]:
    for layer in layers:
        yield type(layer).__name__.encode()
        if isinstance(layer, Sum):
            for branch in layer.branches:
                yield from _parts(branch)
        if isinstance(layer, Dense):
            yield layer.activation.encode()
            for array in (layer.linear.weight, layer.linear.bias):
                yield b"" if array is None else np.ascontiguousarray(array).tobytes()
