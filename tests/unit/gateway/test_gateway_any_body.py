"""Whatever JSON is sent, the answer is one of the stated ones: never a 500, always the dialect's error."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

if TYPE_CHECKING:
    import httpx

    from tests.unit.gateway.conftest import StandIn

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
ANYTHING = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("ab"), inner))
FIELDS = (
    "input", "inputs", "text_1", "text_2", "texts", "prompt", "ids", "query", "documents", "passages", "parameters",
    "model", "encoding_format", "embedding_type", "embedding_types", "vector_type", "dimensions", "prompt_name",
    "input_type", "truncate", "truncation_direction", "normalize", "top_n", "top_k", "return_documents",
    "rank_fields", "max_tokens_per_doc", "use_activation", "embed_dtype", "endianness", "name", "user",
)  # fmt: skip
OPENAI = {"error"}
SHARED = {"error", "message", "detail"}
TEI = {"error", "error_type"}
ERROR_KEYS = {
    "/v1/embeddings": SHARED,
    "/openai/v1/embeddings": SHARED,
    "/v1/embed": {"message"},
    "/v2/embed": {"message"},
    "/rerank": TEI,
    "/v1/rerank": SHARED,
    "/v2/rerank": {"message"},
    "/v1/ranking": OPENAI,
    "/score": OPENAI,
    "/pooling": OPENAI,
    "/": TEI,
    "/embed": TEI,
    "/embed_all": TEI,
    "/embed_sparse": TEI,
    "/similarity": TEI,
    "/predict": TEI,
    "/tokenize": TEI,
    "/decode": TEI,
    "/api/embed": {"error"},
    "/api/embeddings": {"error"},
    "/api/show": {"error"},
    "/api/pull": {"error"},
}
LIKELY = ANYTHING | st.sampled_from(["a", ["a"], ["a", "b"], [["a", "b"]], {"text": "a"}, [1], "letters", -1, 4])


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=st.dictionaries(st.sampled_from(FIELDS), LIKELY))
async def test_any_body_gets_a_stated_answer(
    http: httpx.AsyncClient, every_kind: StandIn, body: dict[str, Any]
) -> None:
    for path, keys in ERROR_KEYS.items():
        response = await http.post(path, content=json.dumps(body))

        assert response.status_code in {200, 400, 404, 422}, path
        assert response.status_code == 200 or set(response.json()) == keys, path


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=st.binary())
async def test_any_bytes_get_a_stated_answer(http: httpx.AsyncClient, body: bytes) -> None:
    assert (await http.post("/v1/embeddings", content=body)).status_code in {400, 422}
