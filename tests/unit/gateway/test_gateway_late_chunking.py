"""`late_chunking` of Jina's clients: the texts of a request are the chunks of one document."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import httpx

    from tests.unit.gateway.conftest import StandIn

BODY: dict[str, Any] = {"model": "letters", "input": ["ab", "cde"], "late_chunking": True}


async def test_chunks_are_embedded_together_by_the_derived_model(http: httpx.AsyncClient, every_kind: StandIn) -> None:
    response = await http.post("/v1/embeddings", json={**BODY, "task": "retrieval.passage", "dimensions": 4})

    answer = response.json()
    assert [(item["index"], item["embedding"]) for item in answer["data"]] == [(0, [2, 5]), (1, [3, 5])]
    assert answer["model"] == "letters-chunks"
    assert answer["usage"]["total_tokens"] == 7  # of the whole document, with its special tokens
    ((name, options),) = every_kind.calls  # it is tokenised there, and nowhere before
    assert (name, options["model"], options["prompt_name"], options["dimensions"]) == (
        "embed_chunks",
        "letters-chunks",
        None,
        4,
    )


async def test_false_embeds_each_text(http: httpx.AsyncClient, every_kind: StandIn) -> None:
    await http.post("/v1/embeddings", json={**BODY, "late_chunking": False})

    assert [name for name, _ in every_kind.calls] == ["tokenize", "embed"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"input": [[1, 2], [3]]}, "late_chunking: the chunks of a document are joined as text"),
        ({"vector_type": "late"}, "late_chunking: chunks have dense vectors only"),
        ({"dimensions": 9}, "dimensions: model"),
        ({"late_chunking": "maybe"}, "late_chunking"),
    ],
    ids=["token ids", "token vectors", "too many numbers", "no truth value"],
)
async def test_what_does_not_go_with_it_is_refused_by_name(
    http: httpx.AsyncClient, every_kind: StandIn, changes: dict[str, Any], message: str
) -> None:
    response = await http.post("/v1/embeddings", json={**BODY, **changes})

    assert response.status_code == 400
    assert message in response.json()["error"]["message"]
    assert every_kind.calls == []


async def test_a_model_without_it_names_the_export(http: httpx.AsyncClient) -> None:
    response = await http.post("/v1/embeddings", json=BODY)

    assert response.status_code == 400
    assert "export it with --late-chunking, if it pools by the mean" in response.json()["error"]["message"]
