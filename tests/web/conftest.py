"""One `conch serve` whose gateway serves models for the browser, the built module, and a Chromium."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from conch_client import Client
from conch_export import Options, Overrides, Precision

from benchmarks.browser.server import Files, Served
from tests import head_checkpoints, lookup_checkpoints
from tests.exports import ONE_CORE, export_once, options_of
from tests.serving import Serving
from tests.web.browser import Chromium
from web import make

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.checkpoints import Checkpoints

MODELS = (
    *("all-minilm-l6-v2", "all-minilm-l6-v2-int8", "tiny-cross-encoder", "words"),
    *("colbert", "unfilled", "instructor", "static", "matryoshka", "jina_bert-fp32", "unnormalised"),
)
TEMPLATE = "[CLS] {instruction} [SEP] {document} [SEP] answer [SEP] {query} [SEP] ? answer : "


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory, checkpoints: Checkpoints) -> Path:
    """The default model in both precisions, and a small one of every kind that browsers answer."""
    folder, made = tmp_path_factory.mktemp("repository"), tmp_path_factory.mktemp("checkpoints")
    int8: dict[str, Any] = {"name": "all-minilm-l6-v2-int8", "late_interaction": False, "plan": ONE_CORE}
    export_once(Options("all-minilm-l6-v2", folder, precision=Precision.FP32))
    export_once(Options("all-minilm-l6-v2", folder, overrides=Overrides(late_chunking=True), **int8))
    export_once(options_of(checkpoints, "bert_cross_encoder", folder, name="tiny-cross-encoder"))
    export_once(options_of(checkpoints, "jina_bert", folder))
    small = {
        "colbert": head_checkpoints.colbert(made / "colbert", attend_to_mask_tokens=False),
        "unfilled": head_checkpoints.pylate(made / "unfilled", do_query_expansion=False),
        "instructor": head_checkpoints.instructor(made / "instructor"),
        "words": head_checkpoints.make(made / "words", "qwen3", "ForCausalLM"),
        "static": lookup_checkpoints.static(made / "static"),
        "matryoshka": checkpoints.bert("matryoshka"),
        "unnormalised": checkpoints.bert("unnormalised"),
    }
    overrides = {
        "words": Overrides(score_tokens=("yes", "no"), pair_template=TEMPLATE, default_instruction="does"),
        "matryoshka": Overrides(
            prompts={"query": "a query: ", "passage": "a passage: "},
            default_prompt="passage",
            matryoshka=(16, 32),
            matryoshka_centred=True,
        ),
        "unnormalised": Overrides(normalize=False),
    }
    for name, checkpoint in small.items():
        chosen = Options(str(checkpoint), folder, name=name, precision=Precision.FP32, plan=ONE_CORE)
        export_once(replace(chosen, overrides=overrides.get(name, Overrides())))
    return folder


@pytest.fixture(scope="session")
def folder(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `conch web` writes for all of them, and the module beside it."""
    output = tmp_path_factory.mktemp("web")
    command = [sys.executable, "-m", "conch", "web", *MODELS, "--repository", str(repository), "--output", str(output)]
    subprocess.run(command, check=True, capture_output=True)
    shutil.rmtree(output / "conch-web", ignore_errors=True)  # of this checkout, if it has been packaged
    shutil.copytree(make.built(), output / "conch-web")
    return output


@pytest.fixture(scope="session")
def serving(repository: Path, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A real Triton and a real gateway over the same models."""
    with Serving(repository, tmp_path_factory.mktemp("serving"), CONCH_WEB_MODELS=str(folder)) as serving:
        yield serving


@pytest.fixture(scope="session")
def server(serving: Serving) -> Iterator[Client]:
    """The client of the same models, whose answers a browser's are compared with."""
    with Client(serving.grpc_url) as client:
        yield client


@pytest.fixture(scope="session")
def chromium() -> Iterator[Chromium]:
    """A browser."""
    assert shutil.which("chromium"), "there is no chromium on the PATH; Debian's package has it"
    with Chromium() as chromium:
        yield chromium


class Page:
    """A page of the gateway, with one model after the other."""

    def __init__(self, chromium: Chromium, url: str) -> None:
        self._chromium = chromium
        self.url = url

    def ask(self, model: str, calls: str, argument: Any = None, **how: Any) -> Any:
        """What `calls`, the body of an async function of `model` and `argument`, returns."""
        code = """async ([name, options, argument]) => {
            const { load } = await import(new URL("web/conch-web/conch-web.js", document.baseURI));
            const model = await load(`web/${name}/`, options);
            const numbers = (found) => found.map((vector) => Array.from(vector));
            try { CALLS } finally { model.dispose(); }
        }""".replace("CALLS", calls)
        return self._chromium.run(self.url, code, [model, how.pop("options", {}), argument], **how)

    @property
    def asked(self) -> list[str]:
        """Addresses that the last page has asked for."""
        return self._chromium.asked


@pytest.fixture(scope="session")
def page(chromium: Chromium, serving: Serving) -> Page:
    """Pages of the gateway."""
    return Page(chromium, serving.url)


class _Static(Files):
    """Files as any web server gives them, without the headers that isolate pages; some of them broken."""

    def do_GET(self) -> None:  # noqa: N802
        """Answer; below `/changed/` graphs have another last byte, below `/broken/` they break off."""
        fault, _, rest = self.path.lstrip("/").partition("/")
        if fault not in {"changed", "broken"}:
            super().do_GET()
            return
        self.path = f"/{rest}"
        content = Path(self.translate_path(self.path)).read_bytes()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if "encoder" in self.path:
            content = content[:-1] + b"?" if fault == "changed" else content[: len(content) // 2]
        self.wfile.write(content)


@pytest.fixture(scope="session")
def static() -> Callable[[Path], Served]:
    """To serve a folder with."""
    return partial(Served, files=_Static)


@pytest.fixture(scope="session")
def elsewhere(folder: Path) -> Iterator[str]:
    """The address of another web server with the same folder."""
    (folder / "index.html").write_text("<!doctype html><title>a page</title>", encoding="utf-8")
    with Served(folder, _Static) as server:
        yield server.url
