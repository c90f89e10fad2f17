"""examples/browser: a page that searches documents that the server embedded, also without a network."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from conch_client import Client

    from benchmarks.browser.server import Served
    from tests.serving import Serving
    from tests.web.browser import Chromium

ROOT = Path(__file__).parents[2]
QUERY = "How are models that a browser computes checked?"
SEARCH = """async (query) => {
    const until = async (ready) => { while (!ready()) await new Promise((resolve) => setTimeout(resolve, 20)); };
    const state = document.querySelector("#state");
    await until(() => !document.querySelector("button").disabled || state.textContent.includes("Error"));
    if (state.textContent.includes("Error")) return state.textContent;
    document.querySelector("input").value = query;
    document.querySelector("form").requestSubmit();
    await until(() => document.querySelector("li") || state.textContent.includes("Error"));
    if (state.textContent.includes("Error")) return state.textContent;
    await navigator.serviceWorker.ready;
    return [...document.querySelectorAll("li")].map((item) => item.firstChild.textContent);
}"""


def build(output: Path, serving: Serving, model: str) -> None:
    script, documents = ROOT / "examples" / "browser" / "build.py", ROOT / "docs" / "adr"
    command = [sys.executable, str(script), str(documents), "--output", str(output)]
    subprocess.run([*command, "--url", serving.grpc_url, "--model", model], check=True)


@pytest.fixture(scope="module")
def site(folder: Path, serving: Serving) -> tuple[Path, Any]:
    """The folder of the site, and its index."""
    output = folder / "site"
    build(output, serving, "all-minilm-l6-v2-int8")
    (output / "web").symlink_to(folder)
    return output, json.loads((output / "index.json").read_text("utf-8"))


@pytest.fixture
def unnormalised(folder: Path, serving: Serving, tmp_path: Path) -> Path:
    """The folder of a site whose model does not normalise its vectors, and whose files a test may change."""
    build(tmp_path, serving, "unnormalised")
    for name in ("unnormalised", "conch-web"):
        shutil.copytree(folder / name, tmp_path / "web" / name)
    return tmp_path


def test_it_finds_what_the_servers_vectors_find_with_and_without_a_network(
    site: tuple[Path, Any], chromium: Chromium, server: Client, static: Callable[[Path], Served]
) -> None:
    output, index = site
    vectors = np.frombuffer((output / "vectors.bin").read_bytes(), np.float32).reshape(-1, index["dimension"])
    assert len(index["documents"]) == len(vectors) > 200
    scores = vectors @ server.embed([QUERY], model=index["model"])[0]
    expected = [index["documents"][row]["text"] for row in np.argsort(-scores)[:3]]
    with static(output) as online:
        found = chromium.run(online.url, SEARCH, QUERY, context="a reader")
        assert found[:3] == expected
        assert chromium.run(online.url, SEARCH, QUERY, context="a reader") == found  # the service worker keeps the page
    assert chromium.run(online.url, SEARCH, QUERY, context="a reader") == found


def test_it_searches_where_the_call_normalises_the_vectors(
    unnormalised: Path, chromium: Chromium, static: Callable[[Path], Served]
) -> None:
    with static(unnormalised) as online:
        found = chromium.run(online.url, SEARCH, QUERY)

    assert len(found) == 5, found


def test_without_a_network_it_uses_the_last_model_that_came_whole(
    unnormalised: Path, chromium: Chromium, static: Callable[[Path], Served]
) -> None:
    manifest = unnormalised / "web" / "unnormalised" / "conch.json"
    with static(unnormalised) as online:
        found = chromium.run(online.url, SEARCH, QUERY, context="a traveller")
        manifest.write_text(manifest.read_text("utf-8").replace("encoder-", "encoder-0"), "utf-8")
        assert chromium.run(online.url, SEARCH, QUERY, context="a traveller").startswith("DownloadError")

    assert chromium.run(online.url, SEARCH, QUERY, context="a traveller") == found
