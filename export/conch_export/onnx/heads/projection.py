"""A vector for every token, as late interaction compares them: layers over the encoder's token vectors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto

from conch_export.onnx.heads.frame import Frame

if TYPE_CHECKING:
    import onnx

    from conch_export.model.heads import Projection

VECTORS = "vectors"
"""What the projection's graph calls the token vectors it gives; `token_embeddings` are those it takes."""


def projection_graph(hidden: int, head: Projection, width: int) -> onnx.ModelProto:
    """Token vectors to FP32 [N, width]: zeros at pads, NaN where the encoder refused the row."""
    frame = Frame(hidden)
    g, slots = frame.g, frame.tokens.slots
    projected = frame.steps(frame.x, head.whole)
    table = g.node("Concat", projected, g.constant(np.zeros((1, width), np.float32), "pad"), axis=0)
    pad = g.size(slots)
    places = g.node("Expand", pad, g.node("Shape", frame.layout.slots))
    places = g.node("ScatterElements", places, slots, g.arange(pad), axis=0)
    g.node("Gather", table, frame.layout.of_leading(places), name=VECTORS)
    return frame.finish("projection", (VECTORS, TensorProto.FLOAT, ["N", width]))
