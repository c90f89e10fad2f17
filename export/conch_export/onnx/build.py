"""The graphs of a description: encoder and head, in the precision asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnxruntime as ort
from conch_contract import Task
from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument

from conch_export.checkpoints.checkpoint import Checkpoint
from conch_export.checkpoints.heads import read_head
from conch_export.checkpoints.installed import as_installed
from conch_export.errors import UndecidedError, UnsupportedError
from conch_export.families import family_of
from conch_export.model.description import Description, Precision, interaction_of
from conch_export.model.heads import Lexical, Pooled, Projection, Vocabulary
from conch_export.onnx.convert import convert
from conch_export.onnx.encoder import Target, as_float16, encoder_graph
from conch_export.onnx.engine import EncoderGraph, head_feed
from conch_export.onnx.heads import lexical_graph, maxsim_graph, pooled_graph, projection_graph, vocabulary_graph
from conch_export.onnx.packed import Shape
from conch_export.onnx.quantization.calibrate import calibrate
from conch_export.onnx.quantization.quantize import quantize
from conch_export.onnx.row_by_row import padded_feed, row_by_row
from conch_export.verification.rows import calibration_rows, feed

if TYPE_CHECKING:
    from pathlib import Path

    import onnx

    from conch_export.model.parts import Part

CALIBRATION_TEXTS = 128
PRECISIONS = {Target.CPU: (Precision.INT8, Precision.FP32), Target.CUDA: (Precision.FP16, Precision.FP32)}


def build_encoder(description: Description, checkpoint: Checkpoint, target: Target = Target.CPU) -> onnx.ModelProto:
    """The encoder: packed where a family builds it, else optimum's graph row by row.

    Raises:
        UnsupportedError: the target does not have the precision, or needs a family.
    """
    if description.precision not in PRECISIONS[target]:
        known = ", ".join(precision.value for precision in PRECISIONS[target])
        message = f"{target.value} has no {description.precision.value}: choose --precision {known}"
        raise UnsupportedError(message)
    family = family_of(checkpoint.config)
    if family is None:
        return _row_by_row(description, checkpoint)
    encoder, segments = family.read_encoder(checkpoint.config, checkpoint.weights), description.segments
    rules = interaction_of(description)
    unseen = rules is not None and rules.masks_augmentation
    if target is Target.CUDA:
        weights = as_float16(encoder) if description.precision is Precision.FP16 else encoder
        return encoder_graph(weights, segments=segments, unseen=unseen, target=target)
    graph = encoder_graph(encoder, segments=segments, unseen=unseen)
    if description.precision is Precision.FP32:
        return graph
    feeds = (feed([row], segments=segments) for row in calibration_rows(description, CALIBRATION_TEXTS))
    whole = encoder_graph(encoder, segments=segments, unseen=unseen, chunk_tokens=None)
    return quantize(graph, calibrate(whole, feeds))


def build_step(description: Description, part: Part, checkpoint: Checkpoint, encoder: Path) -> onnx.ModelProto:
    """What a part puts behind the encoder, whose graph is at `encoder`."""
    hidden, head = description.hidden, read_head(description, part, checkpoint)
    match head:
        case Pooled() if part.task is Task.EMBEDDING:
            return pooled_graph(hidden, head, "embedding", part.dimension)
        case Pooled():
            return pooled_graph(hidden, head, "score", 1)
        case Projection() if part.task is Task.LATE_INTERACTION:
            rules = interaction_of(description)
            return maxsim_graph(hidden, head, rules.skip_list if rules else ())
        case Projection():
            return projection_graph(hidden, head, part.dimension)
        case Lexical():
            return lexical_graph(hidden, head)
        case Vocabulary():
            return _vocabulary(description, head, encoder)


def _vocabulary(description: Description, head: Vocabulary, encoder: Path) -> onnx.ModelProto:
    # Its one product is a third of the work of a small encoder, or more: it is worth rounding, as no other head is.
    graph = vocabulary_graph(description.hidden, head)
    if description.precision is not Precision.INT8:
        return graph
    encode, names = EncoderGraph(encoder), [tensor.name for tensor in graph.graph.input]
    rows = calibration_rows(description, CALIBRATION_TEXTS)
    known = (head_feed([row], encode([row])) for row in rows)
    feeds = ({name: each[name] for name in names} for each in known)
    return quantize(graph, calibrate(vocabulary_graph(description.hidden, head, tile_tokens=None), feeds))


def _row_by_row(description: Description, checkpoint: Checkpoint) -> onnx.ModelProto:
    with as_installed(checkpoint) as folder:
        transformer = Checkpoint(folder).transformer
        converted = convert(transformer, checkpoint.folder.name, own_code=bool(description.source.code_sha256))
    _probe(converted, description)
    segments = int(checkpoint.config["type_vocab_size"]) if description.segments else 0
    shape = Shape(description.vocabulary, description.hidden, description.max_length, segments)
    graph = row_by_row(converted, shape)
    if description.precision is Precision.FP32:
        return graph
    rows = calibration_rows(description, CALIBRATION_TEXTS)
    feeds = (padded_feed(converted, row.ids, row.types if segments else None) for row in rows)
    return quantize(graph, calibrate(converted, feeds, per_token=False))


def _probe(converted: onnx.ModelProto, description: Description) -> None:
    """Run the longest row there can be: how many positions are usable is not said the same way by all architectures."""
    session = ort.InferenceSession(converted.SerializeToString(), _quiet(), providers=["CPUExecutionProvider"])
    # Any id but the first few, among which the padding id is, that some architectures count positions from.
    try:
        session.run(None, padded_feed(converted, [100] * description.max_length))
    except InvalidArgument as error:
        message = (
            f"{description.architecture} fails on {description.max_length} tokens, the limit its checkpoint states: "
            "give the real one with --max-length"
        )
        raise UndecidedError(message) from error


def _quiet() -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    return options
