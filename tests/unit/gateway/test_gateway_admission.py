"""How much may be in flight, and what requests are told for which there is no room."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager, suppress
from math import inf
from typing import TYPE_CHECKING, Any

import pytest
from conch_gateway import GatewaySettings
from conch_gateway.backends.triton import Triton
from conch_gateway.errors import CapacityError
from conch_gateway.scheduling.admission import Admission, Backlog, Reservation, work_of
from conch_gateway.scheduling.slots import Flow, Slots, Work

from tests.unit.gateway.conftest import StandIn, model_info

if TYPE_CHECKING:
    from collections.abc import Iterator


PER_S = 100  # tokens, of a backend that was `measured`
ANYBODY = Flow("anybody", Work.SMALL)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


class Gateway:
    """The admission of a gateway with one backend."""

    def __init__(self, clock: Clock, *, timeout_s: float = 600.0, requests: int = 512, tokens: int = 262_144) -> None:
        self.slots = Slots(1, clock)
        self.backlog = Backlog(self.slots, timeout_s, "CONCH_TIMEOUT_S")
        self.admission = Admission(self.backlog, max_requests=requests, max_texts=16_384, max_tokens=tokens)

    @contextmanager
    def reserved(self, rows: Any, caller: str = "me") -> Iterator[Reservation]:
        with self.admission.reserve("request", caller, rows) as reservation:
            yield reservation

    @contextmanager
    def held(self, tokens: int, caller: str = "me", backlog: Backlog | None = None) -> Iterator[Reservation]:
        """A request of so many tokens in a backlog."""
        with self.reserved([[1] * tokens], caller) as reservation:
            reservation.asked = "a-model"
            reservation.join(backlog or self.backlog, [tokens], 8)
            yield reservation

    def check(self, tokens: int, caller: str = "me", stated_s: float = inf) -> None:
        """A request whose body is still to be read."""
        self.admission.check(1, tokens)
        self.backlog.check(Flow(caller, work_of(1, tokens, 1)), tokens, stated_s)


def measured(clock: Clock, **limits: Any) -> Gateway:
    """A gateway that has seen a second of work."""
    gateway = Gateway(clock, **limits)
    work(gateway.slots, clock, PER_S, 1.0)
    return gateway


def work(slots: Slots, clock: Clock, tokens: int, seconds: float) -> None:
    """A call of one at a time, while another has to wait for it."""
    entry = slots.enter("request", ANYBODY, "a-model")
    for _ in range(2):
        slots.queue(entry, tokens, lambda: None)
    slots.grant()
    clock.now += seconds
    slots.release(Work.SMALL, tokens, "a-model")
    slots.release(Work.SMALL, 0, "a-model")
    slots.leave(entry)


def under_way(triton: Triton, *models: tuple[str, int | None, int]) -> int:
    """How many of many calls start at once."""
    for name, instances, max_rows in models:
        triton._backlog_for(model_info(name, "embedding", instances=instances, max_rows=max_rows))
    slots, started = triton.shared_backlog.slots, list[None]()
    entry = slots.enter("request", ANYBODY, "a-model")
    for _ in range(200):
        slots.queue(entry, 1, lambda: started.append(None))
    slots.grant()
    return len(started)


def triton_of(**settings: Any) -> Triton:
    return Triton(GatewaySettings(**settings), StandIn())


@pytest.mark.parametrize(
    ("models", "calls"),
    [
        pytest.param([("a", 1, 8)], 2, id="one instance"),
        pytest.param([("a", 3, 8)], 6, id="three"),
        pytest.param([("a", 32, 8), ("b", 2, 8)], 64, id="the model that has most counts"),
        pytest.param([("a", 32, 8), ("a", 2, 8)], 4, id="deployed anew"),
        pytest.param([("a", 1, 64)], 16, id="one on a GPU, which merges more"),
        pytest.param([("a", 2, 8), ("b", None, 8)], 4, id="one that does not say"),
    ],
)
def test_as_many_calls_are_under_way_as_keep_the_instances_of_triton_busy(
    models: list[tuple[str, int | None, int]], calls: int
) -> None:
    assert under_way(triton_of(), *models) == calls


def test_calls_that_are_waiting_start_when_there_turn_out_to_be_more_instances() -> None:
    triton = triton_of()
    assert under_way(triton) == 2
    triton._backlog_for(model_info("a", "embedding", instances=4))
    assert triton.shared_backlog.slots.under_way == 8


def test_the_settings_have_the_last_word_on_calls() -> None:
    assert under_way(triton_of(triton_calls=3), ("a", 32, 8)) == 3


def test_texts_are_estimated_until_they_are_tokenised(clock: Clock) -> None:
    gateway = Gateway(clock)
    admission = gateway.admission

    with gateway.reserved(["four letters and more"] * 3) as reservation:
        estimate = admission.tokens
        reservation.join(gateway.backlog, [400, 600], 8)

        assert (estimate, admission.tokens) == (3 * 7, 1000)
    assert (admission.requests, admission.texts, admission.tokens) == (0, 0, 0)


def test_a_request_that_turns_out_to_be_long_is_queued_with_the_long_ones(clock: Clock) -> None:
    gateway = measured(clock, timeout_s=5.0)

    with gateway.reserved(["a text"]) as reservation:
        reservation.join(gateway.backlog, [5 * PER_S + 100], 8)

        assert reservation.entry.flow == Flow("me", Work.LARGE)
        gateway.check(1)
        with pytest.raises(CapacityError):
            gateway.check(5 * PER_S + 100)
    gateway.check(5 * PER_S + 100)


def test_what_is_added_to_a_request_counts_too(clock: Clock) -> None:
    gateway = measured(clock, timeout_s=5.0)

    with gateway.held(2 * PER_S) as reservation:
        reservation.join(gateway.backlog, [2 * PER_S], 8)

        assert (gateway.admission.tokens, reservation.tokens) == (4 * PER_S, 4 * PER_S)
        with pytest.raises(CapacityError):
            gateway.check(PER_S + 1)
    gateway.check(10 * PER_S)


def test_one_text_cannot_take_all_room_by_being_long(clock: Clock) -> None:
    gateway = Gateway(clock, tokens=20_000)

    with gateway.reserved(["x" * 10_000_000]), gateway.reserved(["short"]):
        assert gateway.admission.requests == 2


def test_a_request_beyond_the_limit_is_taken_when_it_is_the_only_one(clock: Clock) -> None:
    gateway = Gateway(clock, tokens=10)

    with (
        gateway.reserved([[1] * 100]),
        pytest.raises(CapacityError, match="100 tokens"),
        gateway.reserved([[1]]),
    ):
        pass


def test_those_who_are_refused_return_one_after_another_as_fast_as_they_can_be_served(clock: Clock) -> None:
    gateway = measured(clock, requests=1)

    with gateway.held(50):
        times = []
        for _ in range(3):
            with pytest.raises(CapacityError) as refused:
                gateway.check(50)
            times.append(refused.value.retry_after_s)

    assert times == pytest.approx([0.5, 1.0, 1.5])


def test_nobody_is_sent_away_for_longer_than_half_a_minute(clock: Clock) -> None:
    gateway = measured(clock, requests=1)

    with gateway.held(1), pytest.raises(CapacityError) as refused:
        gateway.check(1_000_000)

    assert refused.value.retry_after_s == 30.0


def test_time_in_which_nobody_has_to_wait_does_not_count_as_slowness(clock: Clock) -> None:
    gateway = measured(clock, requests=1)
    clock.now += 3600.0
    gateway.slots.queue(gateway.slots.enter("lone", ANYBODY, "a-model"), 3, lambda: None)
    gateway.slots.grant()
    clock.now += 10.0
    gateway.slots.release(Work.SMALL, 3, "a-model")

    with gateway.held(PER_S), pytest.raises(CapacityError) as refused:
        gateway.check(PER_S)

    assert refused.value.retry_after_s == pytest.approx(1.0)


def test_a_failed_request_gives_its_room_back(clock: Clock) -> None:
    gateway = measured(clock, requests=1, timeout_s=5.0)
    with suppress(ZeroDivisionError), gateway.held(50 * PER_S):
        raise ZeroDivisionError

    with gateway.held(PER_S):
        assert (gateway.admission.requests, gateway.admission.tokens) == (1, PER_S)


def test_what_failed_was_not_fast(clock: Clock) -> None:
    gateway = Gateway(clock, requests=1)
    work(gateway.slots, clock, 0, 0.001)

    with gateway.held(1), pytest.raises(CapacityError) as refused:
        gateway.check(1)

    assert refused.value.retry_after_s == 1.0  # nothing has been measured yet


def test_who_would_wait_too_long_for_what_he_has_in_flight_is_refused(clock: Clock) -> None:
    gateway = measured(clock, timeout_s=5.0)

    with gateway.held(4 * PER_S):
        gateway.check(PER_S)
        with pytest.raises(CapacityError):
            gateway.check(PER_S + 1)


@pytest.mark.parametrize(("caller", "tokens"), [("another", 50 * PER_S), ("me", 10)], ids=["by another", "by a list"])
def test_who_is_not_held_up_by_what_is_in_flight_is_not_refused_for_it(clock: Clock, caller: str, tokens: int) -> None:
    gateway = measured(clock, timeout_s=5.0)

    with gateway.held(50 * PER_S), gateway.held(tokens, caller):
        assert gateway.admission.requests == 2


def test_others_count_as_far_as_slots_let_them_pass(clock: Clock) -> None:
    gateway = measured(clock, timeout_s=5.0)

    with ExitStack() as stack:
        for caller in ("me", "you", "they"):
            stack.enter_context(gateway.held(2 * PER_S, caller))
        with pytest.raises(CapacityError):  # after three times two seconds
            gateway.check(10)
        stack.enter_context(gateway.held(100 * PER_S, "fourth"))
        gateway.check(10, "fifth")


def test_before_anything_was_measured_nobody_waits_too_long(clock: Clock) -> None:
    gateway = Gateway(clock, timeout_s=0.001)

    with gateway.held(5_000), gateway.held(5_000):
        assert gateway.admission.tokens == 10_000


def test_what_waits_for_one_backend_is_in_nobodys_way_who_waits_for_another(clock: Clock) -> None:
    gateway, slots = measured(clock, timeout_s=5.0), Slots(1, clock)
    work(slots, clock, 10, 10.0)
    slow = Backlog(slots, 5.0, "timeout_s of {} in the models file")

    with gateway.held(100, backlog=slow):
        with pytest.raises(CapacityError, match="timeout_s of a-model in the models file is 5"):
            gateway.held(1, backlog=slow).__enter__()
        with gateway.held(PER_S), gateway.held(PER_S):
            assert gateway.admission.requests == 3


def test_a_caller_who_says_that_he_waits_less_is_refused_earlier_and_told_why(clock: Clock) -> None:
    gateway = measured(clock, timeout_s=600.0)

    with gateway.held(4 * PER_S):
        gateway.check(PER_S, stated_s=5.0)
        with pytest.raises(CapacityError, match=r"you wait 4 s by your request's headers"):
            gateway.check(PER_S, stated_s=4.0)


def test_who_would_wait_longer_than_requests_may_take_is_told_the_setting(clock: Clock) -> None:
    gateway = measured(clock, timeout_s=5.0)

    with gateway.held(5 * PER_S), pytest.raises(CapacityError, match="CONCH_TIMEOUT_S is 5"):
        gateway.check(PER_S, stated_s=100.0)


def test_a_request_that_begins_anew_waits_once(clock: Clock) -> None:
    gateway = measured(clock, timeout_s=5.0)

    with gateway.held(3 * PER_S) as reservation:
        reservation.leave()
        reservation.join(gateway.backlog, [3 * PER_S], 8)
        gateway.check(2 * PER_S)
