"""How much may be in flight, and what those are told for whom there is no room."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager, suppress
from math import inf
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from conch_gateway import CapacityError, GatewaySettings
from conch_gateway.scheduling import line as _line
from conch_gateway.scheduling import throughput as _throughput
from conch_gateway.scheduling.admission import Admission, Hold
from conch_gateway.scheduling.line import Line
from conch_gateway.scheduling.turns import Flow, Share, Turns
from conch_gateway.telemetry.trace import Trace

if TYPE_CHECKING:
    from collections.abc import Iterator

PER_S = 100  # tokens, of an engine that was `measured`


ME = Trace("request", "me")


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for module in (_line, _throughput):
        monkeypatch.setattr(module, "monotonic", clock)
    return clock


def admission_of(**settings: float) -> Admission:
    return Admission(GatewaySettings.model_validate({"triton_calls": 1, **settings}))


def model(name: str, instances: int | None, max_rows: int = 8) -> Any:
    return SimpleNamespace(name=name, instances=instances, max_rows=max_rows)


def under_way(admission: Admission) -> int:
    """How many of many calls start at once."""
    started: list[None] = []
    share = Share(Trace("request"), Flow(0.0), large=False, began=0.0)
    for _ in range(200):
        admission.turns.queue(share, 1, lambda: started.append(None))
    admission.turns.grant()
    return len(started)


@pytest.mark.parametrize(
    ("models", "calls"),
    [
        pytest.param([model("a", 1)], 2, id="one instance"),
        pytest.param([model("a", 3)], 6, id="three"),
        pytest.param([model("a", 32), model("b", 2)], 64, id="the model that has most counts"),
        pytest.param([model("a", 32), model("a", 2)], 4, id="deployed anew"),
        pytest.param([model("a", 1, max_rows=64)], 16, id="one on a GPU, which merges more"),
        pytest.param([model("a", 2), model("b", None)], 4, id="another server's"),
    ],
)
def test_as_many_calls_are_under_way_as_keep_the_instances_of_triton_busy(models: list[Any], calls: int) -> None:
    admission = Admission(GatewaySettings())
    for each in models:
        admission.know(each)
    assert under_way(admission) == calls


def test_calls_that_are_waiting_start_when_there_turn_out_to_be_more_instances() -> None:
    admission = Admission(GatewaySettings())
    assert under_way(admission) == 2
    admission.know(model("a", 4))
    assert admission.turns._under_way[False] == 8


def test_the_settings_have_the_last_word_on_calls() -> None:
    admission = Admission(GatewaySettings(triton_calls=3))
    admission.know(model("a", 32))
    assert under_way(admission) == 3


def work(turns: Turns, clock: Clock, tokens: int, seconds: float) -> None:
    """A call of one at a time, while another has to wait for it."""
    share = Share(Trace("request"), Flow(0.0), large=False, began=0.0)
    for _ in range(2):
        turns.queue(share, tokens, lambda: None)
    turns.grant()
    clock.now += seconds
    turns.release(large=False, tokens=tokens)
    turns.release(large=False, tokens=0)


def measured(clock: Clock, **settings: float) -> Admission:
    """An admission that has seen a second of work."""
    admission = admission_of(**settings)
    work(admission.turns, clock, PER_S, 1.0)
    return admission


@contextmanager
def held(admission: Admission, tokens: int, caller: str = "me", line: Line | None = None) -> Iterator[Hold]:
    """A request of so many tokens, in line for Triton or another server."""
    with admission.admit([[1] * tokens], Trace("request", caller)) as hold:
        hold.stand_in_line(line)
        yield hold


def check(admission: Admission, tokens: int, caller: str, stated_s: float = inf) -> None:
    """Of a request whose body is still to be read."""
    admission.check(Trace("request", caller, timeout_s=stated_s), tokens, for_triton=True)


def test_texts_are_estimated_until_they_are_tokenised(clock: Clock) -> None:
    admission = admission_of()

    with admission.admit(["four letters and more"] * 3, ME) as hold:
        estimate = admission.tokens
        hold.correct(1000)

        assert (estimate, admission.tokens) == (3 * 7, 1000)
    assert (admission.requests, admission.texts, admission.tokens) == (0, 0, 0)


def test_one_text_cannot_take_all_room_by_being_long(clock: Clock) -> None:
    admission = admission_of(max_in_flight_tokens=20_000)

    with admission.admit(["x" * 10_000_000], ME), admission.admit(["short"], ME):
        assert admission.requests == 2


def test_a_request_beyond_the_limit_is_taken_when_it_is_the_only_one(clock: Clock) -> None:
    admission = admission_of(max_in_flight_tokens=10)

    with (
        admission.admit([[1] * 100], ME),
        pytest.raises(CapacityError, match="100 tokens"),
        admission.admit([[1]], ME),
    ):
        pass


def test_those_who_are_refused_return_one_after_another_as_fast_as_they_can_be_served(clock: Clock) -> None:
    admission = measured(clock, max_in_flight_requests=1)

    with ExitStack() as stack:
        stack.enter_context(held(admission, 50))
        times = []
        for _ in range(3):
            with pytest.raises(CapacityError) as refused:
                check(admission, 50, "me")
            times.append(refused.value.retry_after_s)

    assert times == pytest.approx([0.5, 1.0, 1.5])


def test_nobody_is_sent_away_for_longer_than_half_a_minute(clock: Clock) -> None:
    admission = measured(clock, max_in_flight_requests=1)

    with held(admission, 1), pytest.raises(CapacityError) as refused:
        check(admission, 1_000_000, "me")

    assert refused.value.retry_after_s == 30.0


def test_time_in_which_nobody_has_to_wait_does_not_count_as_slowness(clock: Clock) -> None:
    admission = measured(clock, max_in_flight_requests=1)
    clock.now += 3600.0
    share = Share(Trace("lone"), Flow(0.0), large=False, began=0.0)
    admission.turns.queue(share, 3, lambda: None)
    admission.turns.grant()
    clock.now += 10.0
    admission.turns.release(large=False, tokens=3)

    with held(admission, PER_S), pytest.raises(CapacityError) as refused:
        check(admission, PER_S, "me")

    assert refused.value.retry_after_s == pytest.approx(1.0)


def test_a_failed_request_gives_its_room_back(clock: Clock) -> None:
    admission = measured(clock, max_in_flight_requests=1, timeout_s=5.0)
    with suppress(ZeroDivisionError), held(admission, 50 * PER_S):
        raise ZeroDivisionError

    with held(admission, PER_S):
        assert (admission.requests, admission.tokens) == (1, PER_S)


def test_what_failed_was_not_fast(clock: Clock) -> None:
    admission = admission_of(max_in_flight_requests=1)
    work(admission.turns, clock, 0, 0.001)

    with held(admission, 1), pytest.raises(CapacityError) as refused:
        check(admission, 1, "me")

    assert refused.value.retry_after_s == 1.0  # nothing has been measured yet


def test_who_would_wait_too_long_for_what_he_has_in_flight_is_refused(clock: Clock) -> None:
    admission = measured(clock, timeout_s=5.0)

    with held(admission, 4 * PER_S):
        check(admission, PER_S, "me")
        with pytest.raises(CapacityError):
            check(admission, PER_S + 1, "me")


@pytest.mark.parametrize(("caller", "tokens"), [("another", 50 * PER_S), ("me", 10)], ids=["by another", "by a list"])
def test_who_is_not_held_up_by_what_is_in_flight_is_not_refused_for_it(clock: Clock, caller: str, tokens: int) -> None:
    admission = measured(clock, timeout_s=5.0)

    with held(admission, 50 * PER_S), held(admission, tokens, caller):
        assert admission.requests == 2


def test_others_count_as_far_as_turns_let_them_pass(clock: Clock) -> None:
    admission = measured(clock, timeout_s=5.0)

    with ExitStack() as stack:
        for caller in ("me", "you", "they"):
            stack.enter_context(held(admission, 2 * PER_S, caller))
        with pytest.raises(CapacityError):  # after three times two seconds
            check(admission, 10, "me")
        stack.enter_context(held(admission, 100 * PER_S, "fourth"))
        check(admission, 10, "fifth")


def test_before_anything_was_measured_nobody_waits_too_long(clock: Clock) -> None:
    admission = admission_of(timeout_s=0.001)

    with held(admission, 5_000), held(admission, 5_000):
        assert admission.tokens == 10_000


def test_what_waits_for_another_server_is_in_nobodys_way_who_waits_for_triton(clock: Clock) -> None:
    admission, turns = measured(clock, timeout_s=5.0), Turns(calls=1)
    work(turns, clock, 10, 10.0)
    slow = Line(turns, 5.0, "timeout_s of slow")

    with held(admission, 100, line=slow):
        with pytest.raises(CapacityError), held(admission, 1, line=slow):
            pass
        with held(admission, PER_S), held(admission, PER_S):
            assert admission.requests == 3


def test_nobody_is_refused_before_it_is_known_what_he_would_wait_for(clock: Clock) -> None:
    admission = measured(clock, timeout_s=5.0)

    with held(admission, 5 * PER_S):
        admission.check(ME, PER_S, for_triton=False)
        with pytest.raises(CapacityError), held(admission, PER_S):
            pass


def test_a_caller_who_says_that_he_waits_less_is_refused_earlier_and_told_why(clock: Clock) -> None:
    admission = measured(clock, timeout_s=600.0)

    with held(admission, 4 * PER_S):
        check(admission, PER_S, "me", stated_s=5.0)
        with pytest.raises(CapacityError, match=r"you wait 4 s by your request's headers"):
            check(admission, PER_S, "me", stated_s=4.0)


def test_who_would_wait_longer_than_requests_may_take_is_told_the_setting(clock: Clock) -> None:
    admission = measured(clock, timeout_s=5.0)

    with held(admission, 5 * PER_S), pytest.raises(CapacityError, match="CONCH_TIMEOUT_S is 5"):
        check(admission, PER_S, "me", stated_s=100.0)


def test_a_request_waits_once_however_often_it_is_said(clock: Clock) -> None:
    admission = measured(clock, timeout_s=5.0)

    with held(admission, 3 * PER_S) as hold:
        hold.stand_in_line(None)
        check(admission, 2 * PER_S, "me")
