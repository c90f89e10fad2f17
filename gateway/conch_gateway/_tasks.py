"""What models are for, as their `task` says it."""

EMBEDDING = frozenset({"embedding"})
RERANKING = frozenset({"late-interaction", "cross-encoder"})
MULTI_VECTOR = frozenset({"multi-vector"})
SPARSE = frozenset({"sparse"})
