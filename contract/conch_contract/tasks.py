"""Tasks of models: one spelling for `config.pbtxt`, clients, the gateway and the command line."""

from __future__ import annotations

from enum import Enum


class Task(str, Enum):
    """What a model answers; equal to its spelling, and written so wherever it is printed."""

    EMBEDDING = "embedding"
    """One vector for each text."""
    LATE_CHUNKING = "late-chunking"
    """One vector for each chunk of a text that is read as a whole."""
    LATE_INTERACTION = "late-interaction"
    """Scores of documents: MaxSim over the token embeddings of query and document."""
    CROSS_ENCODER = "cross-encoder"
    """Scores of documents: query and document are read together."""
    MULTI_VECTOR = "multi-vector"
    """One vector for each token of a text."""
    SPARSE = "sparse"
    """One weight for each token of the vocabulary, most of them 0."""
    CLASSIFICATION = "classification"
    """A score for each label, of a text or of a pair of texts."""
    RERANK = "rerank"
    """Scores of documents by an upstream of the gateway, which does not say how; no export has this task."""

    __hash__ = str.__hash__  # Enum's own differs from that of the equal text

    def __str__(self) -> str:
        return self.value


RERANKERS = (Task.LATE_INTERACTION, Task.CROSS_ENCODER)
"""Tasks of the rerankers that an export makes."""
