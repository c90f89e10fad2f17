"""The pages for people: `/`, where models are tried, and `/docs`, which shows the API.

They hold nothing but themselves; what they show they ask for, with the key that was typed into them where one is
needed. Each is one file without anything from another host. Its policy lets exactly the script and the style in it run,
and lets it talk to this gateway only: a text that gets into the page cannot become code, nor send a key elsewhere.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Awaitable, Callable
from importlib.resources import files

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from conch_gateway.api.route import Route

PAGES = {"/": "playground.html", "/docs": "docs.html"}


def router() -> APIRouter:
    """Return the routes of the pages."""
    routes = APIRouter(route_class=Route, tags=["pages"], default_response_class=HTMLResponse)
    for path, name in PAGES.items():
        summary = f"Page for people: {name.removesuffix('.html')}"
        routes.add_api_route(path, _endpoint(name), methods=["GET"], summary=summary)
    return routes


def _endpoint(name: str) -> Callable[[Request], Awaitable[Response]]:
    page = files(__package__ or "").joinpath(name).read_text(encoding="utf-8")
    headers = {
        "content-security-policy": _policy(page),
        "referrer-policy": "no-referrer",
        "x-content-type-options": "nosniff",
    }

    async def show(_: Request) -> Response:
        return HTMLResponse(page, headers=headers)

    return show


def _policy(page: str) -> str:
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src {_hash_of('script', page)}",
            f"style-src {_hash_of('style', page)}",
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        )
    )


def _hash_of(tag: str, page: str) -> str:
    """Return the source expression of the page's one block between `<tag>` and `</tag>`."""
    (block,) = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(block.encode()).digest()).decode("ascii")
    return f"'sha256-{digest}'"
