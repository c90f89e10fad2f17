"""`/v1/batches` as a resource: what creates one, lists of them, and the document."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from conch_gateway import GatewaySettings, create_app
from jsonschema import Draft202012Validator

from tests.batching import created, embeddings_of, jsonl, line, over, uploaded

if TYPE_CHECKING:
    import httpx

    from tests.unit.gateway.conftest import Serve, StandIn


@pytest.mark.parametrize(
    ("changes", "status", "param"),
    [
        pytest.param({"input_file_id": "file-none"}, 400, "input_file_id", id="no such file"),
        pytest.param({"input_file_id": "\0"}, 400, "input_file_id", id="no id at all"),
        pytest.param({"endpoint": "/v1/chat/completions"}, 400, "endpoint", id="another path"),
        pytest.param({"completion_window": "1y"}, 400, "completion_window", id="too long"),
        pytest.param({"completion_window": None}, 422, "completion_window", id="no window"),
        pytest.param({"metadata": {"a": 7}}, 422, "metadata.a", id="metadata that is no string"),
        pytest.param({"metadata": {str(n): "" for n in range(17)}}, 400, "metadata", id="too much metadata"),
        pytest.param({"metadata": dict.fromkeys(map(str, range(17)), 7)}, 400, "metadata", id="too much of anything"),
        pytest.param(
            {"output_expires_after": {"anchor": "created_at", "seconds": 1}},
            400,
            "output_expires_after.seconds",
            id="gone too soon",
        ),
    ],
)
async def test_a_batch_that_cannot_be_is_refused(
    storing: Serve, changes: dict[str, Any], status: int, param: str
) -> None:
    async with storing() as http:
        file = await uploaded(http, jsonl(embeddings_of("a")))
        body = {"input_file_id": file["id"], "endpoint": "/v1/embeddings", "completion_window": "24h"}
        refused = await http.post("/v1/batches", json={**body, **changes})

    assert (refused.status_code, refused.json()["error"]["param"]) == (status, param)


async def test_a_window_that_cannot_be_is_told_in_words(storing: Serve) -> None:
    async with storing() as http:
        body = {"input_file_id": "file-none", "endpoint": "/v1/embeddings", "completion_window": "24"}
        refused = await http.post("/v1/batches", json=body)

    assert refused.json()["error"]["message"].startswith("completion_window: must be 24h, or another number of minutes")


async def test_lists_are_gone_through_from_the_newest_on(storing: Serve) -> None:
    async with storing() as http:
        ids = [(await created(http, embeddings_of("a")))["id"] for _ in range(5)]
        seen: list[str] = []
        page: dict[str, Any] = {"has_more": True, "last_id": None}
        while page["has_more"]:
            after = {"after": page["last_id"]} if page["last_id"] else {}
            page = (await http.get("/v1/batches", params={"limit": 2, **after})).json()
            seen += [batch["id"] for batch in page["data"]]
        wrong = [(await http.get("/v1/batches", params={"limit": limit})).status_code for limit in ("0", "101", "x")]
        unknown = await http.get("/v1/batches", params={"after": "batch_none"})

    assert seen == ids[::-1]
    assert wrong == [400, 400, 400]
    assert unknown.status_code == 404


async def test_answers_are_what_the_document_says(storing: Serve, client: StandIn) -> None:
    document = create_app(GatewaySettings(), client).openapi()

    def check(method: str, path: str, answer: httpx.Response) -> dict[str, Any]:
        described = document["paths"][path][method]["responses"]["200"]["content"]["application/json"]["schema"]
        content: dict[str, Any] = answer.json()
        Draft202012Validator({**described, "components": document["components"]}).validate(content)
        return content

    async with storing() as http:
        content = jsonl([*embeddings_of("ab"), line("c", {})])
        upload = await http.post("/v1/files", files={"file": ("a", content)}, data={"purpose": "batch"})
        file = check("post", "/v1/files", upload)
        body = {"input_file_id": file["id"], "endpoint": "/v1/embeddings", "completion_window": "24h"}
        batch = check("post", "/v1/batches", await http.post("/v1/batches", json=body))
        await over(http, batch)
        check("get", "/v1/batches/{batch_id}", await http.get(f"/v1/batches/{batch['id']}"))
        check("get", "/v1/batches", await http.get("/v1/batches"))
        check("get", "/v1/files", await http.get("/v1/files"))
        check("get", "/v1/files/{file_id}", await http.get(f"/v1/files/{file['id']}"))
        check("delete", "/v1/files/{file_id}", await http.delete(f"/v1/files/{file['id']}"))
