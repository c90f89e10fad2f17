"""Texts of several callers in one request: who shares, who waits, and who pays for a mistake."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest
from conch_client import AsyncClient, InvalidInputError, UnavailableError
from conch_gateway._coalescer import Coalescer, Options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

OPTIONS = Options("letters", None, normalize=True)
BAD = 999


class Counting:
    """A client whose vectors are the sums of the ids, and which answers when it is let."""

    def __init__(self) -> None:
        self.sent: list[list[list[int]]] = []
        self.may_answer = asyncio.Event()
        self.failure: Exception | None = None

    async def embed(self, ids: Sequence[Sequence[int]], **_: Any) -> NDArray[np.float32]:
        self.sent.append([list(row) for row in ids])
        await self.may_answer.wait()
        if self.failure is not None:
            raise self.failure
        if any(BAD in row for row in ids):
            raise InvalidInputError("an id is unknown")
        return np.array([[sum(row)] for row in ids], np.float32)


@pytest.fixture
def client() -> Counting:
    return Counting()


@pytest.fixture
def coalescer(client: Counting) -> Coalescer:
    return Coalescer(cast("AsyncClient", client), calls=2, timeout_s=1)


async def start(coalescer: Coalescer, *texts: list[int], options: Options = OPTIONS) -> list[asyncio.Task[Any]]:
    tasks = [asyncio.create_task(coalescer.embed([text], options, 8)) for text in texts]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return tasks


async def test_a_lone_text_leaves_at_once(coalescer: Coalescer, client: Counting) -> None:
    (task,) = await start(coalescer, [1, 2])

    assert client.sent == [[[1, 2]]]
    client.may_answer.set()
    assert (await task).tolist() == [[3]]


async def test_what_arrives_while_all_calls_are_under_way_leaves_together(
    coalescer: Coalescer, client: Counting
) -> None:
    first = await start(coalescer, [1])
    second = await start(coalescer, [2])
    later = await start(coalescer, *([number] for number in range(3, 13)))

    assert client.sent == [[[1]], [[2]]]
    client.may_answer.set()
    answers = await asyncio.gather(*first, *second, *later)

    assert [answer.tolist() for answer in answers] == [[[number]] for number in range(1, 13)]
    assert [len(call) for call in client.sent] == [1, 1, 8, 2]


async def test_only_equal_options_share_a_request(coalescer: Coalescer, client: Counting) -> None:
    busy = [*await start(coalescer, [1]), *await start(coalescer, [2])]
    waiting = [*await start(coalescer, [3], [4]), *await start(coalescer, [5], options=Options("others", None, True))]
    client.may_answer.set()
    await asyncio.gather(*busy, *waiting)

    assert sorted(client.sent[2:]) == [[[3], [4]], [[5]]]


async def test_a_mistake_is_paid_for_by_its_maker_alone(coalescer: Coalescer, client: Counting) -> None:
    busy = [*await start(coalescer, [1]), *await start(coalescer, [2])]
    good, bad, other = await start(coalescer, [3], [BAD], [4])
    client.may_answer.set()
    await asyncio.gather(*busy)

    with pytest.raises(InvalidInputError):
        await bad
    assert [(await good).tolist(), (await other).tolist()] == [[[3]], [[4]]]


async def test_who_has_gone_is_not_sent(coalescer: Coalescer, client: Counting) -> None:
    busy = [*await start(coalescer, [1]), *await start(coalescer, [2])]
    gone, here = await start(coalescer, [3], [4])
    gone.cancel()
    await asyncio.sleep(0)
    client.may_answer.set()
    await asyncio.gather(*busy, here)

    assert client.sent[2:] == [[[4]]]


async def test_a_failure_reaches_everyone_who_was_sent_and_nobody_after(coalescer: Coalescer, client: Counting) -> None:
    busy = [*await start(coalescer, [1]), *await start(coalescer, [2])]
    waiting = await start(coalescer, [3], [4])
    client.failure = UnavailableError("away")
    client.may_answer.set()
    failures = await asyncio.gather(*busy, *waiting, return_exceptions=True)
    client.failure = None
    (afterwards,) = await start(coalescer, [5])

    assert [type(failure) for failure in failures] == [UnavailableError] * 4
    assert (await afterwards).tolist() == [[5]]


async def test_a_request_that_fills_a_call_does_not_wait(coalescer: Coalescer, client: Counting) -> None:
    busy = [*await start(coalescer, [1]), *await start(coalescer, [2])]
    bulk = asyncio.create_task(coalescer.embed([[number] for number in range(20)], OPTIONS, 8))
    await asyncio.sleep(0)

    assert len(client.sent[2]) == 20
    client.may_answer.set()
    await asyncio.gather(*busy, bulk)
