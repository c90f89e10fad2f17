"""The pages for people load nothing from elsewhere, and only what is in them may run."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
import threading
from html.parser import HTMLParser
from typing import TYPE_CHECKING

import pytest
from conch_gateway.app import Application

if TYPE_CHECKING:
    import httpx

    from tests.unit.gateway.conftest import Serve

both_pages = pytest.mark.parametrize("path", ["/", "/docs"])


class Elements(HTMLParser):
    """The attributes of every element of a page, by tag."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def policy_of(response: httpx.Response) -> dict[str, str]:
    directives = response.headers["content-security-policy"].split("; ")
    return dict(directive.split(" ", 1) for directive in directives)


@both_pages
async def test_a_page_needs_no_other_host(http: httpx.AsyncClient, path: str) -> None:
    page = await http.get(path)

    assert page.headers["content-type"].startswith("text/html")
    loaded = [attributes.get("src") or attributes.get("href") or "" for _, attributes in Elements(page.text).found]
    assert not any("//" in address for address in loaded)
    assert not re.search(r"url\(|@import|https?://(?!www\.w3\.org/2000/svg)", page.text)


@both_pages
async def test_only_the_script_and_the_style_of_the_page_may_run(http: httpx.AsyncClient, path: str) -> None:
    page = await http.get(path)
    policy = policy_of(page)

    assert policy["default-src"] == "'none'"
    assert policy["connect-src"] == "'self'"
    for tag in ("script", "style"):
        (block,) = re.findall(rf"<{tag}>(.*?)</{tag}>", page.text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(block.encode()).digest()).decode()
        assert policy[f"{tag}-src"] == f"'sha256-{digest}'"


@both_pages
async def test_nothing_in_a_page_needs_what_its_policy_forbids(http: httpx.AsyncClient, path: str) -> None:
    page = (await http.get(path)).text

    inline = {name for _, attributes in Elements(page).found for name in attributes if name[:2] == "on"}
    assert inline | {name for _, attributes in Elements(page).found for name in attributes if name == "style"} == set()
    assert "innerHTML" not in page


async def test_the_playground_asks_only_for_what_there_is(http: httpx.AsyncClient) -> None:
    page = (await http.get("/")).text

    asked = set(re.findall(r'ask\("([^"]+)"', page))
    described = (await http.get("/openapi.json")).json()["paths"]
    assert asked
    assert {f"/{path}" for path in asked} <= set(described)


@both_pages
async def test_a_page_is_open_where_all_it_asks_for_takes_a_key(http_with: Serve, path: str) -> None:
    async with http_with(api_keys="alice:secret") as http:
        assert (await http.get(path)).status_code == 200
        assert (await http.post(path, json={"inputs": "a"})).status_code == 401


async def test_others_are_answered_while_the_document_is_made(
    http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, others_answered = threading.Event(), threading.Event()

    def openapi(_: Application) -> dict[str, str]:
        begun.set()
        return {"others": "answered" if others_answered.wait(timeout=5) else "waiting"}

    monkeypatch.setattr(Application, "openapi", openapi)
    asking = asyncio.create_task(http.get("/openapi.json"))
    await asyncio.to_thread(begun.wait)
    await http.get("/health/live")
    others_answered.set()

    assert (await asking).json() == {"others": "answered"}
