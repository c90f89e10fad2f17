"""The frame that every encoder shares: real tokens in, their vectors out, each back in its slot.

Contract (see `ragged` for the layout):
    input_ids         INT64 [N]
    attention_mask    INT64 [N]
    token_type_ids    INT64 [N], only where the caller asks for segments
    row_lengths       INT32 [R]
    token_embeddings  FP32 [N, hidden], zeros at pads; all NaN, pads too, for a row that holds an id outside the
                      vocabulary, no token at all or more than `max_length`. The graph itself cannot fail, so no row
                      harms another.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto

from conch_export.graphs.builder import GraphBuilder
from conch_export.graphs.ragged import ROW_LENGTHS, Spans, Tokens, any_by_row, locate_tokens

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import onnx


_OTHERS = "pad_and_refusal"


@dataclass(frozen=True)
class Shape:
    """Sizes of an encoder.

    Attributes:
        vocabulary: ids are 0 .. vocabulary - 1.
        hidden: width of a token's vector.
        max_length: most tokens that a row may have.
        segments: kinds of token in `token_type_ids`; 0 takes no such input.
        unseen: whether rows may end in tokens that no other attends to.
    """

    vocabulary: int
    hidden: int
    max_length: int
    segments: int = 0
    unseen: bool = False


def packed_model(shape: Shape, body: Callable[[GraphBuilder, Sequence[str], Spans], str]) -> onnx.ModelProto:
    """An encoder that computes real tokens only.

    Args:
        shape: the encoder's sizes.
        body: called with the builder, the names of INT64 [T] vectors (ids, positions and, with segments, types; ids and
            types are always in range) and the rows' spans; returns the name of FP32 [T, hidden].
    """
    g = GraphBuilder()
    tokens = locate_tokens(g, max_length=shape.max_length, unseen=shape.unseen)
    ids = g.node("Gather", "input_ids", tokens.slots)
    vectors, outside = [_clamp(g, ids, shape.vocabulary), tokens.positions], _outside(g, ids, shape.vocabulary)
    if shape.segments:
        types = g.node("Gather", "token_type_ids", tokens.slots)
        vectors.append(_clamp(g, types, shape.segments))
        outside = g.node("Or", outside, _outside(g, types, shape.segments))
    x = body(g, vectors, tokens.spans)
    _scatter(g, x, tokens, shape.hidden, refused=g.node("Or", any_by_row(g, outside, tokens), tokens.malformed))
    matrices = ["input_ids", "attention_mask", *(["token_type_ids"] if shape.segments else [])]
    return g.model(
        "encoder",
        [*((name, TensorProto.INT64, ["N"]) for name in matrices), (ROW_LENGTHS, TensorProto.INT32, ["R"])],
        [("token_embeddings", TensorProto.FLOAT, ["N", shape.hidden])],
    )


def _clamp(g: GraphBuilder, ids: str, size: int) -> str:
    return g.node("Clip", ids, g.int64(0), g.int64(size - 1))


def _outside(g: GraphBuilder, ids: str, size: int) -> str:
    return g.node("Or", g.node("Less", ids, g.int64(0)), g.node("GreaterOrEqual", ids, g.int64(size)))


def _scatter(g: GraphBuilder, x: str, tokens: Tokens, hidden: int, *, refused: str) -> None:
    """Every slot takes its vector from one table: the tokens' vectors, then zeros for pads, then NaN for refusals."""
    others = np.array([[0.0], [np.nan]], np.float32).repeat(hidden, axis=1)
    table = g.node("Concat", x, g.constant(others, _OTHERS), axis=0)
    pad = g.size(tokens.slots)
    places = g.node("Expand", pad, g.node("Shape", "input_ids"))
    places = g.node("ScatterElements", places, tokens.slots, g.arange(pad), axis=0)
    is_refused = g.node("Gather", refused, tokens.slot_rows)
    places = g.node("Where", is_refused, g.node("Add", pad, g.int64(1)), places)
    g.node("Gather", table, places, name="token_embeddings")
