"""What `/v1/embeddings` gives beside one float32 vector a text: other numbers, token vectors, sparse vectors."""

from __future__ import annotations

import base64
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from conch_gateway.api.fields.encodings import numbers
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import httpx

    from tests.unit.gateway.conftest import Serve, StandIn

URL = "/v1/embeddings"
UNIT = arrays.arrays(np.float32, (3, 16), elements=st.floats(-1, 1, width=32))


async def answer(http: httpx.AsyncClient, **body: Any) -> Any:
    response = await http.post(URL, json={"input": ["ab", "cde"], **body})
    assert response.status_code == 200, response.text
    return response.json()


async def embeddings(http: httpx.AsyncClient, **body: Any) -> list[Any]:
    return [item["embedding"] for item in (await answer(http, **body))["data"]]


@given(vectors=UNIT)
def test_eight_bit_numbers_are_within_half_a_step(vectors: np.ndarray[Any, Any]) -> None:
    steps = numbers(vectors, "int8")

    assert steps.dtype == np.int8
    assert np.abs(steps / 127.0 - vectors).max() <= 0.5 / 127 + 1e-6


@given(vectors=UNIT)
def test_unsigned_numbers_are_the_signed_ones_plus_128(vectors: np.ndarray[Any, Any]) -> None:
    pairs: list[tuple[Any, Any]] = [("int8", "uint8"), ("binary", "ubinary")]
    for signed, unsigned in pairs:
        low, high = numbers(vectors, signed), numbers(vectors, unsigned)
        assert (low.dtype.name, high.dtype.name) == ("int8", "uint8")
        assert np.array_equal(low.astype(int) + 128, high.astype(int))


def test_bits_are_set_from_zero_on_and_the_first_is_the_highest() -> None:
    vectors = np.array([[0.0, -1, -1, -1, -1, -1, -1, 0.5, -0.1, 0.1, -1, -1, -1, -1, -1, -1]], np.float32)

    assert numbers(vectors, "ubinary").tolist() == [[0b10000001, 0b01000000]]


async def test_without_a_type_vectors_are_floats(http: httpx.AsyncClient) -> None:
    assert all(isinstance(number, float) for row in await embeddings(http) for number in row)


@pytest.mark.parametrize("field", ["embedding_type", "encoding_type", "output_dtype"])
@pytest.mark.parametrize(
    ("name", "low", "high", "length"),
    [("int8", -127, 127, 8), ("uint8", 1, 255, 8), ("binary", -128, 127, 1), ("ubinary", 0, 255, 1)],
)
async def test_numbers_have_the_type_that_was_asked_for(
    http: httpx.AsyncClient, field: str, name: str, low: int, high: int, length: int
) -> None:
    for row in await embeddings(http, **{field: name}):
        assert len(row) == length
        assert all(isinstance(number, int) and low <= number <= high for number in row)


async def test_base64_holds_the_bytes_of_the_type(http: httpx.AsyncClient) -> None:
    listed = await embeddings(http, output_dtype="int8")
    packed = await embeddings(http, output_dtype="int8", encoding_format="base64")

    assert [np.frombuffer(base64.b64decode(row), np.int8).tolist() for row in packed] == listed


async def test_sdks_that_always_ask_for_base64_get_numbers_of_jinas_types(http: httpx.AsyncClient) -> None:
    listed = await embeddings(http, embedding_type="int8")

    assert await embeddings(http, embedding_type="int8", encoding_format="base64") == listed


async def test_several_types_come_by_name(http: httpx.AsyncClient) -> None:
    first, _ = await embeddings(http, embedding_type=["float", "base64", "ubinary"])

    assert set(first) == {"float", "base64", "ubinary"}
    assert np.frombuffer(base64.b64decode(first["base64"]), "<f4") == pytest.approx(first["float"])


async def test_bits_of_other_dimensions_than_multiples_of_8_are_refused(http: httpx.AsyncClient) -> None:
    response = await http.post(URL, json={"input": "ab", "dimensions": 4, "embedding_type": "binary"})

    assert (response.status_code, response.json()["error"]["param"]) == (400, "dimensions")


async def test_late_vectors_come_from_the_model_derived_from_the_named_one(
    http: httpx.AsyncClient, every_kind: StandIn
) -> None:
    told = await answer(http, model="letters", vector_type="late")

    assert told["model"] == "letters-tokens"
    assert [(item["shape"], len(item["embedding"])) for item in told["data"]] == [([2, 2], 2), ([3, 2], 3)]
    assert told["usage"] == {"prompt_tokens": 9, "total_tokens": 9}


async def test_late_vectors_in_base64_have_a_shape_to_read_them_by(
    http: httpx.AsyncClient, every_kind: StandIn
) -> None:
    told = await answer(http, vector_type="late", encoding_format="base64")

    item = told["data"][1]
    assert np.frombuffer(base64.b64decode(item["embedding"]), "<f4").reshape(item["shape"]).shape == (3, 2)


async def test_sparse_vectors_are_terms_and_weights(http: httpx.AsyncClient, every_kind: StandIn) -> None:
    told = await answer(http, input="ba", model="letters", vector_type="sparse")

    assert told["model"] == "letters-sparse"
    assert told["data"] == [
        {"object": "embedding", "index": 0, "embedding": {"indices": [97, 98], "values": [0.5, 0.5]}}
    ]


@pytest.fixture
def computed(every_kind: StandIn, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The texts, or their token ids, that the models are given."""
    found: list[Any] = []

    def noting(compute: Callable[..., Any]) -> Callable[..., Any]:
        def noted(texts: Sequence[Any], **options: Any) -> Any:
            found.extend(texts)
            return compute(texts, **options)

        return noted

    for name in ("embed", "embed_tokens", "embed_sparse"):
        monkeypatch.setattr(every_kind, name, noting(getattr(every_kind, name)))
    return found


@pytest.mark.parametrize("vector_type", ["dense", "late", "sparse"])
async def test_texts_are_tokenised_once(
    http: httpx.AsyncClient, every_kind: StandIn, computed: list[Any], vector_type: str
) -> None:
    await answer(http, vector_type=vector_type)

    assert [name for name, _ in every_kind.calls].count("tokenize") == 1
    assert computed == [[101, 97, 98, 102], [101, 99, 100, 101, 102]]


async def test_queries_that_are_looked_up_stay_texts_since_ids_do_not_tell_them(
    http: httpx.AsyncClient, every_kind: StandIn, computed: list[Any]
) -> None:
    every_kind.served = [
        replace(info, query_model="table", prompts={"query": ""}) if info.task == "sparse" else info
        for info in every_kind.served
    ]

    await answer(http, vector_type="sparse", input_type="query")

    assert computed == ["ab", "cde"]


async def test_a_model_without_such_vectors_is_refused(http: httpx.AsyncClient) -> None:
    response = await http.post(URL, json={"input": "ab", "model": "letters", "vector_type": "late"})

    assert (response.status_code, response.json()["error"]["param"]) == (400, "model")


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"vector_type": "late", "dimensions": 4}, id="shortened token vectors"),
        pytest.param({"vector_type": "sparse", "embedding_type": "int8"}, id="sparse vectors of int8"),
        pytest.param({"vector_type": "sparse", "normalize": True}, id="sparse vectors of length 1"),
        pytest.param({"vector_type": "sparse", "use_activation": True}, id="the same in vLLM's newer words"),
        pytest.param({"vector_type": "sparse", "normalized": True}, id="the same in Jina's"),
        pytest.param({"embedding_type": "int8", "output_dtype": "int8"}, id="a type said twice"),
        pytest.param({"dimensions": 4, "output_dimension": 4}, id="a length said twice"),
        pytest.param({"task": "retrieval.query", "input_type": "query"}, id="a purpose said twice"),
        pytest.param({"truncate_prompt_tokens": 7}, id="truncation to a length"),
        pytest.param({"embedding_type": "int4"}, id="an unknown type"),
        pytest.param({"embedding_type": []}, id="no type"),
        pytest.param({"vector_type": "hybrid"}, id="an unknown kind of vector"),
        pytest.param({"embedding_type": "int8", "encoding_type": "int8"}, id="a type by both of Jina's names"),
        pytest.param({"return_multivector": True}, id="Jina's token vectors"),
        pytest.param({"modality": "image"}, id="another modality"),
        pytest.param({"messages": []}, id="messages"),
        pytest.param({"add_special_tokens": False}, id="no special tokens"),
        pytest.param({"embed_dtype": "fp8_e4m3"}, id="floats of eight bits"),
        pytest.param({"encoding_format": "bytes"}, id="an answer in bytes"),
        pytest.param({"normalize": False}, id="vLLM's raw vectors of a model that gives none"),
        pytest.param({"use_activation": False}, id="the same in its newer words"),
        pytest.param({"normalized": False}, id="Jina's"),
        pytest.param({"normalized": False, "vector_type": "late"}, id="the same of token vectors"),
    ],
)
async def test_what_is_not_served_is_refused(
    http: httpx.AsyncClient, every_kind: StandIn, fields: dict[str, Any]
) -> None:
    response = await http.post(URL, json={"input": "ab", **fields})

    assert (response.status_code, response.json()["error"]["code"]) == (400, "invalid_value")


@pytest.mark.parametrize("field", ["normalize", "use_activation", "normalized"])
async def test_vectors_that_are_not_to_be_normalised_are_as_the_model_gives_them(
    http: httpx.AsyncClient, client: StandIn, field: str
) -> None:
    client.served[0] = replace(client.served[0], normalized=False)

    await answer(http, **{field: False})
    typed = await http.post(URL, json={"input": "a", field: False, "output_dtype": "int8"})

    assert client.calls[-1][1]["normalize"] is False
    assert typed.status_code == 400  # its range is for vectors of length 1


@pytest.mark.parametrize("kind", ["query", "passage"])
async def test_an_ending_of_the_models_name_picks_the_prompt_as_in_nim(
    http: httpx.AsyncClient, client: StandIn, kind: str
) -> None:
    told = await answer(http, model=f"letters-{kind}")

    assert told["model"] == "letters"
    assert client.calls[0][1]["prompt_name"] == {"query": "query", "passage": "document"}[kind]


async def test_a_model_that_is_called_so_is_that_model(http: httpx.AsyncClient, client: StandIn) -> None:
    client.rename("letters", "letters-query")

    assert (await answer(http, model="letters-query"))["model"] == "letters-query"
    assert client.calls[0][1]["prompt_name"] is None


@pytest.mark.parametrize(
    ("fields", "passed"),
    [
        pytest.param({"truncate": False}, "none", id="Jina's false"),
        pytest.param({"truncate": True}, "end", id="Jina's true"),
        pytest.param({"truncation": False}, "none", id="Voyage's false"),
        pytest.param({"truncate_prompt_tokens": -1}, "end", id="vLLM's -1"),
    ],
)
async def test_truncation_is_understood_in_every_dialect(
    http: httpx.AsyncClient, client: StandIn, fields: dict[str, Any], passed: str
) -> None:
    await answer(http, **fields)

    assert client.calls[0][1]["truncate"] == passed


@pytest.mark.parametrize("vector_type", ["dense", "late", "sparse"])
async def test_where_a_request_says_nothing_of_truncation_the_setting_applies(
    http_with: Serve, every_kind: StandIn, vector_type: str
) -> None:
    async with http_with(truncate="start") as http:
        await answer(http, vector_type=vector_type)

    assert {options["truncate"] for _, options in every_kind.calls if "truncate" in options} == {"start"}


async def test_a_long_list_is_computed_in_several_calls_and_keeps_its_order(
    http: httpx.AsyncClient, every_kind: StandIn
) -> None:
    texts = ["a" * (1 + number % 5) for number in range(20)]

    told = await answer(http, input=texts, vector_type="late")

    assert [name for name, _ in every_kind.calls].count("embed_tokens") == 3  # of at most 8 rows
    assert [item["shape"][0] for item in told["data"]] == list(map(len, texts))
