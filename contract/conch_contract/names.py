"""Names of the Triton models behind a public model, and of the public models that are derived from it.

A public model ``NAME`` runs ``NAME.encoder`` and a head such as ``NAME.pooling``; ``NAME.tokenizer`` serves its
tokenizer.json. Where queries need no encoder, ``NAME.queries`` looks them up. What else its encoder can answer is
public under a name of its own, such as ``NAME-maxsim``, or ``NAME-as-OTHER`` for a bridge to the vectors of ``OTHER``.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from conch_contract.tasks import Task

if TYPE_CHECKING:
    from collections.abc import Mapping

ENCODER = "encoder"
TOKENIZER = "tokenizer"
QUERIES = "queries"

HEADS: Mapping[Task, str] = MappingProxyType(
    {
        Task.EMBEDDING: "pooling",
        Task.CROSS_ENCODER: "classifier",
        Task.CLASSIFICATION: "classifier",
        Task.MULTI_VECTOR: "projection",
        Task.SPARSE: "sparse",
        Task.LATE_INTERACTION: "maxsim",
        Task.LATE_CHUNKING: "chunks",
    }
)
"""Names of heads by the task of the public model; they follow its name and a dot."""

DERIVED: Mapping[Task, str] = MappingProxyType(
    {
        Task.LATE_INTERACTION: "maxsim",
        Task.MULTI_VECTOR: "tokens",
        Task.SPARSE: "sparse",
        Task.LATE_CHUNKING: "chunks",
    }
)
"""Names of derived models by their task; they follow the name of the base and a hyphen."""

_BRIDGE = "{}-as-"

INNER_NAMES = frozenset({ENCODER, TOKENIZER, QUERIES, *HEADS.values()})
"""Names of the Triton models behind a public model; they follow its name and a dot."""


def encoder_name(model: str) -> str:
    """The Triton model that computes token embeddings for a public model and for those derived from it."""
    return f"{model}.{ENCODER}"


def tokenizer_name(model: str) -> str:
    """The Triton model that serves the tokenizer.json of a public model and of those derived from it."""
    return f"{model}.{TOKENIZER}"


def queries_name(model: str) -> str:
    """The Triton model that answers a public model's queries without its encoder, where there is one."""
    return f"{model}.{QUERIES}"


def head_name(model: str, task: Task) -> str:
    """The Triton model that turns token embeddings into what a public model of this task answers."""
    return f"{model}.{HEADS[task]}"


def derived_name(base: str, task: Task) -> str:
    """The public model of this task that shares the encoder of ``base``."""
    return f"{base}-{DERIVED[task]}"


def bridge_name(base: str, target: str) -> str:
    """The public model that maps the vectors of ``base`` into the space of ``target``."""
    return _BRIDGE.format(base) + target


def is_bridge_name(name: str, base: str) -> bool:
    """Whether a public model of this name would be a bridge of ``base``."""
    return name.startswith(_BRIDGE.format(base))
