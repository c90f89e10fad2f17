"""Which public models a description is served as: the model itself, and what else its encoder can answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from conch_export.model.description import Description, EmbeddingModel, SparseModel, Task, VectorModel

if TYPE_CHECKING:
    from collections.abc import Iterator

_STEPS = {
    Task.EMBEDDING: "pooling",
    Task.CROSS_ENCODER: "classifier",
    Task.MULTI_VECTOR: "projection",
    Task.SPARSE: "sparse",
    Task.LATE_INTERACTION: "maxsim",
}
INNER_NAMES = frozenset({"encoder", "tokenizer", *_STEPS.values()})
"""What stands after a public model's name, and a dot, in those of the models behind it."""
_DERIVED = {Task.MULTI_VECTOR: "tokens", Task.SPARSE: "sparse", Task.LATE_INTERACTION: "maxsim"}


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
    yield Part(name, description.task, f"{name}.{_STEPS[description.task]}", dimension)
    if isinstance(description, VectorModel) and description.late_interaction:
        yield _derived(name, Task.LATE_INTERACTION)
    if isinstance(description, EmbeddingModel) and description.late_interaction:
        width = description.projected or description.hidden
        yield _derived(name, Task.MULTI_VECTOR, width, plain=not description.projected)
    if isinstance(description, EmbeddingModel) and description.lexical:
        yield _derived(name, Task.SPARSE, vocabulary)


def _derived(base: str, task: Task, dimension: int = 0, *, plain: bool = False) -> Part:
    name = f"{base}-{_DERIVED[task]}"
    return Part(name, task, None if plain else f"{name}.{_STEPS[task]}", dimension, base)
