"""The frame that every encoder shares: real tokens in, their vectors out, each back in its slot.

Contract (see `layout` and `ragged`):
    input_ids         INT64 [N]
    attention_mask    INT64 [N]
    token_type_ids    INT64 [N], only where the caller asks for segments
    row_lengths       INT32 [R], of input_ids; the others have lengths of their own, as `lengths_name` calls them
    token_embeddings  FP32 [N, hidden], zeros at pads, and at tokens that no head reads (see `Shape.token`); all NaN,
                      pads too, for a row that holds an id outside the vocabulary, no token at all or more than
                      `max_length`, or whose mask or types have another length than its ids. The graph itself cannot
                      fail, so no row harms another.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto

from conch_export.onnx.builder import GraphBuilder
from conch_export.onnx.graph import Graph
from conch_export.onnx.layout import EMBEDDINGS, IDS, MASK, ROW_LENGTHS, TYPES, Layout, lengths_name
from conch_export.onnx.ragged import Spans, all_by_row, locate_tokens, of_each_row, slot_places

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from conch_export.model.description import Pooling


@dataclass(frozen=True)
class Shape:
    """Sizes of an encoder.

    Attributes:
        vocabulary: ids are 0 .. vocabulary - 1.
        hidden: width of a token's vector.
        max_length: most tokens that a row may have.
        segments: kinds of token in `token_type_ids`; 0 takes no such input.
        masked: whether rows may end in masked tokens, which no other attends to.
        token: the one token of a row whose vector is given, the first (`CLS`) or the last; None for all.
    """

    vocabulary: int
    hidden: int
    max_length: int
    segments: int = 0
    masked: bool = False
    token: Pooling | None = None


def packed_model(shape: Shape, body: Callable[[GraphBuilder, Sequence[str], Spans], str]) -> Graph:
    """An encoder that computes real tokens only.

    Args:
        shape: the encoder's sizes.
        body: called with the builder, the names of INT64 [T] vectors (ids, positions and, with segments, types; ids and
            types are always in range) and the rows' spans; returns the name of FP32 [T, hidden], or of FP32 [C, hidden]
            where one token of each row is given.
    """
    g = GraphBuilder()
    others = [MASK, *([TYPES] if shape.segments else [])]
    layout = Layout(g, IDS, {name: lengths_name(name) for name in others})
    # Cut to `max_length`, so that no position is looked up beyond its table, which would fail the run.
    tokens = locate_tokens(g, layout, max_length=shape.max_length, masked=shape.masked)
    ids, known = clamp(g, layout.read(IDS, tokens.slots, tokens.rows), shape.vocabulary)
    vectors = [ids, tokens.positions]
    if shape.segments:
        types, known_types = clamp(g, layout.read(TYPES, tokens.slots, tokens.rows), shape.segments)
        vectors.append(types)
        known = g.node("And", known, known_types)
    x = body(g, vectors, tokens.spans)
    # Every slot takes its vector from one table: the vectors, then zeros for pads, then NaN for refused rows.
    given = tokens.slots
    if shape.token is not None:
        given = g.node("Gather", given, of_each_row(g, tokens.spans, shape.token))
    places, pad = slot_places(g, layout, given)
    refused = g.node("Or", g.node("Not", all_by_row(g, known, tokens)), tokens.malformed)
    places = g.node("Where", g.node("Gather", refused, layout.slot_rows), g.node("Add", pad, g.int64(1)), places)
    pad_and_refusal = np.array([[0.0], [np.nan]], np.float32).repeat(shape.hidden, axis=1)
    table = g.node("Concat", x, g.constant(pad_and_refusal, "pad_and_refusal"), axis=0)
    g.node("Gather", table, layout.of_leading(places), name=EMBEDDINGS)
    return Graph.of(
        g,
        "encoder",
        [
            *((name, TensorProto.INT64, ["N"]) for name in (IDS, *others)),
            *((name, TensorProto.INT32, ["R"]) for name in (ROW_LENGTHS, *map(lengths_name, others))),
        ],
        [(EMBEDDINGS, TensorProto.FLOAT, ["N", shape.hidden])],
    )


def clamp(g: GraphBuilder, ids: str, size: int) -> tuple[str, str]:
    """INT64 [n] and BOOL [n]: the ids within 0 .. size - 1, and which of them were."""
    # Gather fails on an id outside its table, and the run with it: such ids are moved inside, and their rows refused.
    clamped = g.node("Clip", ids, g.int64(0), g.int64(size - 1))
    return clamped, g.node("Equal", ids, clamped)
