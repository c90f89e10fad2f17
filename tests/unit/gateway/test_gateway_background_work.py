"""Work that nobody waits for goes behind everything else, and takes a part of the room only."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
from conch_gateway.errors import CapacityError
from conch_gateway.scheduling.admission import Admission, Backlog, Reservation
from conch_gateway.scheduling.load import loads
from conch_gateway.scheduling.slots import Flow, Slots, Work

CALLERS_STAY_S = 5.0


class Queue:
    """Slots whose calls are known by their names, and last until they are ended."""

    def __init__(self, calls: int) -> None:
        self.now = 100.0
        self.slots = Slots(calls, lambda: self.now)
        self.started: list[str] = []
        self._entries = {work: self.slots.enter("request", Flow("somebody", work), "a-model") for work in Work}

    def queue(self, work: Work, *names: str, tokens: int = 10) -> None:
        for name in names:
            self.slots.queue(self._entries[work], tokens, lambda name=name: self.started.append(name))  # type: ignore[misc]
        self.slots.grant()

    def end(self, work: Work) -> None:
        self.slots.release(work, 10, "a-model")


def test_without_callers_it_has_every_slot() -> None:
    queue = Queue(4)
    queue.queue(Work.BACKGROUND, *"abcde")

    assert queue.started == [*"abcd"]
    assert not queue.slots.short(Work.BACKGROUND)


@pytest.mark.parametrize("work", [Work.SMALL, Work.LARGE])
def test_nothing_starts_while_a_request_waits(work: Work) -> None:
    queue = Queue(2)
    queue.queue(Work.BACKGROUND, *"abc")
    queue.queue(work, *"xy")
    for _ in range(2):
        queue.end(Work.BACKGROUND)

    assert queue.started == [*"abxy"]


def test_while_callers_are_there_it_leaves_an_instance_free_and_is_short() -> None:
    queue = Queue(6)  # three instances
    queue.queue(Work.SMALL, "x")
    queue.queue(Work.BACKGROUND, *"abcdef")
    assert queue.started == [*"xa"]
    queue.end(Work.SMALL)
    assert queue.started == [*"xab"]
    assert queue.slots.short(Work.BACKGROUND)
    queue.now += CALLERS_STAY_S + 1
    queue.slots.grant()

    assert queue.started == [*"xabcdef"]
    assert not queue.slots.short(Work.BACKGROUND)


def test_with_one_instance_it_goes_on_between_requests() -> None:
    queue = Queue(2)
    queue.queue(Work.SMALL, "x")
    queue.queue(Work.BACKGROUND, *"ab")
    assert queue.started == ["x"]
    queue.end(Work.SMALL)
    queue.queue(Work.SMALL, "y")
    queue.end(Work.BACKGROUND)
    queue.end(Work.SMALL)

    assert queue.started == [*"xayb"]


def test_how_far_it_is_does_not_change_the_turns_of_callers() -> None:
    queue = Queue(1)
    queue.queue(Work.BACKGROUND, *"abc", tokens=1000)
    queue.queue(Work.LARGE, "x", tokens=500)
    queue.queue(Work.SMALL, "y", tokens=10)
    for work in (Work.BACKGROUND, Work.SMALL):
        queue.end(work)

    assert queue.started == [*"ayx"]


@pytest.fixture
def admission() -> Admission:
    slots = Slots(2, lambda: 100.0)
    return Admission(Backlog(slots, 10, "the limit"), max_requests=8, max_texts=80, max_tokens=800)


def test_it_has_a_quarter_of_the_room(admission: Admission) -> None:
    with (
        admission.reserve("1", "a", ["text"], background=True),
        admission.reserve("2", "a", ["text"], background=True),
        pytest.raises(CapacityError, match="in the background"),
        admission.reserve("3", "a", ["text"], background=True),
    ):
        pass
    with admission.reserve("1", "a", ["text"] * 21, background=True) as one:  # of any size
        assert not loads(admission)
        with admission.reserve("3", "a", ["text"] * 40):
            assert one.background
    with admission.reserve("4", "a", ["text"], background=True):
        pass


def test_none_of_it_is_too_large_for_its_room_or_takes_room_from_callers() -> None:
    slots = Slots(2, lambda: 100.0)
    backlog = Backlog(slots, 10, "the limit")
    admission = Admission(backlog, max_requests=64, max_texts=80, max_tokens=800)
    with ExitStack() as held:

        def reserve(texts: int, tokens: int, *, background: bool = True) -> Reservation:
            rows = [[1] * tokens] * texts
            return held.enter_context(admission.reserve("1", "a", rows, background=background))

        reserve(20, 10, background=False)
        for _ in range(4):
            reserve(100, 100).join(backlog, [150] * 100, 8)
        with pytest.raises(CapacityError, match="in the background"):
            reserve(1, 1)
        reserve(40, 10, background=False)  # three quarters, with those above
        with pytest.raises(CapacityError, match="the gateway is full"):
            reserve(1, 1, background=False)
    assert (admission.texts, admission.tokens) == (0, 0)
    assert admission._in_background.tokens == 0


def test_callers_are_not_told_to_wait_for_it() -> None:
    slots = Slots(1, lambda: 100.0)
    slots._throughput._tokens, slots._throughput._seconds = 100.0, 1.0
    admission = Admission(Backlog(slots, 10.0, "the limit"), max_requests=1, max_texts=80, max_tokens=800)

    def refused(*, background: bool) -> float:
        with (
            pytest.raises(CapacityError) as refusal,
            admission.reserve("2", "a", [[1] * 50], background=background),
        ):
            pass
        return refusal.value.retry_after_s

    with admission.reserve("1", "a", [[1] * 50]):
        told = [refused(background=background) for background in (False, True, True, False)]

    assert told == pytest.approx([0.5, 1.0, 1.0, 1.0])


def test_no_request_waits_for_it_by_the_prediction() -> None:
    slots = Slots(1, lambda: 100.0)
    backlog = Backlog(slots, 1.0, "the limit")
    slots._throughput._tokens, slots._throughput._seconds = 100.0, 1.0
    backlog.add(Flow("a", Work.BACKGROUND), 10_000)
    backlog.add(Flow("a", Work.SMALL), 10)
    backlog.check(Flow("a", Work.SMALL), 10, 5.0)
    with pytest.raises(CapacityError):
        backlog.check(Flow("a", Work.BACKGROUND), 10_000, 5.0)
