"""How much may be in flight, and what those are told for whom there is no room."""

from __future__ import annotations

from contextlib import ExitStack, suppress

import pytest
from conch_gateway import CapacityError, GatewaySettings, _admission
from conch_gateway._admission import Admission


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(_admission, "monotonic", clock)
    return clock


def admission_of(**settings: float) -> Admission:
    return Admission(GatewaySettings.model_validate(settings))


def test_texts_are_estimated_until_they_are_tokenised(clock: Clock) -> None:
    admission = admission_of()

    with admission.admit(["four letters and more"] * 3, "me") as hold:
        estimate = admission.tokens
        hold.correct(1000)

        assert (estimate, admission.tokens) == (3 * 7, 1000)
    assert (admission.requests, admission.texts, admission.tokens) == (0, 0, 0)


def test_one_text_cannot_take_all_room_by_being_long(clock: Clock) -> None:
    admission = admission_of(max_in_flight_tokens=20_000)

    with admission.admit(["x" * 10_000_000], "me"), admission.admit(["short"], "me"):
        assert admission.requests == 2


def test_a_request_beyond_the_limit_is_taken_when_it_is_the_only_one(clock: Clock) -> None:
    admission = admission_of(max_in_flight_tokens=10)

    with (
        admission.admit([[1] * 100], "me"),
        pytest.raises(CapacityError, match="100 tokens"),
        admission.admit([[1]], "me"),
    ):
        pass


def test_those_who_are_refused_return_one_after_another_as_fast_as_they_can_be_served(clock: Clock) -> None:
    admission = admission_of(max_in_flight_requests=1)
    with admission.admit([[1] * 1000], "me"):
        clock.now += 2.0  # 500 tokens a second

    with ExitStack() as stack:
        stack.enter_context(admission.admit([[1] * 250], "me"))
        times = []
        for _ in range(3):
            with pytest.raises(CapacityError) as refused:
                admission.check("me", 1, 250)
            times.append(refused.value.retry_after_s)

    assert times == pytest.approx([0.5, 1.0, 1.5])


def test_nobody_is_sent_away_for_longer_than_half_a_minute(clock: Clock) -> None:
    admission = admission_of(max_in_flight_requests=1)
    with admission.admit([[1]], "me"):
        clock.now += 20.0

    with admission.admit([[1]], "me"), pytest.raises(CapacityError) as refused:
        admission.check("me", 1, 1_000_000)

    assert refused.value.retry_after_s == 30.0


def test_idle_time_does_not_count_as_slowness(clock: Clock) -> None:
    admission = admission_of(max_in_flight_requests=1)
    with admission.admit([[1] * 100], "me"):
        clock.now += 1.0
    clock.now += 3600.0

    with admission.admit([[1] * 100], "me"), pytest.raises(CapacityError) as refused:
        admission.check("me", 1, 100)

    assert refused.value.retry_after_s == pytest.approx(1.0)


def test_a_failed_request_gives_its_room_back_and_counts_for_nothing(clock: Clock) -> None:
    admission = admission_of(max_in_flight_requests=1)
    with suppress(ZeroDivisionError), admission.admit([[1] * 100], "me"):
        clock.now += 0.001
        raise ZeroDivisionError

    with admission.admit([[1]], "me"), pytest.raises(CapacityError) as refused:
        admission.check("me", 1, 1)

    assert refused.value.retry_after_s == 1.0  # nothing has been measured yet


SECONDS_OF = 100  # tokens in a second, once `measured`


def measured(clock: Clock, **settings: float) -> Admission:
    """An admission that has seen a second of work."""
    admission = admission_of(**settings)
    with admission.admit([[1] * SECONDS_OF], "somebody"):
        clock.now += 1.0
    return admission


def test_who_would_wait_too_long_for_what_he_has_in_flight_is_refused(clock: Clock) -> None:
    admission = measured(clock, max_wait_s=5.0)

    with admission.admit([[1] * 4 * SECONDS_OF], "me"):
        admission.check("me", 1, SECONDS_OF)
        with pytest.raises(CapacityError):
            admission.check("me", 1, SECONDS_OF + 1)


@pytest.mark.parametrize(
    ("caller", "tokens"), [("another", 50 * SECONDS_OF), ("me", 10)], ids=["by another", "by my long list"]
)
def test_who_is_not_held_up_by_what_is_in_flight_is_not_refused_for_it(clock: Clock, caller: str, tokens: int) -> None:
    admission = measured(clock, max_wait_s=5.0)

    with admission.admit([[1] * 50 * SECONDS_OF], "me"), admission.admit([[1] * tokens], caller):
        assert admission.requests == 2


def test_others_count_as_far_as_turns_let_them_pass(clock: Clock) -> None:
    admission = measured(clock, max_wait_s=5.0)

    with ExitStack() as stack:
        for caller in ("me", "you", "they"):
            stack.enter_context(admission.admit([[1] * 2 * SECONDS_OF], caller))
        with pytest.raises(CapacityError):  # after three times two seconds
            admission.check("me", 1, 10)
        stack.enter_context(admission.admit([[1] * 100 * SECONDS_OF], "fourth"))
        admission.check("fifth", 1, 10)


def test_before_anything_was_measured_nobody_waits_too_long(clock: Clock) -> None:
    admission = admission_of(max_wait_s=0.001)

    with admission.admit([[1] * 5_000], "me"), admission.admit([[1] * 5_000], "me"):
        assert admission.tokens == 10_000
