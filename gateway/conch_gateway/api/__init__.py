"""The HTTP API: a module for each dialect, and for each resource that is the gateway's own.

Each module has `router(services)`, the models of its bodies, and its error body where that is not OpenAI's.
"""

from __future__ import annotations

MODULES = (
    "openai",
    "cohere",
    "rerank",
    "tei",
    "tei_server",
    "nim",
    "vllm",
    "ollama",
    "models",
    "admin",
    "operations",
    "pages",
)
"""Names of the modules whose routes the application has."""

PAGES = {"/": "playground.html", "/docs": "docs.html"}
"""Pages for people, by path; open to everybody, since they hold no data."""
