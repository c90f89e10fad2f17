"""What models are for, as their `task` says it."""

from __future__ import annotations

EMBEDDING = frozenset({"embedding"})
RERANKING = frozenset({"late-interaction", "cross-encoder", "rerank"})  # the last is another server's, who knows how
MULTI_VECTOR = frozenset({"multi-vector"})
SPARSE = frozenset({"sparse"})
