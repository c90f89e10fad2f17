"""Descriptions read back from the configurations of a repository: the mirror image of `triton_models`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import onnx
from conch_contract import DescriptionError, ModelInfo, Task, derived_name, encoder_name

from conch_export.errors import SourceError
from conch_export.model.description import (
    Classifier,
    CrossEncoder,
    EmbeddingModel,
    GenerativeReranker,
    MultiVectorModel,
    Packing,
    Pooling,
    Precision,
    SparseModel,
    StaticModel,
    Target,
)
from conch_export.onnx.layout import TYPES
from conch_export.sources.source import Source
from conch_export.triton.configuration import PER_CORE
from conch_export.triton.plan import PerCore, Plan
from conch_export.triton.repository import graph_path, info_of, owned, read_config, target_of, whole_report

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from conch_export.model.description import Description


def published(repository: Path, name: str) -> tuple[Description, Target]:
    """A public model as it was described when it was exported, as far as serving depends on it, and what it runs on.

    Its source's folder holds the tokenizer and nothing else.

    Raises:
        SourceError: there is no such model, it is derived from another, or its files are not those that were exported.
    """
    report = _report(repository, name)
    encoder = read_config(repository, encoder_name(name))
    try:
        info = info_of(name, read_config(repository, name))
        packing, precision = Packing(report["packing"]), Precision(info.precision)
        facts = {"packing": packing, "precision": precision, "hidden": encoder.output[0].dims[-1]}
        return _described(repository, info, facts), target_of(encoder)
    except (DescriptionError, LookupError, ValueError, TypeError, AttributeError) as error:
        msg = f"{name} does not describe itself as an exported model does ({error!r}): export it again"
        raise SourceError(msg) from error


def _described(repository: Path, info: ModelInfo, facts: dict[str, Any]) -> Description:
    folder, derived = repository / info.tokenizer / "1", owned(repository, info.name)
    tokens, sparse, maxsim, chunks = (
        derived_name(info.name, task)
        for task in (Task.MULTI_VECTOR, Task.SPARSE, Task.LATE_INTERACTION, Task.LATE_CHUNKING)
    )
    same = ("name", "architecture", "max_length", "tokenizer_sha256", "tokenizer_bytes", "prompts")
    facts |= {key: getattr(info, key) for key in same} | {
        "source": Source(
            folder,
            info.source,
            info.revision,
            info.weights_sha256,
            code_sha256=info.code_sha256 or "",
            adapter=info.adapter or "",
            checkpoint_sha256=info.checkpoint_sha256 or "",
        ),
        "vocabulary": 0,
        "segments": TYPES in info.inputs,
        "default_prompt_name": info.default_prompt_name or "",
    }
    if info.task in (Task.CROSS_ENCODER, Task.CLASSIFICATION):
        return _scoring(info, facts)
    if info.task is Task.SPARSE:
        return SparseModel(**facts | {"vocabulary": info.dimension}, looks_up_queries=info.query_model is not None)
    facts |= {"dimension": info.dimension, "late_interaction": maxsim in derived}
    if info.task is Task.MULTI_VECTOR:
        return MultiVectorModel(**facts, interaction=info.interaction)
    facts |= {"pooling": Pooling(info.pooling), "normalize": info.normalized}
    if not _has_head(repository, info.name):
        return StaticModel(**facts, max_characters=info.max_characters)
    return EmbeddingModel(
        **facts,
        pools_prompt=info.pools_prompt,
        projected=_projected(repository, tokens) if tokens in derived else 0,
        lexical=sparse in derived,
        late_chunking=chunks in derived,
    )


def _scoring(info: ModelInfo, facts: dict[str, Any]) -> Description:
    """The description of a classifier or of a cross-encoder of either kind."""
    if info.labels is not None and info.activation is not None:
        return Classifier(**facts, labels=info.labels, activation=info.activation)
    if info.pair_template is None:
        return CrossEncoder(**facts)
    instruction = info.default_instruction or ""
    return GenerativeReranker(**facts, pair_template=info.pair_template, default_instruction=instruction)


def _has_head(repository: Path, name: str) -> bool:
    """Whether a head follows the encoder of a public model, which else gives the answer itself."""
    return len(read_config(repository, name).ensemble_scheduling.step) > 1


def planned(repository: Path, name: str) -> Plan | None:
    """The plan of a public model's configurations, without the queue; None where there are no configurations.

    Raises:
        SourceError: the encoder's configuration cannot be read.
    """
    if not (repository / encoder_name(name) / "config.pbtxt").exists():
        return None
    encoder = read_config(repository, encoder_name(name))
    return Plan(
        instances=sum(group.count for group in encoder.instance_group),
        threads=int(encoder.parameters["intra_op_thread_count"].string_value or 1),
        max_rows=encoder.max_batch_size,
        target=target_of(encoder),
        per_core=PerCore(encoder.parameters[PER_CORE].string_value if PER_CORE in encoder.parameters else ""),
    )


def graph_fits(repository: Path, name: str) -> bool:
    """Whether a Triton model's graph takes the inputs of its configuration.

    The two come from one export, but configurations are committed and graphs are not: after an update of the
    repository, graphs of an older export may lie beside newer configurations.
    """
    given, taken = _inputs(repository, name)
    return given == taken


def refuse_misfits(repository: Path, names: Iterable[str]) -> None:
    """Refuse models whose graph takes other inputs than their configuration gives.

    The embedded backend refuses to load such a model. The official image's loads it, whatever `batch_input` is called.

    Raises:
        SourceError: names the model and both.
    """
    for name in names:
        if graph_path(repository, name).exists() and not graph_fits(repository, name):
            given, taken = map(sorted, _inputs(repository, name))
            msg = f"{name}: config.pbtxt gives {given} and the graph takes {taken}; export the model again"
            raise SourceError(msg)


def _inputs(repository: Path, name: str) -> tuple[set[str], set[str]]:
    """Inputs of a model by its configuration and by its graph."""
    config = read_config(repository, name)
    graph = onnx.load(graph_path(repository, name), load_external_data=False).graph
    given = {tensor.name for tensor in config.input} | {name for b in config.batch_input for name in b.target_name}
    return given, {tensor.name for tensor in graph.input}


def _report(repository: Path, name: str) -> dict[str, Any]:
    if not (repository / name / "config.pbtxt").exists():
        msg = f"{repository} has no model {name!r}: `conch models` lists what it has, `conch export` adds to it"
        raise SourceError(msg)
    if base := read_config(repository, name).parameters["base"].string_value:
        raise SourceError(f"{name} is derived from {base}: name that instead, which stands for both")
    return whole_report(repository, name)


def _projected(repository: Path, name: str) -> int:
    """Length of the vectors that a head makes for late interaction; 0 where there is no head."""
    return int(read_config(repository, name).output[0].dims[-1]) if _has_head(repository, name) else 0
