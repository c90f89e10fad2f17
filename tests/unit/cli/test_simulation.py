"""The simulation against the formulas of queueing theory, and what must hold for any run of it."""

from __future__ import annotations

import asyncio
import math
import random
from dataclasses import replace
from functools import cache, partial
from typing import TYPE_CHECKING

import pytest
from conch.simulation.clock import now_s, simulated
from conch.simulation.cores import TICK_S, Cores, Thread
from conch.simulation.costs import PAUSE_S, EngineCosts, GatewayCosts
from conch.simulation.deployment import Deployment, Design
from conch.simulation.load import Outcome, Request, open_loop, poisson
from conch.simulation.replica import Replica
from conch_client import UnavailableError

from benchmarks.simulation.autoscaling import Autoscaler, Scaling
from benchmarks.simulation.compare import closed_loop

if TYPE_CHECKING:
    from collections.abc import Iterable

CALL_S = 0.010
FIXED = EngineCosts(
    instances=1,
    max_rows=1,
    fixed_s=CALL_S,
    row_s=0,
    token_s=0,
    square_s=0,
    mixed=1,
    call_s=0,
    path_s=0,
    slowdown=1,
)
"""Each text takes the same time, alone in its run."""

BY_TOKENS = replace(FIXED, fixed_s=0, token_s=1e-4)
MERGING = EngineCosts(
    instances=2,
    max_rows=8,
    fixed_s=5e-4,
    row_s=1e-4,
    token_s=5e-5,
    square_s=1e-8,
    mixed=1.1,
    call_s=3e-4,
    path_s=3e-4,
    slowdown=1.2,
)
GATEWAY = GatewayCosts(request_s=6e-4, token_s=2e-6, call_s=3e-4, path_s=3e-4, cold_s=1e-3)
MIXED = [8, 20, 40, 60, 120, 250]


def outcome(design: Design, requests: Iterable[Request]) -> Outcome:
    return simulated(lambda: open_loop(Deployment(design), requests))


def mean_wait_s(design: Design, requests: list[Request], service_s: float) -> float:
    latencies = outcome(design, requests).latencies_s
    return sum(latencies) / len(latencies) - service_s


def erlang_c(servers: int, load: float) -> float:
    """The probability that a customer of an M/M/c queue waits (Erlang 1917)."""
    last = load**servers / math.factorial(servers) * servers / (servers - load)
    return last / (sum(load**number / math.factorial(number) for number in range(servers)) + last)


@pytest.mark.parametrize("used", [0.3, 0.7])
def test_one_instance_with_fixed_times_waits_as_an_m_d_1_queue(used: float) -> None:
    requests = list(poisson(used / CALL_S, [10], seconds=4_000 * CALL_S / used, seed=1))

    assert mean_wait_s(Design(FIXED), requests, CALL_S) == pytest.approx(used * CALL_S / (2 * (1 - used)), rel=0.1)


@pytest.mark.parametrize("replicas", [1, 3], ids=["one of three instances", "three of one instance"])
def test_instances_with_exponential_times_wait_as_an_m_m_c_queue(replicas: int) -> None:
    source, mean, used, servers = random.Random(1), 60, 0.8, 3  # noqa: S311 - no secret
    lengths = [min(512, 1 + round(source.expovariate(1 / (mean - 0.5)))) for _ in range(20_000)]
    service_s = BY_TOKENS.token_s * sum(lengths) / len(lengths)
    per_s = used * servers / service_s
    design = Design(replace(BY_TOKENS, instances=servers // replicas), replicas=replicas)

    waited_s = mean_wait_s(design, list(poisson(per_s, lengths, seconds=5_000 / per_s, seed=5)), service_s)

    formula_s = erlang_c(servers, used * servers) * service_s / (servers * (1 - used))
    # Three queues, however well chosen from, wait a little longer than one.
    assert 0.85 * formula_s < waited_s < (1.15 if replicas == 1 else 2.0) * formula_s


def test_as_many_are_in_the_system_as_arrive_while_one_is_there() -> None:
    """Little's law, with the gateway's own count of what is in flight."""
    per_s, seconds = 150.0, 12.0
    seen: list[int] = []

    async def run() -> Outcome:
        deployment = Deployment(Design(MERGING))

        async def watch() -> None:
            while True:
                await asyncio.sleep(0.010)
                seen.append(deployment.gateways[0].in_flight)

        watching = asyncio.create_task(watch())
        found = await open_loop(deployment, poisson(per_s, MIXED, seconds=seconds, seed=3))
        watching.cancel()
        return found

    found = simulated(run)
    mean_latency_s = sum(found.latencies_s) / found.answered
    assert sum(seen) / len(seen) == pytest.approx(found.answered / seconds * mean_latency_s, rel=0.05)


def test_a_run_is_the_same_each_time_and_another_seed_is_another_run() -> None:
    design = Design(MERGING, GATEWAY, replicas=2, gateways=2)
    first, second, other = (outcome(design, poisson(300, MIXED, seconds=1, seed=seed)) for seed in (1, 1, 2))

    assert first == second
    assert first.latencies_s != other.latencies_s


def test_latency_grows_with_the_rate_and_shrinks_with_replicas() -> None:
    @cache
    def p99_s(per_s: float, replicas: int) -> float:
        return outcome(Design(MERGING, replicas=replicas), poisson(per_s, MIXED, seconds=2, seed=1)).latency_s(99)

    by_rate = [p99_s(per_s, 2) for per_s in (50, 200, 400)]
    by_replicas = [p99_s(400, replicas) for replicas in (2, 4)]
    assert by_rate == sorted(by_rate)
    assert by_replicas[0] > by_replicas[1]


def test_a_lone_text_takes_the_sum_of_its_parts_and_longer_after_a_pause() -> None:
    requests = [Request(1.0, (40,)), Request(1.5, (40,)), Request(1.5 + PAUSE_S / 2, (40,))]
    first_s, after_pause_s, sooner_s = outcome(Design(MERGING, GATEWAY), requests).latencies_s

    gateway_s = GATEWAY.path_s + GATEWAY.request_s + 40 * GATEWAY.token_s + GATEWAY.call_s
    parts_s = gateway_s + MERGING.path_s + MERGING.call_s + MERGING.run_s([40])
    assert first_s == after_pause_s == pytest.approx(parts_s + GATEWAY.cold_s)
    assert parts_s < sooner_s < after_pause_s


def test_a_run_of_texts_of_different_lengths_takes_longer() -> None:
    assert MERGING.run_s([30, 50]) > MERGING.mixed * MERGING.run_s([40, 40])
    assert MERGING.run_s([40, 40]) > MERGING.run_s([40])


def test_texts_that_wait_share_calls_and_runs_up_to_the_limit_of_rows() -> None:
    async def run() -> tuple[int, float]:
        deployment = Deployment(Design(replace(MERGING, instances=1)))
        found = await closed_loop(deployment, [10], clients=64, seconds=2)
        return deployment.replicas[0].runs, found.answered

    runs, answered = simulated(run)
    assert 7.5 < answered / runs <= 8


def test_a_full_gateway_refuses_and_loses_nothing() -> None:
    found = outcome(Design(FIXED), poisson(3 / CALL_S, [10], seconds=4, seed=1))

    assert found.refused > 0
    assert found.sent == found.answered + found.refused
    assert not found.failed


def failing(replicas: int, killed: list[int]) -> Outcome:
    async def run() -> Outcome:
        deployment = Deployment(Design(FIXED, replicas=replicas))
        task = asyncio.create_task(deployment.fail(killed, at_s=1.003, for_s=1))
        found = await open_loop(deployment, poisson(100, [10], seconds=4, seed=1))
        await task
        return found

    return simulated(run)


def test_what_a_killed_replica_had_begun_is_answered_by_another() -> None:
    found = failing(3, [1])

    assert found.answered == found.sent


def test_only_what_no_replica_could_answer_fails_and_the_rest_is_answered_once_one_is_back() -> None:
    found = failing(2, [0, 1])

    assert found.sent == found.answered + found.failed
    assert 0 < found.failed < 0.5 * found.sent
    assert max(found.answered_at_s) > 3


def test_a_replica_that_has_ended_says_so() -> None:
    async def run() -> None:
        replica = Replica("one", FIXED, Cores(1))
        begun = asyncio.create_task(replica.infer([1]))
        await asyncio.sleep(CALL_S / 2)
        replica.end()
        with pytest.raises(UnavailableError):
            await begun
        with pytest.raises(UnavailableError):
            await replica.infer([1])
        replica.begin()
        await replica.infer([1])

    simulated(run)


def test_a_burst_is_met_by_more_replicas_which_leave_again_and_no_request_is_lost() -> None:
    async def run() -> tuple[Outcome, Autoscaler, Deployment]:
        deployment = Deployment(Design(FIXED))
        scaling = Scaling(1, 8, wait_s=0.2, start_s=2, every_s=2, step_s=4, stable_s=10, lowered_s=5)
        scaler = Autoscaler(deployment, scaling)
        task = asyncio.create_task(scaler.run())
        requests = [
            *poisson(30, [10], seconds=20, seed=1),
            *poisson(200, [10], seconds=20, seed=2, begin_s=20),
            *poisson(30, [10], seconds=40, seed=3, begin_s=40),
        ]
        found = await open_loop(deployment, requests)
        task.cancel()
        return found, scaler, deployment

    found, scaler, deployment = simulated(run)
    most = max(moment.replicas for moment in scaler.seen)
    assert found.answered == found.sent
    assert most >= 3
    assert len(deployment.replicas) < most
    settled = [
        latency_s
        for at_s, latency_s in zip(found.answered_at_s, found.latencies_s, strict=True)
        if 34 < at_s - latency_s < 40
    ]
    assert max(settled) < 0.4


async def finishing(compute: object, works: list[float]) -> list[float]:
    run = compute.run  # type: ignore[attr-defined]

    async def one(work_s: float) -> float:
        await run(work_s)
        return now_s()

    return list(await asyncio.gather(*map(one, works)))


def on_cores(works: list[float], cores: int, slowdown: float = 1.0, seed: int = 0) -> list[float]:
    return simulated(lambda: finishing(Cores(cores, slowdown, seed), works))


def test_computations_share_a_core_evenly() -> None:
    assert on_cores([1.0], cores=1) == pytest.approx([1.0])
    assert on_cores([1.0, 2.0], cores=1) == pytest.approx([2.0, 3.0])


def test_no_core_is_idle_for_long_while_another_is_shared() -> None:
    assert on_cores([1.0, 1.0], cores=2) == pytest.approx([1.0, 1.0], abs=TICK_S)
    assert max(on_cores([1.0, 1.0, 1.0, 1.0], cores=2)) == pytest.approx(2.0, abs=2 * TICK_S)


def test_a_short_computation_may_share_a_core_with_a_long_one_while_another_core_is_idle() -> None:
    short_s = TICK_S / 100
    ends = [on_cores([1.0, short_s], cores=2, seed=seed) for seed in range(20)]

    lost_s = [short_end_s - short_s for _, short_end_s in ends]
    assert 0 < sum(each > short_s / 100 for each in lost_s) < len(ends)
    assert [long_end_s - 1.0 for long_end_s, _ in ends] == pytest.approx(lost_s, abs=1e-9)


def test_a_thread_wakes_up_on_an_idle_core_if_one_is_left_beside_that_of_its_waker() -> None:
    short_s = TICK_S / 100
    ends = [on_cores([1.0, short_s], cores=3, seed=seed) for seed in range(20)]

    assert ends == [pytest.approx([1.0, short_s])] * 20


def test_cores_that_are_all_busy_are_slower_each() -> None:
    assert on_cores([1.0, 1.0], cores=2, slowdown=1.5) == pytest.approx([1.5, 1.5], abs=2 * TICK_S)


def test_a_thread_does_one_thing_after_another() -> None:
    assert simulated(lambda: finishing(Thread(Cores(4)), [1.0, 2.0])) == pytest.approx([1.0, 3.0])


def test_waiting_takes_no_time_and_for_nothing_is_an_error() -> None:
    async def long() -> float:
        await asyncio.sleep(1e6)
        return now_s()

    assert simulated(long) == pytest.approx(1e6)
    with pytest.raises(RuntimeError, match="never happens"):
        simulated(partial(asyncio.Event().wait))
