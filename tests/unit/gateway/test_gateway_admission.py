"""How much may be in flight, and what those are told for whom there is no room."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING

import pytest
from conch_gateway import CapacityError, GatewaySettings, _line
from conch_gateway._admission import Admission, Hold

if TYPE_CHECKING:
    from collections.abc import Iterator


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(_line, "monotonic", clock)
    return clock


def admission_of(**settings: float) -> Admission:
    return Admission(GatewaySettings.model_validate(settings))


@contextmanager
def held(admission: Admission, tokens: int, caller: str = "me", engine: str | None = None) -> Iterator[Hold]:
    """A request of so many tokens, in line for an engine."""
    with admission.admit([[1] * tokens], caller) as hold:
        hold.stand_in_line(engine)
        yield hold


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
    with held(admission, 1000):
        clock.now += 2.0  # 500 tokens a second

    with ExitStack() as stack:
        stack.enter_context(held(admission, 250))
        times = []
        for _ in range(3):
            with pytest.raises(CapacityError) as refused:
                admission.check("me", 250)
            times.append(refused.value.retry_after_s)

    assert times == pytest.approx([0.5, 1.0, 1.5])


def test_nobody_is_sent_away_for_longer_than_half_a_minute(clock: Clock) -> None:
    admission = admission_of(max_in_flight_requests=1)
    with held(admission, 1):
        clock.now += 20.0

    with held(admission, 1), pytest.raises(CapacityError) as refused:
        admission.check("me", 1_000_000)

    assert refused.value.retry_after_s == 30.0


def test_idle_time_does_not_count_as_slowness(clock: Clock) -> None:
    admission = admission_of(max_in_flight_requests=1)
    with held(admission, 100):
        clock.now += 1.0
    clock.now += 3600.0

    with held(admission, 100), pytest.raises(CapacityError) as refused:
        admission.check("me", 100)

    assert refused.value.retry_after_s == pytest.approx(1.0)


def test_a_failed_request_gives_its_room_back_and_counts_for_nothing(clock: Clock) -> None:
    admission = admission_of(max_in_flight_requests=1)
    with suppress(ZeroDivisionError), held(admission, 100):
        clock.now += 0.001
        raise ZeroDivisionError

    with held(admission, 1), pytest.raises(CapacityError) as refused:
        admission.check("me", 1)

    assert refused.value.retry_after_s == 1.0  # nothing has been measured yet


SECONDS_OF = 100  # tokens in a second, once `measured`


def measured(clock: Clock, **settings: float) -> Admission:
    """An admission that has seen a second of work."""
    admission = admission_of(**settings)
    with held(admission, SECONDS_OF, "somebody"):
        clock.now += 1.0
    return admission


def test_who_would_wait_too_long_for_what_he_has_in_flight_is_refused(clock: Clock) -> None:
    admission = measured(clock, max_wait_s=5.0)

    with held(admission, 4 * SECONDS_OF):
        admission.check("me", SECONDS_OF)
        with pytest.raises(CapacityError):
            admission.check("me", SECONDS_OF + 1)


@pytest.mark.parametrize(
    ("caller", "tokens"), [("another", 50 * SECONDS_OF), ("me", 10)], ids=["by another", "by my long list"]
)
def test_who_is_not_held_up_by_what_is_in_flight_is_not_refused_for_it(clock: Clock, caller: str, tokens: int) -> None:
    admission = measured(clock, max_wait_s=5.0)

    with held(admission, 50 * SECONDS_OF), held(admission, tokens, caller):
        assert admission.requests == 2


def test_others_count_as_far_as_turns_let_them_pass(clock: Clock) -> None:
    admission = measured(clock, max_wait_s=5.0)

    with ExitStack() as stack:
        for caller in ("me", "you", "they"):
            stack.enter_context(held(admission, 2 * SECONDS_OF, caller))
        with pytest.raises(CapacityError):  # after three times two seconds
            admission.check("me", 10)
        stack.enter_context(held(admission, 100 * SECONDS_OF, "fourth"))
        admission.check("fifth", 10)


def test_before_anything_was_measured_nobody_waits_too_long(clock: Clock) -> None:
    admission = admission_of(max_wait_s=0.001)

    with held(admission, 5_000), held(admission, 5_000):
        assert admission.tokens == 10_000


def test_what_waits_for_another_server_is_in_nobodys_way_who_waits_for_triton(clock: Clock) -> None:
    admission = measured(clock, max_wait_s=5.0)
    with held(admission, 10, engine="slow"):
        clock.now += 10.0  # a token a second

    with held(admission, 100, engine="slow"):
        with pytest.raises(CapacityError), held(admission, 1, engine="slow"):
            pass
        with held(admission, SECONDS_OF), held(admission, SECONDS_OF):
            assert admission.requests == 3


def test_nobody_is_refused_before_it_is_known_what_he_would_wait_for(clock: Clock) -> None:
    admission = measured(clock, max_wait_s=5.0)
    with held(admission, 1, engine="another"):
        pass

    with held(admission, 5 * SECONDS_OF):
        admission.check("me", SECONDS_OF)
        with pytest.raises(CapacityError), held(admission, SECONDS_OF):
            pass
