"""The HTTP API: a module for each dialect, and for each resource that is the gateway's own.

Each module has `router(services)`, the models of its bodies, and its error body where that is not OpenAI's.
"""

from __future__ import annotations

from conch_contract import WEB_MODULE

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
    "batches.files",
    "batches.batches",
    "admin",
    "operations",
    "browser.pages",
    "browser.files",
)
"""Names of the modules whose routes the application has."""

PAGES = {"/": "playground.html", "/docs": "docs.html"}
"""Pages for people, by path."""

WEB = "/web"
"""Begins the paths of models for the browser."""


def is_open(path: str) -> bool:
    """Whether everybody may get what is at this path, since it holds no data: a page, or a file of the module."""
    return path in PAGES or path.startswith(f"{WEB}/{WEB_MODULE}/")
