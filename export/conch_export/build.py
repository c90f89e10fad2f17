"""The graphs of a description: encoder and heads, in the precision asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnxruntime as ort
from conch_contract import Task, encoder_name, tokenizer_name
from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidArgument, RuntimeException

from conch_export.checkpoints.checkpoint import Checkpoint
from conch_export.checkpoints.generations.installed import as_installed
from conch_export.checkpoints.heads import read_head, read_query_weights, read_static, read_token
from conch_export.convert import converted
from conch_export.errors import UndecidedError, UnsupportedError, reason_of
from conch_export.families import family_of
from conch_export.freed import give_back
from conch_export.model.description import Precision, StaticModel, Target, interaction_of
from conch_export.model.head_shapes import refuse_misfit_head
from conch_export.model.heads import Lexical, Pooled, Projection, Static, Vocabulary
from conch_export.model.network import Encoder
from conch_export.model.public_models import public_models
from conch_export.onnx.encoder import as_float16, encoder_graph, with_rounded_positions
from conch_export.onnx.engine import EncoderGraph, feed, head_feed
from conch_export.onnx.file import file_graph
from conch_export.onnx.graph import Graph
from conch_export.onnx.heads import (
    chunks_graph,
    lexical_graph,
    maxsim_graph,
    pooled_graph,
    projection_graph,
    vocabulary_graph,
)
from conch_export.onnx.lookup import query_graph, static_graph
from conch_export.onnx.packed import Shape
from conch_export.onnx.quantization.calibrate import calibrate
from conch_export.onnx.quantization.quantize import quantize
from conch_export.onnx.row_by_row import padded_feed, row_by_row
from conch_export.progress import silent
from conch_export.triton.configuration import TOKENIZER_FILE
from conch_export.verification.rows import calibration_rows

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from conch_contract import Interaction

    from conch_export.model.description import Description, Pooling
    from conch_export.model.public_models import PublicModel
    from conch_export.onnx.engine import Row, Tensors
    from conch_export.progress import Progress

_CALIBRATION_TEXTS = 128
_GROUP_TOKENS = 512
"""Most tokens of calibration texts that are run together, but for a single longer one."""
_PRECISIONS = {Target.CPU: (Precision.INT8, Precision.FP32), Target.CUDA: (Precision.FP16, Precision.FP32)}
_WRITING = {Precision.INT8: "quantizing", Precision.FP16: "writing the weights", Precision.FP32: "writing the weights"}
"""Name of the step in which weights are written."""


def encoder_of(description: Description, checkpoint: Checkpoint) -> Encoder | Static | None:
    """The encoder, or the whole of a static model; None where no family reads it."""
    if isinstance(description, StaticModel) and checkpoint.static is not None:
        return read_static(description, checkpoint.static, checkpoint)
    family = family_of(checkpoint.config)
    return None if family is None else family.read_encoder(checkpoint.config, checkpoint.weights)


def planned_encoder(description: Description, checkpoint: Checkpoint) -> Encoder | Static:
    """As `encoder_of`; raises UnsupportedError where no family reads it, by which its memory could be planned."""
    if (encoder := encoder_of(description, checkpoint)) is None:
        msg = (
            f"the memory of architecture {description.architecture!r} is not planned, no family here reads it: "
            "export it and measure it with `conch verify`"
        )
        raise UnsupportedError(msg)
    return encoder


def refuse_unbuildable(description: Description, checkpoint: Checkpoint, target: Target) -> None:
    """Refuse what no graph can be built of, by names, types and shapes: no matrix is read that is stored once.

    Raises:
        UnsupportedError: the target does not have the precision, or the family does not know the variant.
        SourceError: a tensor is missing, or of another model.
    """
    if description.precision not in _PRECISIONS[target]:
        known = ", ".join(precision.value for precision in _PRECISIONS[target])
        raise UnsupportedError(f"{target.value} has no {description.precision.value}: choose --precision {known}")
    if isinstance(description, StaticModel) and target is not Target.CPU:
        msg = "a static model is looked up, not computed, which a CPU does best: leave --target out"
        raise UnsupportedError(msg)
    encoder, rules = encoder_of(description, checkpoint), interaction_of(description)
    if encoder is None and description.precision is Precision.FP16:
        msg = f"{description.architecture} has no family here, without which nothing is built in fp16"
        raise UnsupportedError(f"{msg}: choose --precision fp32")
    if isinstance(encoder, Encoder) and rules is not None and rules.masks_augmentation:
        _refuse_lone_augmentation(encoder, rules)
    for model in public_models(description):
        if isinstance(encoder, Static) or model.head is not None:
            head = encoder if isinstance(encoder, Static) else read_head(description, model, checkpoint)
            refuse_misfit_head(head, description.hidden, description.vocabulary, model.dimension)


def write_graphs(
    folder: Path, description: Description, checkpoint: Checkpoint, target: Target, progress: Progress = silent
) -> None:
    """Build all graphs of a description and write them into the folders of their Triton models.

    Args:
        folder: of all Triton models, each of which has its folder in it.
        description: of the model.
        checkpoint: has its weights.
        target: what the encoder is to run on.
        progress: told what is read, observed and written.

    Raises:
        UndecidedError: the encoder does not run here on as many tokens as the checkpoint states.
    """
    tokenizer = folder / tokenizer_name(description.name) / "1"
    (tokenizer / TOKENIZER_FILE).write_bytes(checkpoint.tokenizer)
    file_graph(TOKENIZER_FILE, description.tokenizer_bytes).save(tokenizer)
    place = folder / encoder_name(description.name) / "1"
    encoder = _save_encoder(description, checkpoint, target, place, progress)
    for model in public_models(description):
        if model.queries is not None:
            query_graph(read_query_weights(checkpoint), description.max_length).save(folder / model.queries / "1")
        if model.head is not None:
            head = _head(description, model, checkpoint, encoder, progress)
            head.save(folder / model.head / "1", progress, f"{_WRITING[description.precision]} of {model.head}")


def _save_encoder(
    description: Description, checkpoint: Checkpoint, target: Target, folder: Path, progress: Progress
) -> Path:
    """The encoder: packed where a family builds it, else as it is converted, row by row; all of a static model.

    Returns the path of the graph.
    """
    writing = _WRITING[description.precision]
    if (encoder := encoder_of(description, checkpoint)) is not None:
        return _built(description, encoder, checkpoint, target, progress).save(folder, progress, writing)
    progress("converting the checkpoint")
    own_code = bool(description.source.code_sha256)
    with as_installed(checkpoint, trusted=own_code) as installed:
        transformer = Checkpoint(installed).transformer
        with converted(transformer, checkpoint.folder.name, own_code=own_code) as path:
            return _row_by_row(description, checkpoint, path, progress).save(folder, progress, writing)


def _built(
    description: Description, encoder: Encoder | Static, checkpoint: Checkpoint, target: Target, progress: Progress
) -> Graph:
    """The graph of an encoder that a family reads, or of a static model."""
    segments, rules = description.segments, interaction_of(description)
    masked = rules is not None and rules.masks_augmentation
    if target is Target.CUDA and isinstance(encoder, Encoder):
        weights = as_float16(encoder) if description.precision is Precision.FP16 else encoder
        return encoder_graph(weights, segments=segments, masked=masked, target=target)
    return cpu_graph(
        encoder,
        description.precision,
        _feeds(description),
        segments=segments,
        masked=masked,
        token=read_token(description, checkpoint),
        progress=progress,
    )


def _feeds(description: Description) -> Iterator[Tensors]:
    """Yield inputs for calibration; none are made before the first is asked for."""
    yield from map(feed, _groups(_calibration_rows(description)))


def _groups(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """Yield neighbours together: to run each text alone takes longer, and what is observed is the same."""
    group: list[Row] = []
    for row in rows:
        if group and sum(len(each.ids) for each in (*group, row)) > _GROUP_TOKENS:
            yield group
            group = []
        group.append(row)
    yield group


def _calibration_rows(description: Description) -> list[Row]:
    """Rows to calibrate with, without the tokenizer that made them."""
    rows = calibration_rows(description, _CALIBRATION_TEXTS)
    give_back()
    return rows


def cpu_graph(
    encoder: Encoder | Static,
    precision: Precision,
    feeds: Iterable[Tensors],
    *,
    segments: bool = False,
    masked: bool = False,
    token: Pooling | None = None,
    progress: Progress = silent,
) -> Graph:
    """The graph of an encoder, or of a static model, for a CPU.

    Args:
        encoder: what to compute, or to look up.
        precision: of its products and tables, int8 or fp32.
        feeds: inputs by which an encoder is calibrated for int8.
        segments: see `encoder_graph`.
        masked: see `encoder_graph`.
        token: see `encoder_graph`.
        progress: told how far the calibration is.
    """
    if isinstance(encoder, Static):
        graph = static_graph(encoder)
        return quantize(graph, {}) if precision is Precision.INT8 else graph
    if precision is not Precision.INT8:
        return encoder_graph(encoder, segments=segments, masked=masked, token=token)
    encoder = with_rounded_positions(encoder)
    # Calibration cannot read what is inside a loop; without one the graph has the same weights, by the same names.
    whole = encoder_graph(encoder, segments=segments, masked=masked, token=token, chunk_tokens=None)
    chosen = calibrate(whole, feeds, progress=progress)
    return quantize(encoder_graph(encoder, segments=segments, masked=masked, token=token), chosen)


def _refuse_lone_augmentation(encoder: Encoder, rules: Interaction) -> None:
    """Refuse queries whose augmentation may lie beyond every window: nothing is left to attend to, which gives NaN."""
    shortest = 1 + (rules.query_marker is not None)  # a first token, and the marker
    windows = [layer.attention.window for layer in encoder.layers if layer.attention.window is not None]
    if windows and rules.query_length - shortest > (window := min(windows)):
        msg = (
            f"queries are filled up to {rules.query_length} tokens, but layers attend to no more than {window} on each "
            "side: the last tokens of a short query would attend to none. Export a copy of the folder that states at "
            f"most {window + shortest} (query_length in PyLate's config_sentence_transformers.json, query_maxlen in "
            "ColBERT's artifact.metadata, length in query_expansion of sentence-transformers' "
            "sentence_bert_config.json)"
        )
        raise UnsupportedError(msg)


def _row_by_row(description: Description, checkpoint: Checkpoint, path: Path, progress: Progress) -> Graph:
    """The converted encoder at `path`, whose weights it maps, run once a row."""
    encoder = Graph.load(path)
    _probe(encoder, path, description)
    segments = int(checkpoint.config["type_vocab_size"]) if description.segments else 0
    graph = row_by_row(encoder, Shape(description.vocabulary, description.hidden, description.max_length, segments))
    if description.precision is not Precision.INT8:
        return graph
    rows = _calibration_rows(description)
    feeds = (padded_feed(encoder, row.ids, row.types if segments else None) for row in rows)
    # A scale a token needs products of [tokens, K] matrices, and this graph's have an axis for the batch as well.
    return quantize(graph, calibrate(encoder, feeds, per_token=False, progress=progress))


def _probe(encoder: Graph, path: Path, description: Description) -> None:
    """Run the longest row there can be: how many positions are usable is not said the same way by all architectures."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    # Any id but the first few, among which the padding id is, that some architectures count positions from.
    try:
        session.run(None, padded_feed(encoder, [100] * description.max_length))
    except (Fail, InvalidArgument, RuntimeException) as error:  # the first also where memory does not suffice
        msg = (
            f"{description.architecture} fails on {description.max_length} tokens, the limit its checkpoint states "
            f"({reason_of(error)}): give the real one, or one that fits into memory, with --max-length"
        )
        raise UndecidedError(msg) from error


def _head(
    description: Description, model: PublicModel, checkpoint: Checkpoint, encoder: Path, progress: Progress
) -> Graph:
    """The head of a public model, behind the encoder whose graph is at `encoder`."""
    hidden, head = description.hidden, read_head(description, model, checkpoint)
    match head:
        case Pooled() if model.task is Task.LATE_CHUNKING:
            return chunks_graph(hidden, head, model.dimension)
        case Pooled():
            output = {Task.EMBEDDING: "embedding", Task.CLASSIFICATION: "logits"}.get(model.task, "score")
            return pooled_graph(hidden, head, output, model.dimension or 1)
        case Projection() if model.task is Task.LATE_INTERACTION:
            rules = interaction_of(description)
            return maxsim_graph(hidden, head, rules.skip_list if rules else ())
        case Projection():
            return projection_graph(hidden, head, model.dimension)
        case Lexical():
            return lexical_graph(hidden, head)
        case Vocabulary():
            return _vocabulary(description, head, encoder, progress)


def _vocabulary(description: Description, head: Vocabulary, encoder: Path, progress: Progress) -> Graph:
    # Its one product is a third of the work of a small encoder, or more: it is worth rounding, as no other head is.
    graph = vocabulary_graph(description.hidden, head)
    if description.precision is not Precision.INT8:
        return graph
    encode, groups = EncoderGraph(encoder), _groups(_calibration_rows(description))
    feeds = (head_feed(group, encode(group)) for group in groups)
    whole = vocabulary_graph(description.hidden, head, tile_tokens=None)
    return quantize(graph, calibrate(whole, feeds, progress=progress))
