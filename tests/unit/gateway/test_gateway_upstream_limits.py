"""Models of another server within the gateway's limits: cache, calls, turns, keys, metrics, timings."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from conch_gateway.auth.keys import create_key
from conch_gateway.backends.upstream import Upstream
from conch_gateway.backends.upstream_table import UpstreamTable
from conch_gateway.jobs import EmbeddingJob
from conch_gateway.scheduling.admission import Admission
from conch_gateway.scheduling.slots import Flow, Work

from tests.unit.gateway.other_server import TOKENS, answer_with
from tests.waiting import eventually

if TYPE_CHECKING:
    from pathlib import Path

    import httpx

    from tests.unit.gateway.conftest import Serve
    from tests.unit.gateway.other_server import OtherServer

ADMIN = {"authorization": "Bearer root"}
SHORT_CALLS = "max_rows = 2\ncalls = 2"


async def embedded(http: httpx.AsyncClient, *texts: str, **fields: Any) -> tuple[list[list[float]], int]:
    response = await http.post("/v1/embeddings", json={"model": "far", "input": list(texts), **fields})
    assert response.status_code == 200, response.text
    answer = response.json()
    return [item["embedding"] for item in answer["data"]], answer["usage"]["total_tokens"]


def sent(other: OtherServer) -> list[Any]:
    return [request.get("input", request.get("documents")) for request in other.requests]


async def in_flight(http: httpx.AsyncClient, *, texts: int) -> bool:
    return f"conch_gateway_in_flight_texts {texts}.0" in (await http.get("/metrics")).text


def distinct(*texts: str) -> dict[str, Any]:
    return answer_with([[float(len(text)), 1.0] for text in texts])


async def test_with_a_cache_only_new_texts_are_asked_for_and_only_their_tokens_counted(
    http_of: Serve, other: OtherServer
) -> None:
    other.script = [(200, distinct("a", "bb"), {}), (200, distinct("ccc"), {})]
    async with http_of(cache_mb=1) as http:
        first = await embedded(http, "a", "bb", "a")
        second = await embedded(http, "bb", "ccc", "a")
        third = await embedded(http, "a", "bb", "ccc")
        exposition = (await http.get("/metrics")).text
    assert sent(other) == [["a", "bb"], ["ccc"]]
    assert [tokens for _, tokens in (first, second, third)] == [TOKENS, TOKENS, 0]
    assert (first[0][0], first[0][1]) == (second[0][2], second[0][0]) == (first[0][2], third[0][1])
    assert second[0][1] == third[0][2]
    assert 'conch_gateway_cache_texts_total{model="far",result="hit"} 5.0' in exposition
    assert 'conch_gateway_cache_texts_total{model="far",result="miss"} 4.0' in exposition


async def test_without_a_cache_a_text_that_is_sent_twice_is_asked_for_once(http_of: Serve, other: OtherServer) -> None:
    async with http_of() as http:
        vectors, _ = await embedded(http, "a", "b", "a")
    assert (len(vectors), sent(other)) == (3, [["a", "b"]])


@pytest.mark.parametrize(
    "other_fields",
    [
        pytest.param({"dimensions": 2}, id="dimensions"),
        pytest.param({"input_type": "query"}, id="purpose"),
        pytest.param({"truncate": "start"}, id="truncation"),
    ],
)
async def test_what_a_vector_depends_on_keeps_entries_apart(
    http_of: Serve, other: OtherServer, other_fields: dict[str, Any]
) -> None:
    async with http_of(cache_mb=1) as http:
        await embedded(http, "a")
        await embedded(http, "a", **other_fields)
    assert len(other.requests) == 2


async def test_an_alias_shares_what_is_remembered(http_of: Serve, other: OtherServer) -> None:
    async with http_of('[further]\nmodel = "far"', cache_mb=1) as http:
        await embedded(http, "a")
        await embedded(http, "a", model="further")
    assert len(other.requests) == 1


async def test_what_is_remembered_is_forgotten_when_the_models_file_is_read_again(
    http_of: Serve, other: OtherServer
) -> None:
    async with http_of(cache_mb=1, admin_key="root") as http:
        await embedded(http, "a")
        assert (await http.post("/admin/reload", headers=ADMIN)).status_code == 200
        await embedded(http, "a")
    assert len(other.requests) == 2


async def test_a_server_that_the_models_file_names_no_more_is_left_when_its_last_request_is_answered(
    http_of: Serve, other: OtherServer, tmp_path: Path
) -> None:
    other.permits = asyncio.Semaphore(0)
    async with http_of(admin_key="root") as http:
        asked = asyncio.create_task(embedded(http, "a"))
        await eventually(lambda: other.at_once)
        (tmp_path / "models.toml").write_text("")
        assert (await http.post("/admin/reload", headers=ADMIN)).status_code == 200
        assert 'backend="far"' not in (await http.get("/metrics")).text
        assert other.connections
        other.permits.release()
        assert len((await asked)[0]) == 1
        await eventually(lambda: not other.connections)


async def test_an_idle_server_that_the_models_file_names_no_more_is_left_at_once(
    http_of: Serve, other: OtherServer, tmp_path: Path
) -> None:
    async with http_of(admin_key="root") as http:
        await embedded(http, "a")
        assert other.connections
        (tmp_path / "models.toml").write_text("")
        assert (await http.post("/admin/reload", headers=ADMIN)).status_code == 200
        await eventually(lambda: not other.connections)


async def test_a_refusal_counts_places_among_the_texts_that_were_given(http_of: Serve, other: OtherServer) -> None:
    async with http_of(cache_mb=1) as http:
        await embedded(http, "known")
        other.script = [(400, {"error": {"message": "input[0] is too long"}}, {})]
        answer = await http.post("/v1/embeddings", json={"model": "far", "input": ["known", "known", "long"]})
    assert answer.status_code == 400
    assert "input[2]" in answer.json()["error"]["message"]
    assert len(other.requests) == 2


async def test_a_long_list_is_asked_for_in_calls_and_keeps_its_order(http_of: Serve, other: OtherServer) -> None:
    texts = ["a" * length for length in (1, 2, 3, 4, 5)]
    async with http_of(f"{SHORT_CALLS}\nvector_types = ['dense', 'late']") as http:
        late = (await http.post("/embed_all", json={"model": "far", "inputs": texts})).json()
        _, tokens = await embedded(http, *texts)
    assert sorted(map(len, sent(other))) == [1, 1, 2, 2, 2, 2]
    assert [len(vectors) for vectors in late] == [1, 2, 3, 4, 5]
    assert tokens == 3 * TOKENS


async def test_a_long_list_of_documents_is_ranked_as_one(http_of: Serve, other: OtherServer) -> None:
    documents = ["a" * length for length in (3, 1, 5, 2, 4)]
    async with http_of(f"{SHORT_CALLS}\ntask = 'rerank'") as http:
        body = {"model": "far", "query": "q", "documents": documents, "top_n": 3, "return_documents": True}
        told = (await http.post("/v1/rerank", json=body)).json()
    assert sorted(map(len, sent(other))) == [1, 2, 2]
    assert [(item["index"], item["document"]["text"]) for item in told["results"]] == [
        (2, "aaaaa"),
        (4, "aaaa"),
        (0, "aaa"),
    ]
    assert told["usage"]["total_tokens"] == 3 * TOKENS


@pytest.mark.parametrize(
    ("message", "told"),
    [
        pytest.param("input[1] is too long", "input[4] is too long", id="with a place"),
        pytest.param("too long", "too long (in a call with inputs [3, 4])", id="without one"),
        pytest.param("at most [512] tokens", "tokens (in a call with inputs [3, 4])", id="another number"),
    ],
)
async def test_a_refusal_of_a_call_counts_places_among_the_texts_that_were_given(
    http_of: Serve, other: OtherServer, message: str, told: str
) -> None:
    async with http_of("max_rows = 2\ncalls = 1") as http:
        other.script = [(200, distinct("a", "b"), {}), (400, {"message": message}, {})]
        answer = await http.post("/v1/embeddings", json={"model": "far", "input": ["a", "b", "a", "c", "d"]})
    assert answer.status_code == 400
    assert told in answer.json()["error"]["message"]
    assert len(other.requests) == 2


async def test_no_more_calls_are_under_way_than_the_table_says(http_of: Serve, other: OtherServer) -> None:
    other.permits = asyncio.Semaphore(0)
    async with http_of(SHORT_CALLS) as http:
        asking = asyncio.create_task(embedded(http, *"abcdefgh"))
        for answered in range(4):
            await eventually(lambda answered=answered: len(other.requests) >= min(answered + 2, 4))  # type: ignore[misc]
            other.permits.release()
        assert len((await asking)[0]) == 8
    assert other.most_at_once == 2


async def test_a_text_overtakes_what_is_left_of_a_long_list(http_of: Serve, other: OtherServer) -> None:
    other.permits = asyncio.Semaphore(0)
    async with http_of(SHORT_CALLS) as http:
        bulk = asyncio.create_task(embedded(http, *(f"bulk {number}" for number in range(40))))
        await eventually(lambda: len(other.requests) == 2)
        single = asyncio.create_task(embedded(http, "single"))
        await eventually(lambda: in_flight(http, texts=41))
        for _ in range(3):
            other.permits.release()
        await single
        assert sent(other).index(["single"]) == 2
        assert not bulk.done()
        for _ in range(20):
            other.permits.release()
        await bulk


async def test_another_upstream_is_not_held_up(http_of: Serve, other: OtherServer) -> None:
    second = f'{SHORT_CALLS}\n[near]\nurl = "{other.url}"\nmodel = "quick"'
    other.permits = asyncio.Semaphore(0)
    async with http_of(second) as http:
        bulk = asyncio.create_task(embedded(http, *"abcdefgh"))
        await eventually(lambda: len(other.requests) == 2)
        near = asyncio.create_task(embedded(http, "a", model="near"))
        await eventually(lambda: other.requests[-1]["model"] == "quick")
        for _ in range(5):
            other.permits.release()
        await asyncio.gather(bulk, near)


async def test_the_time_of_a_request_includes_its_wait(http_of: Serve, other: OtherServer) -> None:
    other.permits = asyncio.Semaphore(0)
    async with http_of("calls = 1") as http:
        first = asyncio.create_task(embedded(http, "a"))
        await eventually(lambda: other.requests)
        body, hurry = {"model": "far", "input": "b"}, {"x-request-timeout-s": "0.1"}
        answer = await http.post("/v1/embeddings", json=body, headers=hurry)
        other.permits.release()
        await first
    assert answer.status_code == 504
    assert len(other.requests) == 1


async def test_too_many_texts_and_a_full_gateway_are_refused_before_it_is_asked(
    http_of: Serve, other: OtherServer
) -> None:
    other.permits = asyncio.Semaphore(0)
    async with http_of(max_inputs=2, max_in_flight_texts=2) as http:
        many = await http.post("/v1/embeddings", json={"model": "far", "input": ["a", "b", "c"]})
        asking = asyncio.create_task(embedded(http, "a", "b"))
        await eventually(lambda: other.requests)
        full = await http.post("/v1/embeddings", json={"model": "far", "input": ["c"]})
        other.permits.release()
        await asking
    assert (many.status_code, full.status_code, len(other.requests)) == (400, 429, 1)


async def test_a_busy_server_passes_on_when_to_come_again_whatever_was_asked(
    http_of: Serve, other: OtherServer
) -> None:
    other.script = [(429, {}, {"retry-after": "17"})]
    async with http_of("task = 'rerank'") as http:
        answer = await http.post("/rerank", json={"model": "far", "query": "q", "texts": ["a"]})
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "17")


async def test_tokens_that_it_does_not_count_are_estimated_so_that_limits_hold(
    http_of: Serve, other: OtherServer
) -> None:
    other.script = [(200, {"data": [{"index": 0, "embedding": [1.0]}]}, {})]
    async with http_of() as http:
        _, tokens = await embedded(http, "a" * 400)
    assert tokens == 102


async def test_a_key_for_another_model_does_not_reach_it(http_of: Serve, other: OtherServer, tmp_path: Path) -> None:
    keys = tmp_path / "keys.json"
    own, others = create_key(keys, "alice", models=["far"]), create_key(keys, "bob", models=["letters"])
    async with http_of(api_keys_file=keys) as http:
        body = {"model": "far", "input": "a"}
        statuses = [
            (await http.post("/v1/embeddings", json=body, headers={"api-key": key})).status_code
            for key in (own, others)
        ]
        listed = (await http.get("/v1/models", headers={"api-key": own})).json()["data"]
    assert (statuses, len(other.requests)) == ([200, 404], 1)
    assert [model["id"] for model in listed] == ["far"]


async def test_tokens_of_it_count_for_the_limit_of_a_key(http_of: Serve, tmp_path: Path) -> None:
    key = create_key(tmp_path / "keys.json", "alice", tokens_per_minute=TOKENS)
    async with http_of(api_keys_file=tmp_path / "keys.json") as http:
        body = {"model": "far", "input": "a"}
        answers = [await http.post("/v1/embeddings", json=body, headers={"api-key": key}) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 429]


@pytest.mark.parametrize(
    ("table", "path", "body"),
    [
        pytest.param("", "/v1/embeddings", {"input": ["a", "b"]}, id="dense vectors"),
        pytest.param("vector_types = ['late']", "/embed_all", {"inputs": ["a", "b"]}, id="token vectors"),
        pytest.param("vector_types = ['sparse']", "/embed_sparse", {"inputs": ["a", "b"]}, id="sparse vectors"),
        pytest.param("task = 'rerank'", "/v1/rerank", {"query": "q", "documents": ["a", "b"]}, id="a ranking"),
    ],
)
async def test_it_is_counted_and_timed_like_a_model_of_triton(
    http_of: Serve, other: OtherServer, table: str, path: str, body: dict[str, Any]
) -> None:
    async with http_of(table) as http:
        answer = await http.post(path, json={"model": "far", **body}, headers={"x-request-id": "id-7"})
        other.script = [(400, {}, {})]
        await http.post(path, json={"model": "far", **body})
        exposition = (await http.get("/metrics")).text.splitlines()
    assert [phase.split(";")[0] for phase in answer.headers["server-timing"].split(", ")] == [
        "queue",
        "inference",
        "total",
    ]
    assert answer.headers["x-compute-tokens"] == str(TOKENS)
    assert "x-request-id: id-7" in other.heads[0]
    for sample in (
        f'conch_gateway_requests_total{{model="far",route="{path}",status="200"}} 1.0',
        f'conch_gateway_requests_total{{model="far",route="{path}",status="400"}} 1.0',
        'conch_gateway_errors_total{code="invalid_value"} 1.0',
        f'conch_gateway_tokens_total{{model="far"}} {float(TOKENS)}',
        'conch_gateway_texts_total{model="far"} 2.0',
        'conch_gateway_phase_seconds_count{model="far",phase="queue"} 2.0',
        'conch_gateway_phase_seconds_count{model="far",phase="inference"} 1.0',
        "conch_gateway_in_flight_texts 0.0",
    ):
        assert sample in exposition


async def test_names_that_callers_invent_make_no_series(http_of: Serve) -> None:
    """In every way in which a name is more than looked up: NIM's endings, Ollama's tags, paths."""

    async def series_after(number: int) -> set[str]:
        for path, name in (
            ("/v1/embeddings", f"far-{number}"),
            ("/v1/embeddings", f"invented-{number}-query"),
            ("/api/embed", f"invented-{number}:latest"),
        ):
            await http.post(path, json={"model": name, "input": "a"})
        await http.post("/v1/rerank", json={"model": f"invented-{number}", "query": "q", "documents": ["a"]})
        await http.get(f"/v1/models/invented-{number}")
        await http.get(f"/invented-{number}")
        return {line.rpartition(" ")[0] for line in (await http.get("/metrics")).text.splitlines()}

    async with http_of() as http:
        await series_after(0)
        first = await series_after(1)
        for number in range(2, 20):
            assert await series_after(number) == first
    assert not [series for series in first if "invented" in series or 'model="far-' in series]


RIGHT: Any = (200, distinct("a", "b"), {})
FAILED: Any = (500, {}, {})


@pytest.mark.parametrize(
    ("script", "table", "statuses"),
    [
        pytest.param([RIGHT, FAILED], "", [502, 429], id="one of two calls was answered"),
        pytest.param([FAILED], "", [502, 200], id="none was answered"),
        pytest.param([RIGHT], "timeout_s = 0.2", [504, 429], id="there was no time for the second"),
    ],
)
async def test_of_a_request_that_fails_those_tokens_count_that_were_computed(
    http_of: Serve, other: OtherServer, tmp_path: Path, script: list[Any], table: str, statuses: list[int]
) -> None:
    other.script = script
    if table:
        other.permits = asyncio.Semaphore(len(script))
    secret = create_key(tmp_path / "keys.json", "alice", tokens_per_minute=1)
    body = {"model": "far", "input": ["a", "b", "c", "d"]}
    async with http_of(f"max_rows = 2\ncalls = 1\nretries = 0\n{table}", api_keys_file=tmp_path / "keys.json") as http:
        answers = [
            (await http.post("/v1/embeddings", json=body, headers={"api-key": secret})).status_code for _ in range(2)
        ]
    assert answers == statuses


async def test_background_work_waits_for_its_slot_as_long_as_others_have_it(other: OtherServer) -> None:
    table = UpstreamTable(url=other.url, model="theirs", calls=1, timeout_s=0.05)
    upstream = Upstream("far", table, "end")
    slots = upstream._backlog.slots
    admission = Admission(upstream._backlog, max_requests=9, max_texts=99, max_tokens=999)
    another = slots.enter("another", Flow("somebody", Work.LARGE), "a-model")
    with admission.reserve("request", "me", ["a"], background=True) as reservation:
        async with slots.slot(another, 1):
            info = await upstream.model("far")
            asking = asyncio.create_task(upstream.embed(info, EmbeddingJob(["a"]), reservation))
            await asyncio.sleep(0.2)
            assert not asking.done()
            upstream._table = table.model_copy(update={"timeout_s": 60.0})  # enough for its call, on any machine
        answer = await asking
    await upstream.close()

    assert answer.given.shape == (1, 3)
