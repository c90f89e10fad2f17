"""Which public models a description is served as: the model itself, and what else its encoder can answer."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from conch_contract import Task, derived_name, head_name, queries_name

from conch_export.model.description import Classifier, EmbeddingModel, SparseModel, StaticModel, VectorModel

if TYPE_CHECKING:
    from conch_export.model.description import Description


@dataclass(frozen=True)
class PublicModel:
    """A public model and its head behind the encoder.

    Attributes:
        name: of the public Triton model.
        task: what it answers.
        head: Triton model behind the encoder; None where what the encoder gives is the answer: token embeddings, or
            the vectors of a static model, whose encoder is the whole of it.
        dimension: length of its vectors, of sparse ones the size of the vocabulary; number of its labels; 0 for scores.
        base: the model that this one is derived from, None for the description's own.
        queries: Triton model that answers queries instead; None where all texts pass the encoder.
    """

    name: str
    task: Task
    head: str | None
    dimension: int = 0
    base: str | None = None
    queries: str | None = None


def public_models(description: Description) -> list[PublicModel]:
    """The public models, the description's own first."""
    name, task = description.name, description.task
    dimension = description.dimension if isinstance(description, VectorModel) else 0
    dimension = len(description.labels) if isinstance(description, Classifier) else dimension
    dimension = description.vocabulary if isinstance(description, SparseModel) else dimension
    head = None if isinstance(description, StaticModel) else head_name(name, task)
    queries = queries_name(name) if isinstance(description, SparseModel) and description.looks_up_queries else None
    models = [PublicModel(name, task, head, dimension, queries=queries)]
    if isinstance(description, VectorModel) and description.late_interaction:
        models.append(_derived(name, Task.LATE_INTERACTION))
    if isinstance(description, EmbeddingModel) and description.late_interaction:
        tokens = _derived(name, Task.MULTI_VECTOR, description.projected or description.hidden)
        # Without a layer that makes vectors for late interaction, those of the encoder are the answer.
        models.append(tokens if description.projected else replace(tokens, head=None))
    if isinstance(description, EmbeddingModel) and description.lexical:
        models.append(_derived(name, Task.SPARSE, description.vocabulary))
    if isinstance(description, EmbeddingModel) and description.late_chunking:
        models.append(_derived(name, Task.LATE_CHUNKING, description.dimension))
    return models


def sides(description: Description) -> list[PublicModel]:
    """The public models as they are compared: one whose queries are looked up for documents, and beside it for queries.

    The latter has the name of the Triton model that answers them.
    """
    models = public_models(description)
    documents = [replace(model, queries=None) for model in models]
    return documents + [replace(model, name=model.queries) for model in models if model.queries is not None]


def _derived(base: str, task: Task, dimension: int = 0) -> PublicModel:
    name = derived_name(base, task)
    return PublicModel(name, task, head_name(name, task), dimension, base)
