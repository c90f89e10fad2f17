"""The committed description of the API is the one that the gateway gives: a change of the API is seen in review."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

DOCS = Path(__file__).parents[2] / "docs"


def generated() -> Any:
    specification = importlib.util.spec_from_file_location("docs_generate", DOCS / "generate.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_the_committed_document_is_up_to_date() -> None:
    committed = (DOCS / "openapi.json").read_text(encoding="utf-8")

    assert json.loads(committed) == json.loads(generated().openapi()), "run make docs and commit docs/openapi.json"


def test_every_generated_page_is_up_to_date(capsys: pytest.CaptureFixture[str]) -> None:
    assert generated().main(["--check"]) == 0, capsys.readouterr().out


@pytest.mark.parametrize("path", ["/v1/embeddings", "/rerank", "/v1/rerank", "/v2/rerank"])
def test_bodies_answers_and_errors_are_described(path: str) -> None:
    operation = json.loads(generated().openapi())["paths"][path]["post"]

    assert operation["requestBody"]["required"] is True
    assert set(operation["responses"]) == {"200", "4XX", "5XX"}


def test_every_reference_can_be_followed() -> None:
    text = generated().openapi()
    schemas = json.loads(text)["components"]["schemas"]

    referred = {line.split("/")[-1].strip('",') for line in text.splitlines() if '"$ref"' in line}
    assert referred <= set(schemas)
