"""Which tasks an operation of the API may use."""

from __future__ import annotations

from conch_contract import RERANKERS, Task

EMBEDDING = frozenset({Task.EMBEDDING})
RERANKING = frozenset({*RERANKERS, Task.RERANK})
MULTI_VECTOR = frozenset({Task.MULTI_VECTOR})
SPARSE = frozenset({Task.SPARSE})
