"""The choice among servers, with simulated servers and a simulated clock."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count, cycle
from typing import TYPE_CHECKING

import numpy as np
import pytest
from conch_client.routing import Load, Outcome, Pool, State

if TYPE_CHECKING:
    from collections.abc import Callable

    from conch_client.routing import Call

TOKENS = 100
CLIENTS = 32
CALL_S = 0.020


class Clock:
    """Time that tests let pass."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass
class StandIn:
    """A server that does one call after another, each in the same time."""

    call_s: float
    free_at: float = 0.0
    calls: list[float] = field(default_factory=list)

    def answer_at(self, now: float) -> float:
        self.free_at = max(self.free_at, now) + self.call_s
        return self.free_at


@dataclass
class Measured:
    """What a run has shown."""

    per_s: float
    p99_s: float


def run(servers: list[StandIn], clients: int = CLIENTS, *, calls: int = 20_000, in_turn: bool = False) -> Measured:
    """Clients that send their next call when they have the answer to the last; in turn to each server, or by choice."""
    clock = Clock()
    pool: Pool[StandIn] = Pool(clock)
    members = [pool.add(server) for server in servers]
    turns = cycle(members)
    numbers, latencies = count(), []
    events: list[tuple[float, int, Callable[[], None]]] = []

    def send() -> None:
        turn = next(turns)
        call = pool.begin(TOKENS, (lambda server: server is turn.server) if in_turn else (lambda _: True))
        assert call is not None
        began = clock.now

        def answered() -> None:
            pool.end(call, Outcome.ANSWERED)
            latencies.append(clock.now - began)
            send()

        heappush(events, (call.member.server.answer_at(clock.now), next(numbers), answered))

    for _ in range(clients):
        send()
    while len(latencies) < calls:
        clock.now, _, happens = heappop(events)
        happens()
    settled = np.array(latencies[calls // 10 :])
    return Measured(calls / clock.now, float(np.quantile(settled, 0.99)))


def fleet(*slow: float) -> list[StandIn]:
    return [StandIn(CALL_S) for _ in range(8 - len(slow))] + [StandIn(CALL_S * factor) for factor in slow]


def test_eight_servers_do_nearly_eight_times_as_much_as_one() -> None:
    assert run(fleet()).per_s >= 7.5 * run([StandIn(CALL_S)]).per_s


def test_one_slow_server_of_eight_costs_no_more_than_its_own_part() -> None:
    alike, mixed, in_turn = run(fleet()), run(fleet(5)), run(fleet(5), in_turn=True)
    assert mixed.per_s >= 0.95 * 7.2 / CALL_S
    assert mixed.p99_s <= 1.5 * alike.p99_s
    assert in_turn.per_s < 0.5 * mixed.per_s  # what a round robin makes of it
    assert in_turn.p99_s > 3 * mixed.p99_s


def test_a_slow_model_beside_a_fast_one_is_no_server_that_hangs() -> None:
    clock = Clock()
    load = Load(clock)

    def call(model: str, seconds: float) -> bool:
        task = load.begin(TOKENS, model)
        clock.now += seconds
        stalled = load.is_stalled()
        load.end(task, answered=True)
        return stalled

    for _ in range(10):
        assert not call("small", 0.01)
    assert not call("large", 60 + TOKENS / 3)
    assert not call("large", 300)
    assert call("small", 10)


@pytest.mark.parametrize(("tokens", "seconds", "stalled"), [(8192, 1000, False), (8192, 5000, True), (8, 120, True)])
def test_the_first_call_of_a_model_has_time_for_its_tokens(tokens: int, seconds: float, stalled: bool) -> None:
    clock = Clock()
    load = Load(clock)
    load.begin(tokens, "unknown")
    clock.now += seconds
    assert load.is_stalled() is stalled


def test_a_slow_one_that_was_out_gets_its_trial_although_others_are_idle() -> None:
    clock = Clock()
    pool: Pool[str] = Pool(clock)
    slow, *_ = pool.add("slow"), pool.add("fast"), pool.add("faster")
    for member, seconds in zip(pool.members, (50.0, 0.02, 0.01), strict=True):
        call = pool.begin(TOKENS, lambda server, name=member.server: server == name)  # type: ignore[misc]
        assert call is not None
        clock.now += seconds
        pool.end(call, Outcome.ANSWERED)
    slow.standing.take_out("unreachable")
    clock.now += 1.0

    chosen = []
    for _ in range(3):
        call = pool.begin(TOKENS, lambda _: True)
        assert call is not None
        chosen.append(call.member.server)
        clock.now += 0.01
        pool.end(call, Outcome.ANSWERED)

    assert chosen == ["slow", "faster", "faster"]
    assert slow.standing.state.value == "serving"


def begin(pool: Pool[str], *, only: str = "", tokens: int = TOKENS) -> Call[str]:
    call = pool.begin(tokens, lambda server: not only or server == only)
    assert call is not None
    return call


def answered(pool: Pool[str], clock: Clock, server: str, *, tokens: int = TOKENS, seconds: float = CALL_S) -> None:
    call = begin(pool, only=server, tokens=tokens)
    clock.now += seconds
    pool.end(call, Outcome.ANSWERED)


def test_one_that_starts_slowly_is_never_idle_while_another_has_calls_that_wait() -> None:
    clock = Clock()
    pool: Pool[str] = Pool(clock)
    pool.add("old")
    answered(pool, clock, "old")
    pool.add("new", joins=True)

    chosen = [begin(pool).member.server for _ in range(4)]

    assert Counter(chosen) == {"old": 3, "new": 1}


def test_a_busy_one_gets_no_calls_for_as_long_as_it_says() -> None:
    clock = Clock()
    pool: Pool[str] = Pool(clock)
    busy, _ = pool.add("busy"), pool.add("other")
    pool.end(begin(pool, only="busy"), Outcome.BUSY, rests_s=60.0)

    assert busy.standing.state.value == "not-ready"
    for _ in range(10):
        answered(pool, clock, begin(pool).member.server)
        assert {begin(pool).member.server for _ in range(4)} == {"other"}
    clock.now += 60.0
    assert begin(pool).member.server == "busy"


def test_where_all_are_busy_they_are_asked_all_the_same() -> None:
    clock = Clock()
    pool: Pool[str] = Pool(clock)
    for name in ("one", "other"):
        pool.add(name)
        pool.end(begin(pool, only=name), Outcome.BUSY, rests_s=60.0)
    assert {begin(pool).member.server for _ in range(2)} == {"one", "other"}


def test_none_gets_more_than_it_should_while_another_has_room() -> None:
    clock = Clock()
    pool: Pool[str] = Pool(clock)
    for name, seconds in (("fast", 0.01), ("slow", 1.0)):
        pool.add(name).load.most = 4
        answered(pool, clock, name, seconds=seconds)

    assert Counter(begin(pool).member.server for _ in range(8)) == {"fast": 4, "slow": 4}


def test_the_transfer_of_a_file_says_nothing_of_how_fast_a_server_computes() -> None:
    clock = Clock()
    pool: Pool[str] = Pool(clock)
    for name in ("one", "other"):
        pool.add(name)
        answered(pool, clock, name)
    answered(pool, clock, "one", tokens=0, seconds=10.0)

    assert Counter(begin(pool).member.server for _ in range(10)) == {"one": 5, "other": 5}


def test_one_that_answers_nobody_is_noticed_although_no_caller_is_patient() -> None:
    clock = Clock()
    pool: Pool[str] = Pool(clock)
    pool.add("hangs")
    answered(pool, clock, "hangs")

    def given_up(*, at_once: int) -> bool:
        calls = [begin(pool) for _ in range(at_once)]
        clock.now += 2.0
        mute = [pool.is_mute(call) for call in calls]
        for call in calls:
            pool.end(call, Outcome.ABANDONED)
        clock.now += 100.0  # nobody waits for anything
        return any(mute)

    assert [given_up(at_once=20) for _ in range(3)] == [False, False, True]


def test_one_that_refuses_requests_is_not_mute() -> None:
    clock = Clock()
    pool: Pool[str] = Pool(clock)
    pool.add("refuses")
    answered(pool, clock, "refuses")
    for _ in range(10):
        call = begin(pool)
        clock.now += 2.0
        assert not pool.is_mute(call)
        pool.end(call, Outcome.ABANDONED)
        pool.end(begin(pool), Outcome.REFUSED)


def test_clients_that_start_together_begin_with_different_servers() -> None:
    first = set[int]()
    for _ in range(50):
        pool: Pool[int] = Pool()
        for server in range(100):
            pool.add(server)
        call = pool.begin(TOKENS, lambda _: True)
        assert call is not None
        first.add(call.member.server)

    assert len(first) > 10


def test_one_that_is_away_for_days_gets_a_call_on_trial_again_and_again() -> None:
    clock = Clock()
    pool: Pool[str] = Pool(clock)
    member = pool.add("a")
    for _ in range(2_000):
        pool.end(begin(pool), Outcome.LOST)
        assert member.standing.state is State.OUT
        clock.now += 30
    pool.end(begin(pool), Outcome.ANSWERED)

    assert member.standing.state is State.SERVING
