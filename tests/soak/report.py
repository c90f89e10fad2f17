"""From what was seen to what is told: counts, how each fault was met, and whether all bounds hold."""

from __future__ import annotations

from collections import Counter
from statistics import median
from typing import TYPE_CHECKING, Any

from tests.soak.outcomes import CLEAN, Kind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.soak.record import Outcome, Record, Strike

RECOVERY_S = 5.0
MEMORY_GROWTH = 0.05
MEMORY_JUDGED_S = 600.0  # a shorter run has hardly anything but its beginning, when every pool still fills
SLACK_S = 0.5  # between a process's end and when its supervisor has noticed
LATE_S = 0.5  # that the load itself may be behind its schedule, for all but one question of a hundred
EXAMPLES = 5
Span = tuple[float, "float | None"]


def result(record: Record, begin: float, end: float, down: Sequence[Span], left: Sequence[str]) -> dict[str, Any]:
    """Return the result as it is stored; `down` says when the gateway was not listening, `left` what was left over."""
    bad = Counter(outcome.kind.value for outcome in record.others)
    outside = [outcome for outcome in record.others if outcome.kind is Kind.DISCONNECTED and not _during(outcome, down)]
    faults = [_met(record, strike, until) for strike, until in _windows(record, end)]
    memory, seconds = _memory(record, begin, end), round(end - begin, 1)
    return {
        "seconds": seconds,
        "answers": record.rights(),
        "answers_per_s": round(record.rights() / (end - begin), 1),
        "others": {kind.value: bad[kind.value] for kind in Kind if bad[kind.value]},
        "disconnected_while_the_gateway_ran": len(outside),
        "asked_late_s": record.late_s,
        "right_since_the_last_failure": _right_since(record),
        "by_surface": _by_surface(record),
        "faults": faults,
        "left_out": record.left_out,
        "gateway_down_s": [round(up - since, 2) for since, up in down if up is not None],
        "memory_mb": memory,
        "left_over": list(left),
        "examples": _examples(record, outside),
        "broken_bounds": [*_broken(bad, len(outside), faults, left), *_grown(memory, seconds), *_late(record)],
    }


def _broken(bad: Counter[str], outside: int, faults: list[dict[str, Any]], left: Sequence[str]) -> list[str]:
    """What does not hold, in words; empty when all does."""
    broken = [f"{bad[kind.value]} {kind.value}" for kind in (Kind.WRONG, Kind.HUNG, Kind.UNCLEAN) if bad[kind.value]]
    if outside:
        broken.append(f"{outside} connections broken while the gateway ran")
    broken += [
        f"{met['fault']}: right again {met['recovery_s']} s after it, more than {RECOVERY_S:g} s"
        for met in faults
        if met["recovery_s"] > RECOVERY_S
    ]
    broken += [f"{met['fault']}: {met['trouble']}" for met in faults if met["trouble"]]
    if left:
        broken.append(f"left over: {', '.join(left)}")
    return broken


def _grown(memory: dict[str, float], seconds: float) -> list[str]:
    if seconds < MEMORY_JUDGED_S:
        return []
    if not memory:
        return ["memory was not measured in the first quarter or in the last"]
    if memory["growth"] > MEMORY_GROWTH:
        return [f"memory has grown by {100 * memory['growth']:.1f} %, more than {100 * MEMORY_GROWTH:g} %"]
    return []


def _late(record: Record) -> list[str]:
    late_s = record.late_s.get("p99", 0.0)
    return [f"the load asked up to {late_s:.1f} s late: give it a quieter machine"] if late_s > LATE_S else []


def _windows(record: Record, end: float) -> list[tuple[Strike, float]]:
    """Each fault and when the next one begins."""
    begins = [strike.begin for strike in record.strikes[1:]]
    return list(zip(record.strikes, [*begins, end], strict=False))  # none where it was stopped before the first


def _met(record: Record, strike: Strike, until: float) -> dict[str, Any]:
    """What clients have seen of a fault: all that ended badly from its beginning to that of the next."""
    seen = [outcome for outcome in record.others if strike.begin <= outcome.end < until]
    mended = strike.mended or until
    slowest = [seconds for second, seconds in record.slowest_s.items() if strike.begin - 1 <= second < until]
    return {
        "fault": strike.fault,
        "lasted_s": round(mended - strike.begin, 2),
        "seen": dict(Counter(outcome.kind.value for outcome in seen)),
        "seen_s": round(max((outcome.begin for outcome in seen), default=strike.begin) - strike.begin, 2),
        "recovery_s": round(max([0.0, *(outcome.begin - mended for outcome in seen)]), 2),
        "slowest_answer_s": round(max(slowest, default=0.0), 2),
        "answers": sum(counts.total() for second, counts in record.right.items() if strike.begin <= second < until),
        "log": strike.log,
        "trouble": strike.trouble,
    }


def _during(outcome: Outcome, down: Sequence[Span]) -> bool:
    """Whether the gateway was not listening at some moment between question and outcome."""
    return any(since - SLACK_S <= outcome.end and (up is None or outcome.begin <= up + SLACK_S) for since, up in down)


def _by_surface(record: Record) -> dict[str, dict[str, int]]:
    told: dict[str, dict[str, int]] = {}
    for surface in record.surfaces:
        others = Counter(outcome.kind.value for outcome in record.others if outcome.surface == surface)
        told[surface] = {"right": sum(counts[surface] for counts in record.right.values()), **others}
    return told


def _right_since(record: Record) -> int:
    """How many right answers were asked for after everything that ended otherwise."""
    last = max((outcome.begin for outcome in record.others), default=0.0)
    return sum(counts.total() for second, counts in record.right.items() if second > last)


def _memory(record: Record, begin: float, end: float) -> dict[str, float]:
    """The median of the first quarter of the run and of the last."""
    quarter = (end - begin) / 4
    first = [mb for moment, mb in record.memory_mb if moment < begin + quarter]
    last = [mb for moment, mb in record.memory_mb if moment > end - quarter]
    if not first or not last:
        return {}
    return {
        "first_quarter": round(median(first), 1),
        "last_quarter": round(median(last), 1),
        "seconds": round(end - begin, 1),
        "growth": round(median(last) / median(first) - 1, 4),
    }


def _examples(record: Record, outside: Sequence[Outcome]) -> dict[str, list[str]]:
    """What was said, of each kind that is worth reading."""
    told: dict[str, list[str]] = {}
    worst = [outcome for outcome in record.others if outcome.kind not in CLEAN | {Kind.DISCONNECTED}]
    for outcome in (*worst, *outside):
        said = told.setdefault(outcome.kind.value, [])
        if len(said) < EXAMPLES:
            said.append(f"{outcome.surface}: {outcome.said}")
    return told
