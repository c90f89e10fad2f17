"""Reads what a browser needs of a public model: its graphs, its tokenizer, and its description.

Models that a browser cannot run are refused, with the reason.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import onnx
from conch_contract import FORMAT_PARAMETER, WEB_TASKS, ModelInfo

from conch_export.errors import UnsupportedError
from conch_export.model.description import Precision, Target
from conch_export.onnx.builder import MICROSOFT, graphs_in
from conch_export.onnx.graph import WEIGHTS_FILE
from conch_export.triton.configuration import TOKENIZER_FILE
from conch_export.triton.published import published
from conch_export.triton.repository import graph_path, info_of, owned, read_config

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

MOST_BYTES = 2**31 - 1
"""Largest file that fits into one ArrayBuffer in every browser."""
_DOMAINS = {"", "ai.onnx", MICROSOFT}
"""Domains of the operators that onnxruntime-web has."""
_UNSAID = {"ready", "instances", "max_rows", "inputs", "tokenizer", "tokenizer_sha256", "tokenizer_bytes"}
"""Attributes of `ModelInfo` that only concern a server."""


@dataclass(frozen=True)
class GraphFiles:
    """A graph's files in the repository.

    Attributes:
        role: its part of the model: `encoder`, `pooling`, `maxsim`.
        graph: path of its protobuf.
        weights: paths of its files of weights, by their names in the graph.
    """

    role: str
    graph: Path
    weights: Mapping[str, Path]


@dataclass(frozen=True)
class BrowserModel:
    """A public model and the models derived from it, as far as a browser can run them.

    Attributes:
        name: name of the public model.
        encoder: graph of the encoder, which all of them share.
        tokenizer: path of the tokenizer, which all of them share.
        heads: description of each model and the graph of its head; None if the encoder computes the answer.
        left_out: derived models that conch-web does not support, and what they are, by name.
    """

    name: str
    encoder: GraphFiles
    tokenizer: Path
    heads: tuple[tuple[ModelInfo, GraphFiles | None], ...]
    left_out: Mapping[str, str]

    @property
    def graphs(self) -> list[GraphFiles]:
        """The graphs of the encoder and of the heads."""
        return [self.encoder, *(head for _, head in self.heads if head is not None)]


def browser_model(repository: Path, name: str) -> BrowserModel:
    """Read a public model.

    Raises:
        SourceError: there is no such model, it is derived from another, or its files have changed since the export.
        UnsupportedError: browsers cannot run it; the message says why.
    """
    description, target = published(repository, name)
    if target is not Target.CPU or description.precision is Precision.FP16:
        msg = f"{name} was exported for a GPU, and a browser computes on the processor: export it with --target cpu"
        raise UnsupportedError(msg)
    infos = sorted(_public(repository, name), key=lambda info: info.base is not None)
    # A page asks for a task and not for a model, so it would never get the vectors of a bridge.
    answered = [info for info in infos if info.task in WEB_TASKS and info.bridge_sha256 is None]
    if not answered:
        msg = f"{name} is for {description.task}; in a browser conch-web answers {', '.join(WEB_TASKS)}"
        raise UnsupportedError(msg)
    parts = {info.name: _parts(repository, info) for info in answered}
    found = BrowserModel(
        name,
        encoder=next(iter(parts.values()))[0],
        tokenizer=repository / answered[0].tokenizer / "1" / TOKENIZER_FILE,
        heads=tuple((info, next(iter(parts[info.name][1:]), None)) for info in answered),
        left_out={
            each.name: "bridge" if each.bridge_sha256 else str(each.task) for each in infos if each not in answered
        },
    )
    for graph in found.graphs:
        _refuse_unrunnable(name, graph, answered[0].precision)
    return found


def facts(info: ModelInfo) -> dict[str, Any]:
    """Return the description of a model as JSON: those attributes of `ModelInfo` that concern a client."""
    stated = {field.name: getattr(info, field.name) for field in fields(info) if field.name not in _UNSAID}
    if info.interaction is not None:
        stated["interaction"] = vars(info.interaction)
    return {name: value for name, value in (stated | {"space_id": info.space_id}).items() if value is not None}


def _public(repository: Path, name: str) -> Iterator[ModelInfo]:
    """Yield the descriptions of a public model and of the models derived from it."""
    for each in owned(repository, name):
        config = read_config(repository, each)
        if FORMAT_PARAMETER in config.parameters:
            yield info_of(each, config)


def _parts(repository: Path, info: ModelInfo) -> list[GraphFiles]:
    """Return the graphs that a model runs, in their order."""
    steps = [step.model_name for step in read_config(repository, info.name).ensemble_scheduling.step]
    return [_graph(repository, name) for name in steps]


def _graph(repository: Path, name: str) -> GraphFiles:
    path = graph_path(repository, name)
    weights = path.with_name(WEIGHTS_FILE)
    return GraphFiles(name.rpartition(".")[2], path, {WEIGHTS_FILE: weights} if weights.exists() else {})


def _refuse_unrunnable(name: str, files: GraphFiles, precision: str) -> None:
    or_int8 = "" if precision == Precision.INT8.value else ", or export it with --precision int8"
    for path in (files.graph, *files.weights.values()):
        if (size := path.stat().st_size) > MOST_BYTES:
            msg = (
                f"{name}: {path.name} of its {files.role} has {size / 1e9:.1f} GB, and a browser holds no file over "
                f"{MOST_BYTES / 1e9:.1f} GB: take a smaller model{or_int8}"
            )
            raise UnsupportedError(msg)
    operators = _operators(onnx.load(files.graph, load_external_data=False).graph)
    if strange := sorted(f"{domain}.{op}" for domain, op in operators if domain not in _DOMAINS):
        msg = f"{name}: its {files.role} has operators that onnxruntime-web lacks: {', '.join(strange)}"
        raise UnsupportedError(msg)


def _operators(graph: onnx.GraphProto) -> set[tuple[str, str]]:
    """Return domain and name of every operator, including those of subgraphs."""
    inner = (child for node in graph.node for child in graphs_in(node))
    return {(node.domain, node.op_type) for node in graph.node}.union(*map(_operators, inner))
