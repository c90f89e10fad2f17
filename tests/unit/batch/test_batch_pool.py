"""Which process computes which shard, with stand-ins for the processes, whose time is simulated."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from conch_batch import EngineError
from conch_batch.processes.pool import Event, spread

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass
class Process:
    """It has computed all that it was sent at some time."""

    name: str
    free_at: float
    dies_at: float
    is_dead: bool = False

    def __hash__(self) -> int:
        return id(self)


class Simulated:
    """Each process is there so many seconds after the beginning, and computes each shard in a second.

    Args:
        starts: of the processes, in the order in which they are started.
        deaths: when some of them die, by their numbers.
    """

    def __init__(self, starts: Sequence[float], deaths: dict[int, float] | None = None) -> None:
        self.room, self.now, self.begun = len(starts), 0.0, list[str]()
        deaths = deaths or {}
        self._processes = (
            Process(f"{number}", at, deaths.get(number, float("inf"))) for number, at in enumerate(starts)
        )
        self._events: list[tuple[float, Event]] = []

    def start(self) -> Process:
        process = next(self._processes)
        process.free_at += self.now
        self._events.append((process.free_at, Event(process)))
        if process.dies_at < float("inf"):
            self._events.append((process.dies_at, Event(process, died="killed")))
        return process

    def send(self, process: Process, shard: object, /) -> None:
        assert not process.is_dead
        self.begun.append(str(shard))
        process.free_at = max(process.free_at, self.now) + 1
        self._events.append((process.free_at, Event(process, shard, {"by": process.name, "shard": shard})))

    def wait(self) -> Event:
        first = min(self._events, key=lambda event: event[0])
        self.now, event = first
        self._events.remove(first)
        if event.died:
            event.process.is_dead = True
            self._events = [other for other in self._events if other[1].process is not event.process]
        return event


def names(shards: int) -> list[str]:
    return [f"{number}" for number in range(shards)]


def computed(processes: Simulated, shards: int, size: int) -> Counter[str]:
    """How many shards each process computes."""
    answers: list[dict[str, Any]] = list(spread(processes, names(shards), size=size))
    assert sorted(answer["shard"] for answer in answers) == sorted(names(shards))
    return Counter(answer["by"] for answer in answers)


@pytest.mark.parametrize("shards", [4, 5, 7])
def test_few_shards_are_divided_among_all_processes_however_late_some_are_there(shards: int) -> None:
    of_each = computed(Simulated([0.0, 0.1, 0.2, 0.3]), shards, 4)
    assert len(of_each) == 4
    assert max(of_each.values()) == -(-shards // 4)


def test_a_process_that_is_there_late_holds_up_no_shard() -> None:
    processes = Simulated([0.0, 20.0])
    assert computed(processes, 20, 2) == {"0": 20}
    assert processes.now == 20


@pytest.mark.parametrize("before", [1, 3, 8])
def test_no_shard_is_begun_while_one_that_has_to_come_before_is_missing(before: int) -> None:
    first, others = [f"before {number}" for number in range(before)], names(9)
    answered, processes = list[str](), Simulated([0.0, 0.5, 30.0])
    for answer in spread(processes, others, before=first, size=3):
        answered.append(answer["shard"])
        if len(answered) < before:
            assert set(processes.begun) <= set(first)
    assert sorted(answered[:before]) == first
    assert sorted(answered[before:]) == others


def test_the_shards_of_a_process_that_dies_are_computed_by_others_once_each() -> None:
    # The third process takes the place of the second, but there is no room for it until all is done.
    assert computed(Simulated([0.0, 0.0, 100.0], {1: 2.5}), 12, 2) == {"0": 10, "1": 2}


def test_processes_that_die_again_and_again_end_the_run() -> None:
    processes = Simulated([0.0] * 30, dict.fromkeys(range(30), 0.0))
    with pytest.raises(EngineError, match=r"a process that computes has ended \(killed\): each process needs memory"):
        list(spread(processes, names(3), size=1))
