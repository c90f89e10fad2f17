"""Whatever comes, the gateway over a real Triton answers as docs/openapi.json says, and never with a 5xx."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
from collections import Counter
from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple

import httpx
from jsonschema import Draft202012Validator

from tests import environments
from tests.clients.conftest import KEY, ROOT
from tests.clients.mutations import mutated

if TYPE_CHECKING:
    from pathlib import Path

    from tests.clients.conftest import Served

DOCUMENT = ROOT / "docs" / "openapi.json"
CHECKS = ",".join(
    (
        "not_a_server_error",
        "status_code_conformance",
        "content_type_conformance",
        "response_headers_conformance",
        "response_schema_conformance",
        "allow_header_conformance",
    )
)
EXAMPLES_PER_OPERATION = 150
MUTATED_BODIES = 10_000
CONCURRENCY = 8
CHECKED_BYTES = 200_000  # what is larger has the same shape, and takes seconds to check


def test_generated_requests_get_answers_that_the_document_allows(served: Served, tmp_path: Path) -> None:
    python = environments.of_clients("fuzzing")
    command = [str(python.parent / "schemathesis"), "run", str(DOCUMENT), "--url", served.url, "--checks", CHECKS]
    options = ["--header", f"Authorization: Bearer {KEY}", "--max-examples", str(EXAMPLES_PER_OPERATION), "--seed", "1"]
    phases = ["--no-color", "--phases", "examples,coverage,fuzzing", "--continue-on-failure"]

    done = subprocess.run([*command, *options, *phases], capture_output=True, text=True, check=False, cwd=tmp_path)

    assert done.returncode == 0, done.stdout
    passed = re.search(r"(\d+) generated, (\d+) passed", done.stdout)
    assert passed is not None, done.stdout
    assert int(passed[2]) >= 5_000
    print(f"schemathesis: {passed[0]}")


async def test_mutated_bodies_get_answers_that_the_document_allows(served: Served) -> None:
    operations = _operations()
    turns, random = iter(range(MUTATED_BODIES)), Random(1)  # noqa: S311
    statuses = Counter[int]()
    wrong: list[str] = []

    async def ask_until_done(http: httpx.AsyncClient) -> None:
        for _ in turns:
            operation = random.choice(operations)
            body = mutated(operation.example, random)
            answer = await http.post(operation.path, content=body)
            statuses[answer.status_code] += 1
            if not operation.allows(answer):
                wrong.append(f"POST {operation.path} {body[:500]!r} got {answer.status_code} {answer.text[:500]}")

    headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
    async with httpx.AsyncClient(base_url=served.url, headers=headers, timeout=60) as http:
        await asyncio.gather(*(ask_until_done(http) for _ in range(CONCURRENCY)))

    assert not wrong, "\n".join(wrong[:10])
    assert statuses.total() == MUTATED_BODIES
    assert {200, 400, 404, 422} <= set(statuses)
    print(f"mutated bodies: {dict(statuses)}")


class Operation(NamedTuple):
    """A POST of the document: a body that is right, and what answers may look like."""

    path: str
    example: dict[str, Any]
    good: Draft202012Validator
    refused: Draft202012Validator

    def allows(self, answer: httpx.Response) -> bool:
        if answer.status_code == 200:
            return len(answer.content) > CHECKED_BYTES or self.good.is_valid(answer.json())
        return answer.status_code < 500 and self.refused.is_valid(answer.json())


def _operations() -> list[Operation]:
    document = json.loads(DOCUMENT.read_text(encoding="utf-8"))

    def validator(described: dict[str, Any]) -> Draft202012Validator:
        schema = described["content"]["application/json"]["schema"]
        return Draft202012Validator({**schema, "components": document["components"]})

    return [
        Operation(
            path,
            methods["post"]["requestBody"]["content"]["application/json"]["example"],
            validator(methods["post"]["responses"]["200"]),
            validator(methods["post"]["responses"]["4XX"]),
        )
        for path, methods in document["paths"].items()
        if "post" in methods
    ]
