"""Effect of quantization and MaxSim on retrieval: each docstring's first sentence must find the rest of it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime as ort
from conch_export.onnx.engine import Row
from conch_export.onnx.layout import REQUEST_ELEMENTS, head_lengths, row_lengths
from conch_export.verification.texts import docstrings

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from tokenizers import Tokenizer

    from benchmarks.engine import Engine

MAX_LENGTH = 256
CANDIDATES = 20
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n\s*\n")


def question_and_answer(text: str) -> tuple[str, str] | None:
    """Return first sentence and rest of a docstring; None if either is too short."""
    parts = _SENTENCE_END.split(text.strip(), maxsplit=1)
    if len(parts) < 2 or len(parts[0].split()) < 3 or len(parts[1].split()) < 5:
        return None
    return parts[0], parts[1]


def pairs() -> tuple[list[str], list[str]]:
    """Queries and documents; document i answers query i, and no two of either are equal."""
    by_query: dict[str, str] = {}
    for query, document in filter(None, map(question_and_answer, docstrings())):
        if document not in by_query.values():
            by_query.setdefault(query, document)
    return list(by_query), list(by_query.values())


def ndcg(ranks: Sequence[int], depth: int = 10) -> float:
    """nDCG@10 where one document answers each query: mean of 1 / log2(1 + rank); ranks count from 1, 0 is not found.

    Järvelin and Kekäläinen 2002; the ideal gain is 1.
    """
    gains = [1 / np.log2(1 + rank) if 1 <= rank <= depth else 0.0 for rank in ranks]
    return float(np.mean(gains))


def dense_order(queries: NDArray[np.float32], documents: NDArray[np.float32]) -> NDArray[np.intp]:
    """Documents of each query by cosine, best first: [queries, documents]."""
    return np.argsort(-(queries @ documents.T), axis=1, kind="stable")


def ranks_of(order: NDArray[np.intp]) -> list[int]:
    """Return the place of document i in row i, from 1; 0 if it is missing."""
    found = order == np.arange(len(order))[:, None]
    return [int(row.argmax()) + 1 if row.any() else 0 for row in found]


def retrieval(fp32: Engine, int8: Engine, maxsim: Path, tokenizer: Tokenizer) -> dict[str, Any]:
    """Return nDCG@10 of fp32, of int8, and of int8 with its best 20 reranked by the served MaxSim graph."""
    queries, documents = pairs()
    tokenizer.enable_truncation(MAX_LENGTH)
    rows = [
        [Row(encoding.ids, encoding.type_ids) for encoding in tokenizer.encode_batch(texts)]
        for texts in (queries, documents)
    ]
    tokenizer.no_truncation()
    exact, quantized = ([_vectors(engine, part) for part in rows] for engine in (fp32, int8))
    order = dense_order(*quantized)
    return {
        "queries": len(queries),
        "documents": len(documents),
        "fp32_ndcg10": ndcg(ranks_of(dense_order(*exact))),
        "int8_ndcg10": ndcg(ranks_of(order)),
        "int8_maxsim_ndcg10": ndcg(ranks_of(_reranked(int8, maxsim, rows, order[:, :CANDIDATES]))),
        "candidates": CANDIDATES,
    }


def _vectors(engine: Engine, rows: list[Row]) -> NDArray[np.float32]:
    return np.concatenate([engine(rows[start : start + 8]) for start in range(0, len(rows), 8)])


def _reranked(engine: Engine, maxsim: Path, rows: list[list[Row]], order: NDArray[np.intp]) -> NDArray[np.intp]:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(maxsim, options, providers=["CPUExecutionProvider"])
    queries, documents = ([engine.encoder([row]) for row in part] for part in rows)
    better = []
    for query, candidates in zip(queries, order, strict=True):
        scores = _scores(session, [query, *(documents[i] for i in candidates)])
        better.append(candidates[np.argsort(-scores, kind="stable")])
    return np.stack(better)


def _scores(session: ort.InferenceSession, tokens: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Scores of all but the first, which is the query."""
    lengths = [len(one) for one in tokens]
    total = sum(lengths)
    inputs = {
        "token_embeddings": np.concatenate(tokens).ravel(),
        "attention_mask": np.ones(total, np.int64),
        **row_lengths(lengths),
        **head_lengths(lengths, tokens[0].shape[1]),
        REQUEST_ELEMENTS: np.array([total], np.int32),
    }
    scores: NDArray[np.float32] = session.run(None, inputs)[0][1:, 0]
    return scores
