"""REST over conch_client: OpenAI's embeddings and models, everybody's rerank, health and metrics.

`Gateway` serves on a running event loop, `create_app` gives the ASGI application, and `app` is the factory for
`uvicorn --factory conch_gateway:app`. `conch serve` is the whole process.
"""

from __future__ import annotations

from conch_gateway.app import app, create_app
from conch_gateway.errors import GatewayError, KeysError, ListenError
from conch_gateway.server import Gateway
from conch_gateway.settings import GatewaySettings

__all__ = [
    "Gateway",
    "GatewayError",
    "GatewaySettings",
    "KeysError",
    "ListenError",
    "app",
    "create_app",
]
