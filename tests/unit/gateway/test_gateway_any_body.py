"""Whatever JSON is sent, the answer is one of the stated ones: never a 500, always the envelope."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

if TYPE_CHECKING:
    import httpx

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
ANYTHING = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("ab"), inner))
FIELDS = (
    "input",
    "model",
    "encoding_format",
    "dimensions",
    "prompt_name",
    "input_type",
    "truncate",
    "query",
    "documents",
    "texts",
    "top_n",
    "top_k",
    "return_documents",
    "truncation_direction",
)


@pytest.mark.parametrize("path", ["/v1/embeddings", "/rerank"])
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=st.dictionaries(st.sampled_from(FIELDS), ANYTHING | st.just("a") | st.just(["a"])))
async def test_any_body_gets_a_stated_answer(http: httpx.AsyncClient, path: str, body: dict[str, Any]) -> None:
    response = await http.post(path, content=json.dumps(body))

    assert response.status_code in {200, 400, 404, 422}
    assert response.status_code == 200 or set(response.json()["error"]) == {"message", "type", "param", "code"}


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=st.binary())
async def test_any_bytes_get_a_stated_answer(http: httpx.AsyncClient, body: bytes) -> None:
    assert (await http.post("/v1/embeddings", content=body)).status_code in {400, 422}
