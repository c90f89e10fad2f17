"""A long run gets every core while no other instance computes, and one core otherwise."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from conch_server.backends.onnxruntime.conch_onnx import packed
from conch_server.backends.onnxruntime.conch_onnx.contract import Contract
from conch_server.backends.onnxruntime.conch_onnx.runner import GraphModel
from conch_server.backends.onnxruntime.conch_onnx.session import open_session
from conch_server.backends.onnxruntime.conch_onnx.wide import IDLE_NS, WORTH_TOKENS, WideWhenAlone

from tests.unit.server.test_server_backend_packed import CONFIG, answer, export

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LONG, SHORT = ({"ids": np.zeros(size)} for size in (WORTH_TOKENS, WORTH_TOKENS - 1))
GROUPS = [
    {"name": "first", "count": 1, "rate_limiter": {"priority": 1}},
    {"name": "others", "count": 2, "rate_limiter": {"priority": 1000}},
]
PREFERRING = {
    **CONFIG,
    "instance_group": GROUPS,
    "parameters": {"intra_op_thread_count": {"string_value": "1"}},
}


class Doing:
    """A session that does something while it runs, and gives what that gives."""

    def __init__(self, run: Callable[[], str]) -> None:
        self._run = run

    def run(self, *_: Any) -> Any:
        return self._run()


def ran(instance: WideWhenAlone, feed: Any) -> Any:
    """What the session gave that was chosen."""
    return instance.run([], feed)


@pytest.fixture(autouse=True)
def now(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The clock of the test, in nanoseconds."""
    now = [10**12]
    monkeypatch.setattr(time, "monotonic_ns", lambda: now[0])
    return now


@pytest.fixture
def first(tmp_path: Path) -> WideWhenAlone:
    return WideWhenAlone(Doing(lambda: "narrow"), Doing(lambda: "wide"), tmp_path / "computing")


def test_a_long_run_is_wide_and_a_short_one_narrow(first: WideWhenAlone) -> None:
    assert [ran(first, LONG), ran(first, SHORT), ran(first, LONG)] == ["wide", "narrow", "wide"]


def test_it_is_narrow_while_another_instance_computes_and_a_moment_longer(
    first: WideWhenAlone, tmp_path: Path, now: list[int]
) -> None:
    def ask_the_first() -> str:
        said = str(ran(first, LONG))
        now[0] += 1
        return said

    other = WideWhenAlone(Doing(ask_the_first), None, tmp_path / "computing")
    assert ran(other, LONG) == "narrow"
    now[0] += IDLE_NS
    assert [ran(first, LONG), ran(first, LONG)] == ["narrow", "narrow"]
    now[0] += 1
    assert ran(first, LONG) == "wide"


def test_another_instance_does_not_wait_for_a_wide_run(tmp_path: Path) -> None:
    other = WideWhenAlone(Doing(lambda: "at once"), None, tmp_path / "computing")
    first = WideWhenAlone(Doing(str), Doing(lambda: str(ran(other, LONG))), tmp_path / "computing")
    assert ran(first, LONG) == "at once"


def test_a_run_that_fails_is_over(first: WideWhenAlone, tmp_path: Path, now: list[int]) -> None:
    other = WideWhenAlone(Doing(lambda: str(1 // 0)), None, tmp_path / "computing")
    with pytest.raises(ZeroDivisionError):
        ran(other, LONG)
    now[0] += IDLE_NS + 1
    assert ran(first, LONG) == "wide"


@pytest.mark.parametrize(
    ("config", "instance", "threads"),
    [(PREFERRING, "first_0", 3), (PREFERRING, "others_0", None), (CONFIG, "first_0", None)],
    ids=["the preferred one", "another one", "none is preferred"],
)
def test_the_preferred_instance_has_a_thread_for_every_instance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: dict[str, Any], instance: str, threads: int | None
) -> None:
    monkeypatch.setattr(packed, "WORTH_BYTES", 1024)
    place = tmp_path / "m" / "1"
    place.mkdir(parents=True)
    export(place, seed=0)
    opened = open_session(Contract.from_config(config), place, tmp_path / "scratch", instance)
    assert isinstance(opened, WideWhenAlone)
    wide: Any = opened._wide
    assert (wide and wide.get_session_options().intra_op_num_threads) == threads
    alone = answer(GraphModel.open({**CONFIG, "instance_group": [{"count": 1}]}, place, tmp_path))
    np.testing.assert_array_equal(answer(GraphModel.open(config, place, tmp_path / "scratch", instance)), alone)
