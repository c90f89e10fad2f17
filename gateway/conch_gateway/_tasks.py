"""What models are for, as their `task` says it."""

EMBEDDING = frozenset({"embedding"})
RERANKING = frozenset({"late-interaction", "cross-encoder", "rerank"})  # the last is another server's, who knows how
MULTI_VECTOR = frozenset({"multi-vector"})
SPARSE = frozenset({"sparse"})
