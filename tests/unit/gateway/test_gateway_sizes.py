"""What would take long, or have an answer of many megabytes, is refused before it is begun."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from conch_gateway.scheduling.sizes import estimated_sizes, split

if TYPE_CHECKING:
    import httpx

    from tests.unit.gateway.conftest import Serve, StandIn

TEXTS = "/v1/embeddings"
LATE = {"vector_type": "late"}


def body_of(values: str) -> bytes:
    return b'{"input": [' + values.encode() + b"]}"


@pytest.mark.parametrize(
    ("values", "told"),
    [
        pytest.param("1," * 2**20 + "1", "more than 1048576 values", id="token ids"),
        pytest.param('"a",' * 2**20 + '"a"', "more than 1048576 values", id="texts"),
        pytest.param("[1]," * 2**16 + "[1]", "more than 65536 lists", id="rows"),
        pytest.param('{"text":"a"},' * 2**16 + "{}", "more than 65536 lists", id="documents"),
    ],
)
async def test_more_values_than_a_request_needs_are_refused_before_they_are_made(
    http: httpx.AsyncClient, client: StandIn, values: str, told: str
) -> None:
    answer = await http.post(TEXTS, content=body_of(values))

    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "body_too_large")
    assert told in answer.text
    assert not client.calls


@pytest.mark.parametrize("text", ["a," * 2**20, "[{" * 2**16, '\\",[' * 2**20, "\\\\" * 99 + ",[" * 2**20])
async def test_what_is_in_a_text_is_no_value(http: httpx.AsyncClient, text: str) -> None:
    answer = await http.post(TEXTS, content=body_of(f'"{text}", "b"'))

    assert answer.status_code == 200
    assert len(answer.json()["data"]) == 2


@pytest.mark.parametrize(
    ("path", "fits", "more"),
    [
        pytest.param("/tokenize", {"inputs": ["a" * 2**16] * 2}, {"inputs": ["a" * 2**16] * 2 + ["a"]}, id="texts"),
        pytest.param("/decode", {"ids": [[65] * 2**16] * 2}, {"ids": [[65] * (2**17 + 1)]}, id="token ids"),
    ],
)
async def test_answers_that_tell_every_token_have_a_bound(
    http: httpx.AsyncClient, path: str, fits: dict[str, Any], more: dict[str, Any]
) -> None:
    taken, refused = await http.post(path, json=fits), await http.post(path, json=more)

    assert (taken.status_code, refused.status_code) == (200, 400)
    assert "131072" in refused.text


async def test_answers_with_a_vector_for_each_token_have_a_bound(http_with: Serve, every_kind: StandIn) -> None:
    every_kind.served = [replace(info, dimension=2**20) for info in every_kind.served]  # so that 4 tokens are the most
    async with http_with() as http:
        taken = await http.post(TEXTS, json={"input": ["ab"], **LATE})
        refused = await http.post(TEXTS, json={"input": ["ab", "c"], **LATE})

    assert (taken.status_code, refused.status_code) == (200, 400)
    assert "7 tokens are too many, as each gets a vector" in refused.text


def test_a_query_counts_with_each_of_its_documents() -> None:
    assert estimated_sizes(["d" * 40] * 100, beside=400) == [112] * 100
    assert estimated_sizes(["d" * 40] * 100, 64, beside=400) == [64] * 100


@pytest.mark.parametrize(
    ("sizes", "calls", "expected"),
    [
        pytest.param([9] * 5, 1, [[0, 1, 2, 3], [4]], id="as few as may be"),
        pytest.param([9] * 4, 2, [[0, 1], [2, 3]], id="in equal parts"),
        pytest.param([30, 10, 10, 10], 2, [[0], [1, 2, 3]], id="of about as many tokens"),
        pytest.param([1, 1, 1, 1, 1, 95], 2, [[0, 1, 2, 3], [4, 5]], id="never more rows than fit"),
        pytest.param([9], 4, [[0]], id="one row is one call"),
    ],
)
def test_rows_are_split_into_calls(sizes: list[int], calls: int, expected: list[list[int]]) -> None:
    assert [list(each) for each in split(sizes, 4, calls=calls)] == expected


def test_rows_of_similar_size_go_together_where_that_is_asked_for() -> None:
    assert [list(each) for each in split([9, 1, 8, 2], 4, calls=2, alike=True)] == [[1, 3, 2], [0]]
