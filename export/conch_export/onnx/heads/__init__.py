"""Heads, the graphs behind the encoder: pooling and classification, token vectors, MaxSim, lexical weights.

Each is a ragged Triton model of its own, built from a record of `model.heads`.
Every head computes one row at a time. That makes it exact whatever was merged (no sum runs over a neighbour), and a
refused row's NaN stays in that row.

Contract:
    token_embeddings  FP32 [N * hidden], attention_mask INT64 [N], row_lengths INT32 [R], of attention_mask
    token_embeddings_lengths  INT32 [2 * R], length and width of every row
    request_elements  INT32 [Q], MaxSim only: elements of each merged request's attention_mask
    input_ids         INT64 [N] and input_ids_lengths INT32 [R], only where a head needs to know the tokens
    chunk_ends        INT64 [M] and chunk_ends_lengths INT32 [R], late chunking only: where each chunk of a row ends
and one of
    embedding         FP32 [R, dimension]
    embeddings        FP32 [M, dimension], NaN for a chunk without tokens
    logits            FP32 [R, labels]
    score             FP32 [R, 1]
    token_embeddings  FP32 [N, dimension], zeros at pads (as `vectors` in the graph, where the name is taken)
    indices, weights  INT32 and FP32 [R, K], K that of the row with most; a weight of 0 fills up
NaN where a row has no token, or not as many slots in every tensor.
"""

from __future__ import annotations

from conch_export.onnx.heads.late_interaction import maxsim_graph, projection_graph
from conch_export.onnx.heads.pooled import chunks_graph, pooled_graph
from conch_export.onnx.heads.sparse import lexical_graph, vocabulary_graph

__all__ = ["chunks_graph", "lexical_graph", "maxsim_graph", "pooled_graph", "projection_graph", "vocabulary_graph"]
