"""Which public models a description is served as: the model itself, and what else its encoder can answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from conch_contract import Task, derived_name, head_name

from conch_export.model.description import Description, EmbeddingModel, SparseModel, VectorModel

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class Part:
    """A public model and what it puts behind the encoder.

    Attributes:
        name: of the public Triton model.
        task: what it answers.
        step: Triton model behind the encoder; None where the token embeddings leave as they are.
        dimension: length of its vectors, of sparse ones the size of the vocabulary; 0 for scores.
        base: the model that this one is derived from, None for the description's own.
    """

    name: str
    task: Task
    step: str | None
    dimension: int = 0
    base: str | None = None


def parts(description: Description) -> list[Part]:
    """The public models, the description's own first."""
    return list(_parts(description))


def _parts(description: Description) -> Iterator[Part]:
    name, vocabulary = description.name, description.vocabulary
    dimension = vocabulary if isinstance(description, SparseModel) else 0
    if isinstance(description, VectorModel):
        dimension = description.dimension
    yield Part(name, description.task, head_name(name, description.task), dimension)
    if isinstance(description, VectorModel) and description.late_interaction:
        yield _derived(name, Task.LATE_INTERACTION)
    if isinstance(description, EmbeddingModel) and description.late_interaction:
        width = description.projected or description.hidden
        yield _derived(name, Task.MULTI_VECTOR, width, plain=not description.projected)
    if isinstance(description, EmbeddingModel) and description.lexical:
        yield _derived(name, Task.SPARSE, vocabulary)


def _derived(base: str, task: Task, dimension: int = 0, *, plain: bool = False) -> Part:
    name = derived_name(base, task)
    return Part(name, task, None if plain else head_name(name, task), dimension, base)
