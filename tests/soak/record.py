"""What was seen during a run, moment by moment; moments are those of the machine's monotonic clock."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from tests.soak.outcomes import Kind


@dataclass(frozen=True)
class Outcome:
    """A question that was not answered rightly: when it was asked, when that was known, and what was said instead."""

    surface: str
    kind: Kind
    begin: float
    end: float
    said: str


@dataclass
class Strike:
    """A fault that happened: when it began, when it was mended, and what the log says of it meanwhile."""

    fault: str
    begin: float
    mended: float = 0.0
    trouble: str = ""
    log: list[str] = field(default_factory=list)


@dataclass
class Record:
    """Everything that was seen.

    Attributes:
        surfaces: names of what was asked.
        right: counts of right answers, by the second in which they were asked for and by surface.
        slowest_s: the slowest right answer of a second, in seconds.
        others: what was not answered rightly.
        strikes: the faults, in order.
        left_out: why a fault did not happen, by its name.
        late_s: how late the load asked, by percentile.
        memory_mb: moments and MB of the deployment.
    """

    surfaces: list[str] = field(default_factory=list)
    right: dict[int, Counter[str]] = field(default_factory=dict)
    slowest_s: dict[int, float] = field(default_factory=dict)
    others: list[Outcome] = field(default_factory=list)
    strikes: list[Strike] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    late_s: dict[str, float] = field(default_factory=dict)
    memory_mb: list[tuple[float, float]] = field(default_factory=list)

    def take(self, event: dict[str, Any]) -> None:
        """Take an event of the load."""
        if event["event"] == "known":
            self.surfaces = event["surfaces"]
        elif event["event"] == "late":
            self.late_s = {"p50": round(event["p50_s"], 4), "p99": round(event["p99_s"], 4)}
        elif event["event"] == "right":
            self.right.setdefault(event["second"], Counter()).update(event["counts"])
            self.slowest_s[event["second"]] = event["slowest_s"]
        else:
            fields = {name: event[name] for name in ("surface", "begin", "end", "said")}
            self.others.append(Outcome(kind=Kind(event["kind"]), **fields))

    def count(self, *kinds: Kind) -> int:
        """How many outcomes are of these kinds."""
        return sum(outcome.kind in kinds for outcome in self.others)

    def rights(self) -> int:
        """How many answers were right."""
        return sum(counts.total() for counts in self.right.values())
