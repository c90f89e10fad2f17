"""Background tasks: each one's failure is in the log, and what is to be repeated goes on."""

from __future__ import annotations

import asyncio
import logging
import re
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import conch_gateway
from conch_client import UnavailableError
from conch_gateway.background import end_all, repeat, start

from tests.waiting import eventually

if TYPE_CHECKING:
    import pytest


async def test_the_failure_of_a_task_that_nobody_awaits_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def fail() -> None:
        raise KeyError("nobody foresaw this")

    await asyncio.wait({start(fail(), "a task")})
    await asyncio.sleep(0)
    (record,) = caplog.records
    assert (record.levelno, record.getMessage()) == (logging.ERROR, "a task failed: 'nobody foresaw this'")
    assert record.exc_info is not None


async def test_what_fails_is_repeated_and_told_once(caplog: pytest.LogCaptureFixture) -> None:
    outcomes = iter([None, UnavailableError("away"), UnavailableError("away"), ValueError("odd"), None])
    over = asyncio.Event()

    async def step() -> None:
        outcome = next(outcomes, over)
        if outcome is over:
            over.set()
        elif isinstance(outcome, Exception):
            raise outcome

    repeating = start(repeat(step, 0.001, "looking"), "a task")
    with anyio.fail_after(5):
        await over.wait()
    repeating.cancel()
    assert [record.getMessage() for record in caplog.records] == [
        "looking failed and is tried again within 0.001 s: away",
        "looking failed and is tried again within 0.001 s: odd",
    ]


async def test_pauses_after_failures_grow_up_to_a_longest() -> None:
    times: list[float] = []
    clock = asyncio.get_running_loop().time

    async def step() -> None:
        times.append(clock())
        raise UnavailableError("away")

    repeating = start(repeat(step, 0.01, "looking", longest_s=0.04), "a task")
    await eventually(lambda: len(times) > 5)
    repeating.cancel()
    pauses = [after - before for before, after in pairwise(times)]

    assert all(pause >= least - 1e-3 for pause, least in zip(pauses, (0.01, 0.02, 0.04, 0.04), strict=False))


async def test_what_is_repeated_comes_sooner_when_there_is_a_reason() -> None:
    done, reason = asyncio.Event(), asyncio.Event()

    async def step() -> None:
        done.set()

    repeating = start(repeat(step, 3600, "looking", soon=reason), "a task")
    with anyio.fail_after(60):
        for _ in range(3):
            await done.wait()
            done.clear()
            reason.set()
    repeating.cancel()


async def test_a_task_ends_although_its_first_cancellation_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("conch_gateway.background._AGAIN_S", 0.01)
    begun, never, lost = asyncio.Event(), asyncio.Event(), 0

    async def work() -> None:
        nonlocal lost
        begun.set()
        try:
            await never.wait()
        except asyncio.CancelledError:
            lost += 1
        await never.wait()

    task = start(work(), "a task")
    await begun.wait()
    with anyio.fail_after(20):
        await end_all([task])

    assert (lost, task.cancelled()) == (1, True)


def test_no_task_is_started_without_it() -> None:
    for module in Path(next(iter(conch_gateway.__path__))).rglob("*.py"):
        if module.name not in {"background.py", "concurrency.py"}:
            assert not re.search(r"create_task|ensure_future", module.read_text(encoding="utf-8")), module
