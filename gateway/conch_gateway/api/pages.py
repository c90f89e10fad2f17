"""The pages for people: `/`, where models are tried, and `/docs`, which shows the API.

Each page is one file that loads nothing from another host and holds no data: its script asks this gateway, with the key
that was typed in where one is needed. Its content security policy lets only that script and style run, and connect to
this gateway only: a text that gets into the page cannot become code, nor send a key elsewhere.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Awaitable, Callable
from importlib.resources import files

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from conch_gateway.api import PAGES
from conch_gateway.api.route import Router
from conch_gateway.api.services import Services

_POLICY = (
    "default-src 'none'; script-src {script}; style-src {style}; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)


def router(_: Services) -> Router:
    """Return the routes of the pages."""
    routes = Router(tag="pages")
    for path, name in PAGES.items():
        summary = f"Page for people: {name.removesuffix('.html')}"
        routes.add_api_route(path, _endpoint(name), methods=["GET"], summary=summary, response_class=HTMLResponse)
    return routes


def _endpoint(name: str) -> Callable[[Request], Awaitable[Response]]:
    page = files(__package__ or "").joinpath(name).read_text(encoding="utf-8")
    headers = {
        "content-security-policy": _POLICY.format(script=_hash_of("script", page), style=_hash_of("style", page)),
        "referrer-policy": "no-referrer",
        "x-content-type-options": "nosniff",
    }

    async def show(_: Request) -> Response:
        return HTMLResponse(page, headers=headers)

    return show


def _hash_of(tag: str, page: str) -> str:
    """Return the source expression of the page's one block between `<tag>` and `</tag>`."""
    (block,) = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(block.encode()).digest()).decode("ascii")
    return f"'sha256-{digest}'"
