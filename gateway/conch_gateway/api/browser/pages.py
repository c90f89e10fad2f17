"""The pages for people: `/`, where models are tried, and `/docs`, which shows the API.

Each page is one file that loads nothing from another host and holds no data: its script asks this gateway, with the key
that was typed in where one is needed. Its content security policy lets only that script and style run, and connect to
this gateway only: a text that gets into the page cannot become code, nor send a key elsewhere. Where there are models
for the browser, `/` may load the module that computes them, too.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import cache
from importlib.resources import files

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from conch_gateway.api import PAGES
from conch_gateway.api.browser.policy import page_headers
from conch_gateway.api.route import Router
from conch_gateway.api.services import Services


def router(services: Services) -> Router:
    """Return the routes of the pages."""
    routes = Router(tag="pages")
    for path, name in PAGES.items():
        summary = f"Page for people: {name.removesuffix('.html')}"
        page = _endpoint(name, computes=path == "/" and services.settings.web_models is not None)
        routes.route(path, summary=summary, response_class=HTMLResponse)(page)
    return routes


def _endpoint(name: str, *, computes: bool) -> Callable[[Request], Awaitable[Response]]:
    page = _content(name)
    headers = page_headers(page, computes=computes)

    async def show(_: Request) -> Response:
        return HTMLResponse(page, headers=headers)

    return show


@cache
def _content(name: str) -> str:
    return files(__package__ or "").joinpath(name).read_text(encoding="utf-8")
