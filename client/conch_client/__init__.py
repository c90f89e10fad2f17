"""Client of a Triton that serves a conch repository: texts in, numpy vectors and rankings out.

Needs numpy, tokenizers and tritonclient[grpc], and no checkpoint. ``Client`` is for threads, ``AsyncClient`` for an
event loop. Every error is a ``ConchError``: InvalidInputError (NotComputedError is one), SpaceError,
ModelNotFoundError, UnavailableError, OverloadedError, DeadlineExceededError or ServerError.
"""

from __future__ import annotations

from conch_contract import ConchError, InvalidInputError, ModelInfo, SpaceError, Truncate

from conch_client._async.client import AsyncClient
from conch_client._errors import (
    DeadlineExceededError,
    ModelNotFoundError,
    ModelReplacedError,
    NotComputedError,
    OverloadedError,
    ServerError,
    UnavailableError,
)
from conch_client._inputs import Texts
from conch_client._requests.classification import Classification
from conch_client._requests.rerank import Ranked, Ranking
from conch_client._requests.vectors import ChunkVectors, SparseVector
from conch_client._sync.client import Client
from conch_client._tokenization.rows import TokenIds
from conch_client._tokenization.tokenizer import Token
from conch_client._transport.address import TLS
from conch_client.routing import Replica

__all__ = [
    "TLS",
    "AsyncClient",
    "ChunkVectors",
    "Classification",
    "Client",
    "ConchError",
    "DeadlineExceededError",
    "InvalidInputError",
    "ModelInfo",
    "ModelNotFoundError",
    "ModelReplacedError",
    "NotComputedError",
    "OverloadedError",
    "Ranked",
    "Ranking",
    "Replica",
    "ServerError",
    "SpaceError",
    "SparseVector",
    "Texts",
    "Token",
    "TokenIds",
    "Truncate",
    "UnavailableError",
]
