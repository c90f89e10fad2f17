"""Which process computes which shard, on a stand-in for Ray whose time is simulated."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from conch_batch import actors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence


@dataclass(eq=False)
class Call:
    """What is known of it, and when."""

    at: float
    answer: Any


class Process:
    """An actor, which is there at some time and computes each shard in a second."""

    def __init__(self, ray: FakeRay, name: str, at: float) -> None:
        self._ray, self._name, self._free_at = ray, name, at
        self.__ray_ready__ = SimpleNamespace(remote=lambda: Call(at, None))
        self.compute = SimpleNamespace(remote=self._compute)

    def _compute(self, shard: str) -> Call:
        self._ray.begun.append(shard)
        self._free_at = max(self._free_at, self._ray.now) + 1
        return Call(self._free_at, (self._name, shard))


class FakeRay:
    """Starts each actor so many seconds after the beginning."""

    exceptions = SimpleNamespace(RayError=OSError, RayTaskError=OSError)

    def __init__(self, starts: Sequence[float]) -> None:
        self.now = 0.0
        self.begun: list[str] = []
        self._processes: Iterator[Process] = (Process(self, str(number), at) for number, at in enumerate(starts))

    def remote(self, **_: object) -> Callable[[object], Any]:
        return lambda _: SimpleNamespace(remote=lambda *_: next(self._processes))

    def put(self, value: object) -> object:
        return value

    def wait(self, calls: Sequence[Call]) -> tuple[list[Call], list[Call]]:
        first = min(calls, key=lambda call: call.at)
        return [first], [call for call in calls if call is not first]

    def get(self, call: Call) -> Any:
        self.now = max(self.now, call.at)
        return call.answer


def computed(monkeypatch: pytest.MonkeyPatch, starts: Sequence[float], shards: int) -> tuple[Counter[str], float]:
    """How many shards each process computes, and how long all of them take."""
    ray = FakeRay(starts)
    monkeypatch.setitem(sys.modules, "ray", ray)
    names = [f"{number}" for number in range(shards)]
    answers: Any = list(actors.spread(object, (), names, actors=len(starts), threads=1, on_gpu=False))
    assert sorted(shard for _, shard in answers) == sorted(names)
    return Counter(process for process, _ in answers), ray.now


@pytest.mark.parametrize("shards", [4, 5, 7])
def test_few_shards_are_divided_among_all_processes_however_late_some_are_there(
    monkeypatch: pytest.MonkeyPatch, shards: int
) -> None:
    of_each, _ = computed(monkeypatch, [0.0, 0.1, 0.2, 0.3], shards)
    assert len(of_each) == 4
    assert max(of_each.values()) == -(-shards // 4)


def test_a_process_that_is_there_late_holds_up_no_shard(monkeypatch: pytest.MonkeyPatch) -> None:
    of_each, seconds = computed(monkeypatch, [0.0, 20.0], 20)
    assert (of_each, seconds) == ({"0": 20}, 20)


@pytest.mark.parametrize("before", [1, 3, 8])
def test_no_shard_is_begun_while_one_that_has_to_come_before_is_missing(
    monkeypatch: pytest.MonkeyPatch, before: int
) -> None:
    first, others = [f"before {number}" for number in range(before)], [f"{number}" for number in range(9)]
    answered, ray = list[str](), FakeRay([0.0, 0.5, 30.0])
    monkeypatch.setitem(sys.modules, "ray", ray)
    answers: Any = actors.spread(object, (), others, before=first, actors=3, threads=1, on_gpu=False)
    for _, shard in answers:
        answered.append(shard)
        if len(answered) < before:
            assert set(ray.begun) <= set(first)
    assert sorted(answered[:before]) == first
    assert sorted(answered[before:]) == others
