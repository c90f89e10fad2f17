"""REST over conch_client: OpenAI's embeddings and models, everybody's rerank, health and metrics.

`Gateway` serves on a running event loop, `create_app` gives the ASGI application, and `app` is the factory for
`uvicorn --factory conch_gateway:app`. `conch serve` is the whole process.
"""

from __future__ import annotations

from conch_gateway.app import app, create_app
from conch_gateway.errors import (
    BodyTooLargeError,
    CapacityError,
    ForbiddenError,
    GatewayError,
    InvalidValueError,
    KeysError,
    ListenError,
    MalformedBodyError,
    QuotaError,
    RequestError,
    StoppingError,
    UnauthenticatedError,
    UnsupportedCodingError,
    WrongTypeError,
)
from conch_gateway.server import Gateway
from conch_gateway.settings import GatewaySettings

__all__ = [
    "BodyTooLargeError",
    "CapacityError",
    "ForbiddenError",
    "Gateway",
    "GatewayError",
    "GatewaySettings",
    "InvalidValueError",
    "KeysError",
    "ListenError",
    "MalformedBodyError",
    "QuotaError",
    "RequestError",
    "StoppingError",
    "UnauthenticatedError",
    "UnsupportedCodingError",
    "WrongTypeError",
    "app",
    "create_app",
]
