"""Loading in a browser: threads, cache, progress, and what is said where something is missing or wrong."""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING

import pytest

from web import make

if TYPE_CHECKING:
    from pathlib import Path

    from tests.web.browser import Chromium
    from tests.web.conftest import Page

TINY, MODEL = "matryoshka", "all-minilm-l6-v2-int8"
LOAD = """async ([name, options, missing]) => {
    if (missing) delete globalThis[missing];
    const { load } = await import(new URL("/conch-web/conch-web.js", document.baseURI));
    try {
        const model = await load(name, options);
        const found = [model.threads, (await model.embed("a cat")).length];
        model.dispose();
        return found;
    } catch (error) { return `${error.name}: ${error.message}`; }
}"""
PAGE = """import { load, type Model } from "conch-web";
const model: Model = await load("/web/m/", { threads: 1 });
export const vector: Float32Array = await model.embed("a cat");
// @ts-expect-error: a number is no text
await model.embed(5);
"""
MOST_BYTES = 60_000
"""Of the module, its worker and onnxruntime's glue, compressed: all but WebAssembly."""


def test_a_page_that_is_not_isolated_computes_on_one_thread(chromium: Chromium, elsewhere: str) -> None:
    assert chromium.run(elsewhere, LOAD, [f"{elsewhere}/{TINY}", {"threads": 2}]) == [1, 48]


def test_files_are_fetched_once_and_progress_is_told(page: Page) -> None:
    calls = "return (await model.embed('a')).length;"
    assert page.ask(TINY, calls, context="one visitor") == 48
    first = [address for address in page.asked if f"/web/{TINY}/" in address]
    assert page.ask(TINY, calls, context="one visitor") == 48
    again = [address for address in page.asked if f"/web/{TINY}/" in address]
    assert len(first) > 3
    assert [address.rpartition("/")[2] for address in again] == ["conch.json"]


def test_progress_grows_to_the_size_of_all_files(chromium: Chromium, page: Page) -> None:
    code = """async (name) => {
        const { load } = await import(new URL("web/conch-web/conch-web.js", document.baseURI));
        const told = [];
        (await load(`web/${name}/`, {onProgress: (progress) => told.push(progress)})).dispose();
        return told;
    }"""
    told = chromium.run(page.url, code, MODEL)
    loaded = [each["loaded"] for each in told]
    assert loaded == sorted(loaded)
    assert loaded[-1] == told[-1]["total"] > 20_000_000
    assert len(loaded) > 10


@pytest.mark.parametrize(
    ("fault", "kind", "message"),
    [
        ("changed", "IntegrityError", "another SHA-256 than conch.json says"),
        ("broken", "DownloadError", "check the network"),
        ("nowhere", "DownloadError", "status 404; check the address"),
    ],
)
def test_a_file_that_is_not_whole_is_refused(
    chromium: Chromium, elsewhere: str, fault: str, kind: str, message: str
) -> None:
    said = chromium.run(elsewhere, LOAD, [f"{elsewhere}/{fault}/{TINY}/", {}])
    assert said.startswith(f"{kind}: ")
    assert message in said


@pytest.mark.parametrize(
    ("flags", "missing", "message"),
    [
        ([], "WebAssembly", "no WebAssembly; update it"),
        ([], "Worker", "no workers"),
        (["--js-flags=--no-enable-sse4-1"], None, "no WebAssembly SIMD"),
    ],
    ids=["without WebAssembly", "without workers", "without SIMD"],
)
def test_an_old_browser_is_told_what_it_lacks(
    chromium: Chromium, elsewhere: str, flags: list[str], missing: str | None, message: str
) -> None:
    said = chromium.run(elsewhere, LOAD, [f"{elsewhere}/{TINY}/", {}, missing], flags=flags)
    assert said.startswith("UnsupportedBrowserError: ")
    assert message in said


def test_a_page_without_https_is_told_so(chromium: Chromium, elsewhere: str) -> None:
    flags = ["--host-resolver-rules=MAP pages.example 127.0.0.1"]
    said = chromium.run(elsewhere.replace("127.0.0.1", "pages.example"), LOAD, [f"/{TINY}/", {}], flags=flags)
    assert "serve it by https, or from localhost" in said


def test_a_browser_without_memory_is_told_what_to_do(chromium: Chromium, elsewhere: str) -> None:
    flags = ["--js-flags=--wasm-max-mem-pages=640"]
    said = chromium.run(elsewhere, LOAD, [f"{elsewhere}/all-minilm-l6-v2/", {}], flags=flags)
    assert said.startswith("OutOfMemoryError: ")
    assert "smaller model or precision" in said


def test_calls_after_dispose_and_what_was_under_way_are_rejected(page: Page) -> None:
    calls = """const late = model.embed("a ".repeat(200)); model.dispose();
        const names = [];
        for (const call of [late, model.embed("b")]) await call.catch((error) => names.push(error.name));
        return names;"""
    assert page.ask(TINY, calls) == ["DisposedError", "DisposedError"]


def test_loading_ends_where_its_signal_says_so(chromium: Chromium, page: Page) -> None:
    code = """async (name) => {
        const { load } = await import(new URL("web/conch-web/conch-web.js", document.baseURI));
        const ends = new AbortController();
        const loading = load(`web/${name}/`, {signal: ends.signal, onProgress: () => ends.abort()});
        return loading.then(() => "loaded", (error) => error.message);
    }"""
    assert chromium.run(page.url, code, MODEL) == "loading was aborted by its signal"


def test_texts_are_no_longer_than_the_page_wants(page: Page) -> None:
    calls = "return [model.maxLength, (await model.tokenize(['a '.repeat(99)]))[0].length];"
    assert page.ask(TINY, calls, options={"maxLength": 8}) == [8, 8]


def test_the_module_is_small() -> None:
    folder = make.built()
    files = [path for path in folder.iterdir() if path.suffix in {".js", ".mjs"}]
    assert {path.name for path in files} == {"conch-web.js", "worker.js", "ort-wasm-simd-threaded.mjs"}
    assert sum(len(gzip.compress(path.read_bytes())) for path in files) <= MOST_BYTES


def test_a_bundler_finds_the_module_and_its_types(tmp_path: Path) -> None:
    stated = json.loads((make.WEB / "package.json").read_text("utf-8"))["exports"]["."]
    make.built()
    assert [path for path in stated.values() if not (make.WEB / path).is_file()] == []
    (tmp_path / "node_modules").mkdir()
    (tmp_path / "node_modules" / "conch-web").symlink_to(make.WEB)
    (tmp_path / "page.ts").write_text(PAGE, encoding="utf-8")
    options = ["--noEmit", "--strict", "--module", "esnext", "--moduleResolution", "bundler", "--target", "es2022"]
    make.npm("exec", "--", "tsc", "--ignoreConfig", *options, "--types", "", str(tmp_path / "page.ts"))


@pytest.mark.parametrize("script", ["check", "test"])
def test_its_own_checks_pass(script: str) -> None:
    make.installed()
    make.npm("run", script)
