"""How much work there is for each model and how long it would wait: what replicas are added and removed by."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from conch_gateway.scheduling.load import UNKNOWN, Load, loads

from tests.unit.gateway.test_gateway_admission import PER_S, Clock, Gateway, measured, work
from tests.waiting import eventually

if TYPE_CHECKING:
    from conch_gateway.scheduling.admission import Reservation

    from tests.unit.gateway.conftest import Serve, StandIn


@pytest.fixture
def clock() -> Clock:
    return Clock()


def queue(reservation: Reservation, model: str, *calls: int) -> None:
    """Queue calls of so many tokens each for a request for this model."""
    assert reservation.backlog is not None
    slots, reservation.model = reservation.backlog.slots, model
    for tokens in calls:
        slots.queue(reservation.entry, tokens, lambda: None)
    slots.grant()


def test_without_requests_no_model_has_work(clock: Clock) -> None:
    assert loads(measured(clock).admission) == {}


def test_what_waits_and_what_runs_is_told_by_model(clock: Clock) -> None:
    gateway = measured(clock)  # one call at a time

    with gateway.held(300) as first, gateway.held(50, "you") as second, gateway.held(20, "they") as third:
        queue(first, "large", 100, 200)
        queue(second, "small", 50)
        queue(third, "small", 20)

        found = loads(gateway.admission)

    predicted = {name: load.predicted_wait_s for name, load in found.items()}
    assert predicted == pytest.approx({"large": 2.7, "small": 2.7})
    assert found == {
        "large": Load(0, 200, 1, 100, predicted["large"]),
        "small": Load(2, 70, 0, 0, predicted["small"]),
    }


def test_calls_whose_callers_have_left_do_not_wait(clock: Clock) -> None:
    gateway = measured(clock)

    with gateway.held(PER_S) as first, gateway.held(50, "you") as second:
        queue(first, "a", PER_S)
        second.model = "a"
        ticket = gateway.slots.queue(second.entry, 50, lambda: None)
        ticket.waits = False

        assert loads(gateway.admission)["a"].waiting_tokens == 0


def test_where_nothing_was_measured_the_wait_is_that_of_the_oldest_request(clock: Clock) -> None:
    gateway = Gateway(clock)

    with gateway.held(10) as running, gateway.held(10, "you") as waiting:
        queue(running, "a", 10)
        clock.now += 3.0
        queue(waiting, "a", 10)
        clock.now += 4.0

        assert loads(gateway.admission)["a"].predicted_wait_s == 7.0


def test_a_backend_that_has_failed_for_long_is_not_predicted_to_need_more_than_a_day(clock: Clock) -> None:
    gateway = measured(clock)
    for _ in range(3):
        work(gateway.slots, clock, 0, 600.0)

    with gateway.held(300) as running, gateway.held(50, "you") as waiting:
        queue(running, "a", 300)
        queue(waiting, "a", 50)

        assert loads(gateway.admission)["a"].predicted_wait_s == 86_400.0


def test_a_request_that_no_backend_has_yet_waits(clock: Clock) -> None:
    gateway = Gateway(clock)

    with gateway.reserved(["a text that waits for a model"]) as reservation:
        clock.now += 2.0

        assert loads(gateway.admission) == {UNKNOWN: Load(1, reservation.tokens, 0, 0, 2.0)}


async def test_metrics_tell_how_long_requests_would_wait(http_with: Serve, client: StandIn) -> None:
    client.gate = asyncio.Event()
    async with http_with(triton_calls=1) as http:

        async def samples() -> list[str]:
            return (await http.get("/metrics")).text.splitlines()

        async def one_waits() -> bool:
            return 'conch_gateway_backlog_requests{model="letters",state="waiting"} 1.0' in await samples()

        before = await samples()
        asking = [asyncio.ensure_future(http.post("/v1/embeddings", json={"input": text})) for text in "ab"]
        await eventually(one_waits)
        busy = await samples()
        client.gate.set()
        await asyncio.gather(*asking)
        after = await samples()

    assert 'conch_gateway_predicted_wait_seconds{model=""} 0.0' in before
    assert 'conch_gateway_backlog_requests{model="letters",state="running"} 1.0' in busy
    assert 'conch_gateway_backlog_tokens{model="letters",state="waiting"} 3.0' in busy
    assert "conch_gateway_triton_calls 1.0" in busy
    assert "conch_gateway_triton_slots 1.0" in busy
    assert 'conch_gateway_predicted_wait_seconds{model="letters"} 0.0' in after
    assert "conch_gateway_triton_calls 0.0" in after
