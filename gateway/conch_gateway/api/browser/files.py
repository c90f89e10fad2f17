"""`GET /web`: lists models for the browser, and serves their files, also in ranges.

If there are API keys, the files of a model need a key that may use it. The module needs none: it is public code, and
browsers load it without headers.
"""

from __future__ import annotations

import asyncio
import re
from typing import Any

from conch_client import ModelNotFoundError
from conch_contract import WEB_MODULE
from pydantic import BaseModel
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import FileResponse, Response

from conch_gateway.api import WEB
from conch_gateway.api.browser.folder import Stored, WebFolder
from conch_gateway.api.browser.policy import FILE_HEADERS
from conch_gateway.api.route import Router
from conch_gateway.api.services import Services
from conch_gateway.auth.keys import ANYBODY
from conch_gateway.telemetry.request import context_of

_YEAR_S = 31_536_000
_REFUSED = re.compile(r"q=0(\.0*)?\s*$")


class WebModelEntry(BaseModel):
    """A model for the browser: the URL of its files, and the tasks of it and of derived models."""

    name: str
    url: str
    tasks: dict[str, str]


class WebModels(BaseModel):
    """The models, and the module that loads them, null if there is none; URLs are relative to this gateway."""

    module: str | None
    models: list[WebModelEntry]


def router(services: Services) -> Router:
    """Return the routes of this resource."""
    routes, folder = Router(tag="models"), WebFolder(services.settings.web_models)
    begin = WEB.removeprefix("/")

    @routes.on_get(WEB, WebModels, "List models for the browser")
    async def list_web_models(request: Request) -> Any:
        models, entry = await asyncio.to_thread(folder.models), await asyncio.to_thread(lambda: folder.entry)
        opened = {name: model for name, model in models.items() if context_of(request).key.opens(name)}
        return {
            "module": entry and f"{begin}/{entry}",
            "models": [
                {"name": name, "url": f"{begin}/{name}/", "tasks": model.tasks} for name, model in opened.items()
            ],
        }

    @routes.route(f"{WEB}/{{model}}/{{file}}", include_in_schema=False)  # these are files, not an API
    async def give_file(request: Request) -> Response:
        model, name, key = request.path_params["model"], request.path_params["file"], context_of(request).key
        if model != WEB_MODULE and not key.opens(model):
            msg = f"no model {model!r} for the browser is served to key {key.name!r}; GET /web lists those that are"
            raise ModelNotFoundError(msg)
        # A range is of the content, whatever form it is sent in: ranges of the compressed one would be of no use.
        compressed = "range" not in request.headers and _takes_gzip(request.headers)
        stored = await asyncio.to_thread(folder.file, model, name, compressed=compressed)
        return _answer(stored, request.headers, is_public=model == WEB_MODULE or key is ANYBODY)

    return routes


def _answer(stored: Stored, asked: Headers, *, is_public: bool) -> Response:
    lasting = f"{'public' if is_public else 'private'}, max-age={_YEAR_S}, immutable"
    headers = {
        **FILE_HEADERS,
        "cache-control": lasting if stored.lasting else "no-cache",
        "etag": stored.etag,
        "vary": "accept-encoding",
    }
    if stored.etag in map(str.strip, asked.get("if-none-match", "").split(",")):
        return Response(status_code=304, headers=headers)
    if stored.compressed:
        headers["content-encoding"] = "gzip"
    return FileResponse(stored.path, headers=headers, media_type=stored.media_type, stat_result=stored.stat)


def _takes_gzip(headers: Headers) -> bool:
    offers = (offer.partition(";") for offer in headers.get("accept-encoding", "").split(","))
    return any(coding.strip() == "gzip" and not _REFUSED.search(weight) for coding, _, weight in offers)
