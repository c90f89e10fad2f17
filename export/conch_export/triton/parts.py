"""Which public models a description is served as: itself, and what else its encoder can answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from conch_export.checkpoints.description import Description, Task

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
        step: Triton model behind the encoder; None where the encoder's vectors leave as they are.
        base: the model that this one is derived from, None for the description's own.
    """

    name: str
    task: Task
    step: str | None
    base: str | None = None


def parts(description: Description) -> list[Part]:
    """The public models, the description's own first."""
    return list(_parts(description))


def _parts(description: Description) -> Iterator[Part]:
    yield Part(description.name, description.task, f"{description.name}.{_STEPS[description.task]}")
    if description.late_interaction:
        yield _derived(description, Task.LATE_INTERACTION)
    if description.late_interaction and description.task is Task.EMBEDDING:
        yield _derived(description, Task.MULTI_VECTOR, plain=not description.projected)
    if description.lexical:
        yield _derived(description, Task.SPARSE)


def _derived(description: Description, task: Task, *, plain: bool = False) -> Part:
    name = f"{description.name}-{_DERIVED[task]}"
    return Part(name, task, None if plain else f"{name}.{_STEPS[task]}", description.name)
