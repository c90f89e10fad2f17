"""What becomes of each line of a batch: the answer that a request gets, or why there is none."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from conch_client import DeadlineExceededError, OverloadedError, ServerError, UnavailableError
from conch_gateway.batches import attempts, pace, service
from conch_gateway.batches.lines import Answered, Lines, Outcome, output_line
from conch_gateway.errors import UpstreamError

from tests.batching import answers, created, embeddings_of, fetched, line, over
from tests.unit.gateway.conftest import model_info
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.unit.gateway.conftest import Serve, StandIn


async def test_every_line_has_the_answer_that_a_request_gets(storing: Serve) -> None:
    texts = [f"text {number}" for number in range(100)]
    async with storing() as http:
        batch = await over(http, await created(http, embeddings_of(texts), metadata={"mine": "yes"}))
        written = await answers(http, batch["output_file_id"])
        asked = [(await http.post("/v1/embeddings", json={"model": "letters", "input": text})).json() for text in texts]

    assert (batch["status"], batch["request_counts"]) == ("completed", {"total": 100, "completed": 100, "failed": 0})
    assert [each["custom_id"] for each in written] == [str(number) for number in range(100)]
    assert [each["response"]["body"] for each in written] == asked
    assert {each["response"]["status_code"] for each in written} == {200}
    assert {each["error"] for each in written} == {None}
    assert (batch["error_file_id"], batch["errors"], batch["metadata"]) == (None, None, {"mine": "yes"})
    assert batch["usage"]["total_tokens"] == sum(answer["usage"]["total_tokens"] for answer in asked)
    assert batch["created_at"] <= batch["in_progress_at"] <= batch["finalizing_at"] <= batch["completed_at"]


async def test_a_batch_begins_and_ends_at_once(storing: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "_LOOK_S", 3600)
    async with storing() as http:
        for texts in (["one"], ["two", "three"]):
            batch = await over(http, await created(http, embeddings_of(texts)))
            assert batch["request_counts"]["completed"] == len(texts)


async def test_a_line_that_is_wrong_fails_alone(storing: Serve) -> None:
    lines = embeddings_of(["good", "", "fine"])
    lines[2]["body"]["model"] = "no-such-model"
    async with storing() as http:
        batch = await over(http, await created(http, lines))
        good, bad = [await answers(http, batch[f"{kind}_file_id"]) for kind in ("output", "error")]
        told = (await http.post("/v1/embeddings", json={"model": "letters", "input": ""})).json()

    assert (batch["status"], batch["request_counts"]) == ("completed", {"total": 3, "completed": 1, "failed": 2})
    assert [each["custom_id"] for each in good] == ["0"]
    assert [(each["custom_id"], each["response"]["status_code"]) for each in bad] == [("1", 400), ("2", 404)]
    assert bad[0]["response"]["body"] == told
    assert bad[1]["response"]["body"]["error"]["code"] == "model_not_found"


@pytest.mark.parametrize("path", ["/v1/rerank", "/v2/rerank"])
async def test_rankings_are_computed_too(storing: Serve, path: str) -> None:
    body = {"model": "overlap", "query": "abc", "documents": ["xyz", "abz"]}
    async with storing() as http:
        batch = await over(http, await created(http, [line("a", body, path)], endpoint=path))
        (written,) = await answers(http, batch["output_file_id"])
        asked = (await http.post(path, json=body)).json()

    assert {**written["response"]["body"], "id": ""} == {**asked, "id": ""}


@pytest.mark.parametrize("refusal", [OverloadedError("full"), UnavailableError("away")], ids=["full", "away"])
async def test_a_line_that_cannot_be_computed_now_is_tried_again(
    storing: Serve, client: StandIn, refusal: Exception
) -> None:
    client.busy = refusal
    async with storing() as http:
        batch = await created(http, embeddings_of("abc"))
        await eventually(lambda: len(client.calls) > 8)
        assert (await fetched(http, batch))["status"] == "in_progress"
        client.busy = None
        batch = await over(http, batch)
        metrics = (await http.get("/metrics")).text

    assert batch["request_counts"] == {"total": 3, "completed": 3, "failed": 0}
    assert 'conch_gateway_batch_results_total{result="completed"} 3.0' in metrics
    assert 'conch_gateway_texts_total{model="letters"} 3.0' in metrics


async def test_requests_go_before_lines_and_have_most_of_the_room(storing: Serve, client: StandIn) -> None:
    client.gate = asyncio.Event()
    async with storing(max_in_flight_requests=8) as http:
        batch = await created(http, embeddings_of(["x"] * 50))
        await eventually(client.entered.is_set)
        asked = asyncio.create_task(http.post("/v1/embeddings", json={"model": "letters", "input": "now"}))
        client.gate.set()
        assert (await asked).status_code == 200
        batch = await over(http, batch)

    assert batch["request_counts"]["completed"] == 50


@pytest.fixture
def let_go(client: StandIn, monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """A model `slow` answers when this is set."""
    client.served.append(model_info("slow", "embedding"))
    embed, let_go = client.embed, asyncio.Event()

    async def embedded(texts: Any, **options: Any) -> Any:
        if options["model"].name == "slow":
            client.entered.set()
            await let_go.wait()
        return await embed(texts, **options)

    monkeypatch.setattr(client, "embed", embedded)
    return let_go


async def test_a_line_that_is_larger_than_all_room_is_computed_beside_requests(
    storing: Serve, client: StandIn, let_go: asyncio.Event
) -> None:
    large = line("a", {"model": "letters", "input": [f"text {number}" for number in range(200)]})
    async with storing(max_in_flight_tokens=400, triton_calls=8) as http:
        request = asyncio.create_task(http.post("/v1/embeddings", json={"model": "slow", "input": "a"}))
        await eventually(client.entered.is_set)
        batch = await over(http, await created(http, [large]))
        let_go.set()
        assert (await request).status_code == 200

    assert batch["request_counts"] == {"total": 1, "completed": 1, "failed": 0}


async def test_large_lines_leave_places_to_the_others(
    storing: Serve, client: StandIn, let_go: asyncio.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("conch_gateway.batches.lines.LARGE_BYTES", 1000)
    large = [line(str(number), {"model": "slow", "input": "a", "user": "x" * 2000}) for number in range(20)]
    async with storing(triton_calls=8) as http:
        waiting = await created(http, large)
        await eventually(client.entered.is_set)
        batch = await over(http, await created(http, embeddings_of(["x"] * 50)))
        assert (await fetched(http, waiting))["request_counts"]["completed"] == 0
        let_go.set()
        waiting = await over(http, waiting)

    assert batch["request_counts"] == {"total": 50, "completed": 50, "failed": 0}
    assert waiting["request_counts"] == {"total": 20, "completed": 20, "failed": 0}


async def test_a_stopped_gateway_lets_go_of_its_lines_and_the_next_goes_on(storing: Serve, client: StandIn) -> None:
    client.gate = asyncio.Event()
    async with storing() as http:
        batch = await created(http, embeddings_of("abc"))
        await eventually(client.entered.is_set)
    client.gate = None
    client.opened = True
    async with storing() as http:
        batch = await over(http, batch)

    assert batch["request_counts"] == {"total": 3, "completed": 3, "failed": 0}


class Dying:
    """A model whose server ends when it computes one text, with all that it computes, and is away for a while then."""

    def __init__(self, client: StandIn, text: str, error: Exception) -> None:
        self.deaths = 0
        self._row = [101, *map(ord, text), 102]
        self._error = error
        self._embed = client.embed
        self._away = 0

    async def embed(self, texts: Any, **options: Any) -> Any:
        if self._away:
            self._away -= 1
            raise self._error
        vectors = await self._embed(texts, **options)
        if self._row in [list(row) for row in texts]:
            self.deaths, self._away = self.deaths + 1, 5
        if self._away:
            raise self._error
        return vectors


@pytest.mark.parametrize(
    "error",
    [UnavailableError("away"), UpstreamError("it answered 500"), DeadlineExceededError("slow")],
    ids=["Triton", "upstream", "Triton hangs"],
)
async def test_a_line_that_ends_the_server_each_time_is_answered_with_an_error_and_no_other_is(
    storing: Serve, client: StandIn, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    dying = Dying(client, "deadly", error)
    monkeypatch.setattr(client, "embed", dying.embed)
    texts = [f"text {number}" for number in range(30)]
    texts[17] = "deadly"
    async with storing() as http:
        batch = await over(http, await created(http, embeddings_of(texts)))
        good, (bad,) = [await answers(http, batch[f"{kind}_file_id"]) for kind in ("output", "error")]

    assert (batch["status"], batch["request_counts"]) == ("completed", {"total": 30, "completed": 29, "failed": 1})
    assert [each["custom_id"] for each in good] == [str(number) for number in range(30) if number != 17]
    assert (bad["custom_id"], bad["response"]["status_code"]) == ("17", 500)
    assert bad["response"]["body"]["error"]["code"] == "server_crashed"
    assert "divide the line" in bad["response"]["body"]["error"]["message"]
    assert dying.deaths == 3


@pytest.mark.parametrize("failure", [UnavailableError("away"), DeadlineExceededError("slow")], ids=["away", "hangs"])
async def test_a_server_that_is_away_or_hangs_for_long_is_no_lines_fault(
    storing: Serve, client: StandIn, failure: Exception
) -> None:
    client.busy = failure
    async with storing() as http:
        batch = await created(http, embeddings_of("abc"))
        await eventually(lambda: len(client.calls) > 60)
        client.busy = None
        batch = await over(http, batch)

    assert batch["request_counts"] == {"total": 3, "completed": 3, "failed": 0}


async def test_answers_that_are_large_together_are_stored_in_several_transactions(
    storing: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("conch_gateway.batches.runner._STORED_BYTES", 1000)
    settle, stored = Lines.settle, list[int]()

    async def settled(self: Lines, outcomes: Sequence[Outcome]) -> None:
        stored.append(sum(len(one.content) for one in outcomes if isinstance(one, Answered)))
        await settle(self, outcomes)

    monkeypatch.setattr(Lines, "settle", settled)
    async with storing() as http:
        batch = await over(http, await created(http, embeddings_of(["x"] * 50)))

    assert batch["request_counts"] == {"total": 50, "completed": 50, "failed": 0}
    assert max(stored) <= 1000


async def test_a_null_in_a_line_lets_no_absent_server_count_against_it(storing: Serve, client: StandIn) -> None:
    client.busy = UnavailableError("away")
    body = {"model": "overlap", "query": "abc", "documents": ["xyz", "abz"], "texts": None}
    async with storing() as http:
        batch = await created(http, [line("a", body, "/v1/rerank")], endpoint="/v1/rerank")
        await eventually(lambda: len(client.calls) > 20)
        client.busy = None
        batch = await over(http, batch)

    assert batch["request_counts"] == {"total": 1, "completed": 1, "failed": 0}


@pytest.mark.parametrize("failure", [DeadlineExceededError("slow"), ServerError("broken")], ids=["slow", "broken"])
async def test_no_line_is_blamed_while_its_model_computes_no_other_text(
    storing: Serve, client: StandIn, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    embed, others, works = client.embed, 0, False

    async def embedded(texts: Any, **options: Any) -> Any:
        nonlocal others
        if works:
            return await embed(texts, **options)
        if bytes(texts[0][1:-1]) == b"mine":
            raise UnavailableError("away")
        others += 1
        raise failure

    monkeypatch.setattr(client, "embed", embedded)
    async with storing() as http:
        batch = await created(http, embeddings_of(["mine"]))
        await eventually(lambda: others > 3)
        works = True
        batch = await over(http, batch)

    assert batch["request_counts"] == {"total": 1, "completed": 1, "failed": 0}


async def test_a_batch_whose_model_is_away_does_not_slow_down_others(
    storing: Serve, client: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pace, "_LONGEST_PAUSE_S", 60.0)
    monkeypatch.setattr(attempts, "_SHORTEST_PAUSE_S", 60.0)
    monkeypatch.setattr(attempts, "_LONGEST_PAUSE_S", 60.0)
    client.served.append(model_info("away", "embedding"))
    embed, asked = client.embed, 0

    async def embedded(texts: Any, **options: Any) -> Any:
        nonlocal asked
        if options["model"].name == "away":
            asked += 1
            raise UnavailableError("away")
        return await embed(texts, **options)

    monkeypatch.setattr(client, "embed", embedded)
    async with storing() as http:
        waiting = await created(http, embeddings_of(["x"] * 500, model="away"))
        await eventually(lambda: asked)
        batch = await over(http, await created(http, embeddings_of(["x"] * 200)))
        still = await fetched(http, waiting)

    assert (batch["status"], batch["request_counts"]["completed"]) == ("completed", 200)
    assert (still["status"], still["request_counts"]["failed"]) == ("in_progress", 0)


async def test_an_answer_that_cannot_be_written_is_an_error_of_its_line_alone(
    storing: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = output_line

    def written(custom_id: str, *, response: Any = None, error: Any = None) -> bytes:
        if custom_id == "1" and response["status_code"] == 200:
            raise TypeError("nobody foresaw this")
        return write(custom_id, response=response, error=error)

    monkeypatch.setattr(attempts, "output_line", written)
    async with storing() as http:
        batch = await over(http, await created(http, embeddings_of("abc")))
        (bad,) = await answers(http, batch["error_file_id"])

    assert (bad["custom_id"], bad["response"]["status_code"]) == ("1", 500)
    assert batch["request_counts"] == {"total": 3, "completed": 2, "failed": 1}
