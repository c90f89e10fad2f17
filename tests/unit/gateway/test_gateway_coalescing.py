"""Texts of several callers in one request: who shares, who waits, and who pays for a mistake."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import numpy as np
import pytest
from conch_client import AsyncClient, InvalidInputError, UnavailableError
from conch_gateway.backends.coalescer import Coalescer, Options
from conch_gateway.scheduling.admission import work_of
from conch_gateway.scheduling.sizes import CALL_TOKENS, CALL_TOKENS_CROWDED
from conch_gateway.scheduling.slots import Entry, Flow, Slots

from tests.unit.gateway.conftest import model_info
from tests.waiting import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

OPTIONS = Options(model_info("letters", "embedding"), None, normalize=True)
OTHERS = Options(model_info("others", "embedding"), None, normalize=True)
BAD = 999


class Counting(AsyncClient):
    """A client whose vectors are the sums of the ids, and which answers when it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[list[list[int]]] = []
        self.may_answer = asyncio.Event()
        self.failure: Exception | None = None

    async def embed(self, texts: Sequence[Any], **_: Any) -> NDArray[np.float32]:
        self.sent.append([list(row) for row in texts])
        await self.may_answer.wait()
        if self.failure is not None:
            raise self.failure
        for place, row in enumerate(texts):
            if BAD in row:
                raise InvalidInputError(f"texts [{place}] are unknown", [place])
        return np.array([[sum(row)] for row in texts], np.float32)


class Callers:
    """Asks a coalescer for requests of callers."""

    def __init__(self, client: Counting, calls: int) -> None:
        self.slots = Slots(calls)
        self.entries: list[Entry] = []
        self.coalescer = Coalescer(client, self.slots, timeout_s=1)

    async def embed(
        self, ids: list[list[int]], max_rows: int = 8, caller: str = "somebody", options: Options = OPTIONS
    ) -> Any:
        flow = Flow(caller, work_of(len(ids), sum(map(len, ids)), max_rows))
        entry = self.slots.enter("a-request", flow, options.model.name)
        self.entries.append(entry)
        try:
            return await self.coalescer.embed(ids, options, max_rows, entry)
        finally:
            self.slots.leave(entry)


@pytest.fixture
def client() -> Counting:
    return Counting()


@pytest.fixture
def coalescer(client: Counting) -> Callers:
    return Callers(client, calls=2)


async def start(coalescer: Callers, *texts: list[int], options: Options = OPTIONS) -> list[asyncio.Task[Any]]:
    tasks = [asyncio.create_task(coalescer.embed([text], options=options)) for text in texts]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return tasks


async def sent(client: Counting, calls: int) -> None:
    """Wait until so many calls have been sent: those of a list follow each other a moment apart."""
    with anyio.fail_after(10):
        while len(client.sent) < calls:  # noqa: ASYNC110 - the list of the stand-in is all there is to look at
            await asyncio.sleep(0)


async def test_a_lone_text_leaves_at_once(coalescer: Callers, client: Counting) -> None:
    (task,) = await start(coalescer, [1, 2])

    assert client.sent == [[[1, 2]]]
    client.may_answer.set()
    assert (await task).tolist() == [[3]]


async def test_what_arrives_while_all_calls_are_under_way_leaves_together(coalescer: Callers, client: Counting) -> None:
    first = await start(coalescer, [1])
    second = await start(coalescer, [2])
    later = await start(coalescer, *([number] for number in range(3, 13)))

    assert client.sent == [[[1]], [[2]]]
    client.may_answer.set()
    answers = await asyncio.gather(*first, *second, *later)

    assert [answer.tolist() for answer in answers] == [[[number]] for number in range(1, 13)]
    assert [len(call) for call in client.sent] == [1, 1, 8, 2]


async def test_only_equal_options_share_a_request(coalescer: Callers, client: Counting) -> None:
    busy = [*await start(coalescer, [1]), *await start(coalescer, [2])]
    waiting = [*await start(coalescer, [3], [4]), *await start(coalescer, [5], options=OTHERS)]
    client.may_answer.set()
    await asyncio.gather(*busy, *waiting)

    assert sorted(client.sent[2:]) == [[[3], [4]], [[5]]]


async def test_a_mistake_is_paid_for_by_its_maker_alone(coalescer: Callers, client: Counting) -> None:
    busy = [*await start(coalescer, [1]), *await start(coalescer, [2])]
    good, bad, other = await start(coalescer, [3], [BAD], [4])
    client.may_answer.set()
    await asyncio.gather(*busy)

    with pytest.raises(InvalidInputError, match=r"texts \[0\] are unknown") as refused:
        await bad
    assert refused.value.indices == (0,)
    assert [(await good).tolist(), (await other).tolist()] == [[[3]], [[4]]]
    assert sum([BAD] in call for call in client.sent) == 1


async def test_a_mistake_of_another_does_not_make_a_text_count_twice(coalescer: Callers, client: Counting) -> None:
    busy = [*await start(coalescer, [1]), *await start(coalescer, [2])]
    tasks = await start(coalescer, [3, 3, 3], [BAD, 4])
    client.may_answer.set()
    await asyncio.gather(*busy, *tasks, return_exceptions=True)

    assert [(entry.begun_tokens, entry.done_tokens) for entry in coalescer.entries[2:]] == [(3, 3), (2, 0)]


async def test_who_goes_the_moment_that_several_slots_come_free_takes_none(
    coalescer: Callers, client: Counting
) -> None:
    busy = [*await start(coalescer, [1]), *await start(coalescer, [2])]
    here, gone = await start(coalescer, [3], [4])
    gone.cancel()
    coalescer.slots.resize(4)  # before whoever has gone could withdraw the text
    client.may_answer.set()
    await asyncio.gather(*busy, here)
    await asyncio.wait([gone])

    assert client.sent == [[[1]], [[2]], [[3]]]
    assert coalescer.slots.under_way == 0


async def test_who_has_gone_is_not_sent(coalescer: Callers, client: Counting) -> None:
    busy = [*await start(coalescer, [1]), *await start(coalescer, [2])]
    gone, here = await start(coalescer, [3], [4])
    gone.cancel()
    await asyncio.sleep(0)
    client.may_answer.set()
    await asyncio.gather(*busy, here)

    assert client.sent[2:] == [[[4]]]


@pytest.mark.parametrize("loses", [True, False], ids=["a vector too few", "cancelled before it begins"])
async def test_whatever_ends_a_call_ends_its_requests(
    coalescer: Callers, client: Counting, monkeypatch: pytest.MonkeyPatch, loses: bool
) -> None:
    async def too_few(texts: Sequence[Any], **_: Any) -> NDArray[np.float32]:
        return np.zeros((len(texts) - 1, 1), np.float32)

    monkeypatch.setattr(client, "embed", too_few)
    asking = asyncio.create_task(coalescer.embed([[1]]))
    await asyncio.sleep(0)
    if not loses:
        for call in coalescer.coalescer._calls:
            call.cancel()
    with anyio.fail_after(PATIENCE_S), pytest.raises(ValueError if loses else asyncio.CancelledError):
        await asking
    assert coalescer.slots.under_way == 0


async def test_a_failure_reaches_everyone_who_was_sent_and_nobody_after(coalescer: Callers, client: Counting) -> None:
    busy = [*await start(coalescer, [1]), *await start(coalescer, [2])]
    waiting = await start(coalescer, [3], [4])
    client.failure = UnavailableError("away")
    client.may_answer.set()
    failures = await asyncio.gather(*busy, *waiting, return_exceptions=True)
    client.failure = None
    (afterwards,) = await start(coalescer, [5])

    assert [type(failure) for failure in failures] == [UnavailableError] * 4
    assert (await afterwards).tolist() == [[5]]


async def test_a_long_list_is_sent_in_several_calls_and_answered_in_its_order(
    coalescer: Callers, client: Counting
) -> None:
    client.may_answer.set()
    vectors = await coalescer.embed([[number, *[0] * (number % 5)] for number in range(20)])

    assert vectors.tolist() == [[number] for number in range(20)]
    assert [len(call) for call in client.sent] == [8, 8, 4]


async def test_texts_of_similar_length_travel_together(coalescer: Callers, client: Counting) -> None:
    client.may_answer.set()
    await coalescer.embed([[1], [2] * 9, [3], [4] * 9], max_rows=2)

    assert [list(map(len, call)) for call in client.sent] == [[1, 1], [9, 9]]


async def test_a_call_holds_no_more_tokens_than_it_may(coalescer: Callers, client: Counting) -> None:
    client.may_answer.set()
    await coalescer.embed([[1] * (CALL_TOKENS // 2)] * 3 + [[1] * (CALL_TOKENS + 1)])

    assert sorted(map(len, client.sent)) == [1, 1, 2]


async def test_a_text_overtakes_what_is_left_of_a_long_list(coalescer: Callers, client: Counting) -> None:
    bulk = asyncio.create_task(coalescer.embed([[number] for number in range(1, 41)]))
    await asyncio.sleep(0)
    (late,) = await start(coalescer, [99])
    client.may_answer.set()
    await asyncio.gather(bulk, late)

    assert [len(call) for call in client.sent[:2]] == [8, 8]
    assert client.sent.index([[99]]) == 2


async def test_once_a_single_text_has_met_long_lists_they_leave_an_instance_alone(client: Counting) -> None:
    coalescer = Callers(client, calls=6)  # three instances
    lists = [asyncio.create_task(coalescer.embed([[1] * CALL_TOKENS] * 10)) for _ in range(2)]
    await sent(client, 6)
    (first,) = await start(coalescer, [99])
    client.may_answer.set()
    await asyncio.gather(first, *lists)
    client.may_answer.clear()
    client.sent.clear()
    later = asyncio.create_task(coalescer.embed([[1] * CALL_TOKENS] * 10))
    await sent(client, 2)
    (second,) = await start(coalescer, [98])
    await sent(client, 3)

    assert [len(call[0]) for call in client.sent] == [CALL_TOKENS, CALL_TOKENS, 1]
    client.may_answer.set()
    await asyncio.gather(later, second)


async def test_who_sends_single_texts_and_long_lists_in_turn_gets_every_instance(client: Counting) -> None:
    coalescer = Callers(client, calls=4)  # two instances
    (first,) = await start(coalescer, [99])
    client.may_answer.set()
    await first
    client.may_answer.clear()
    bulk = asyncio.create_task(coalescer.embed([[1] * CALL_TOKENS] * 10))

    await sent(client, 5)
    client.may_answer.set()
    await bulk


@pytest.mark.parametrize(
    ("rows", "tokens", "calls", "expected"),
    [
        pytest.param(8, 64, 4, [4, 4], id="two instances"),
        pytest.param(20, 64, 4, [5, 5, 5, 5], id="as many calls at each"),
        pytest.param(8, 64, 16, [2, 2, 2, 2], id="eight instances, and no call is needlessly short"),
        pytest.param(4, 16, 4, [4], id="too little to be worth it"),
        pytest.param(8, 64, 2, [8], id="one instance"),
    ],
)
async def test_the_texts_of_a_list_take_idle_instances_in_equal_parts(
    client: Counting, rows: int, tokens: int, calls: int, expected: list[int]
) -> None:
    coalescer = Callers(client, calls)
    client.may_answer.set()
    await coalescer.embed([[1] * tokens] * rows)

    assert [len(call) for call in client.sent] == expected


async def test_where_others_compute_a_list_shares_their_instances_and_calls(client: Counting) -> None:
    coalescer = Callers(client, calls=4)  # two instances
    busy = await start(coalescer, [1], [2], [3], [4])
    few = asyncio.create_task(coalescer.embed([[5] * 64] * 7))
    (one,) = await start(coalescer, [6])
    client.may_answer.set()
    await asyncio.gather(*busy, few, one)

    assert [len(call) for call in client.sent] == [1, 1, 1, 1, 8]


async def test_a_single_long_text_keeps_nothing_idle_for_short_ones(client: Counting) -> None:
    coalescer = Callers(client, calls=4)  # two instances
    tasks = await start(coalescer, *([number] * (CALL_TOKENS + 1) for number in range(6)))

    assert len(client.sent) == 4
    client.may_answer.set()
    await asyncio.gather(*tasks)


async def test_where_they_share_an_instance_with_single_texts_the_calls_of_long_lists_are_short(
    coalescer: Callers, client: Counting
) -> None:
    client.may_answer.set()
    row = [1] * (CALL_TOKENS_CROWDED // 2)
    await coalescer.embed([row] * 20)
    undisturbed = [len(call) for call in client.sent]
    bulk = asyncio.create_task(coalescer.embed([row] * 20))
    await asyncio.sleep(0)
    (single,) = await start(coalescer, [99])
    await asyncio.gather(bulk, single)
    client.sent.clear()
    await coalescer.embed([row] * 4, max_rows=2)
    await coalescer.embed([row] * 20)

    assert set(undisturbed[:-1]) == {CALL_TOKENS // len(row)}
    assert {len(call) for call in client.sent} == {2}


async def test_callers_advance_alike_however_much_each_asks_for(coalescer: Callers, client: Counting) -> None:
    busy = [*await start(coalescer, [1]), *await start(coalescer, [2])]
    greedy = [asyncio.create_task(coalescer.embed([[7]] * 80, caller="greedy")) for _ in range(4)]
    await asyncio.sleep(0)
    modest = asyncio.create_task(coalescer.embed([[8]] * 80, caller="modest"))
    await asyncio.sleep(0)
    client.may_answer.set()
    await modest
    shares = [sum(row == [id_] for call in client.sent for row in call) for id_ in (7, 8)]
    await asyncio.gather(*busy, *greedy)

    assert shares[1] == 80
    assert shares[0] < 120  # of 320: about as much, and not four times


async def test_the_long_lists_of_one_caller_are_done_one_after_another(coalescer: Callers, client: Counting) -> None:
    client.may_answer.set()
    done: list[int] = []
    lists = [asyncio.create_task(coalescer.embed([[number]] * 16, caller="greedy")) for number in range(10)]
    for number, task in enumerate(lists):
        task.add_done_callback(partial(lambda number, _: done.append(number), number))
    await asyncio.gather(*lists)

    assert done == list(range(10))
    assert [len({row[0] for row in call}) for call in client.sent] == [1] * 20


async def test_who_left_while_a_long_list_was_sent_takes_its_rest_along(coalescer: Callers, client: Counting) -> None:
    bulk = asyncio.create_task(coalescer.embed([[number] for number in range(80)]))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    bulk.cancel()
    await asyncio.sleep(0)
    client.may_answer.set()
    (after,) = await start(coalescer, [99])
    await after

    assert [len(call) for call in client.sent] == [8, 8, 1]


async def test_a_mistake_in_a_long_list_is_told_with_its_place(coalescer: Callers, client: Counting) -> None:
    client.may_answer.set()
    ids = [[number] for number in range(20)]
    ids[11] = [BAD]

    with pytest.raises(InvalidInputError, match=r"texts \[11\] are unknown"):
        await coalescer.embed(ids)
