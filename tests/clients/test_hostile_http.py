"""Twenty thousand hostile HTTP requests against `conch serve`; `results/hostile-http.json` keeps what came of them."""

from __future__ import annotations

import json
from datetime import date
from time import perf_counter
from typing import TYPE_CHECKING

from benchmarks.machine import machine, revision, versions
from tests.clients.conftest import ROOT
from tests.hostile.http_run import attack
from tests.serving import Serving

if TYPE_CHECKING:
    from pathlib import Path

COUNT, SEED = 20_800, 20
RESULT = ROOT / "benchmarks" / "results" / "hostile-http.json"


async def test_nothing_breaks_nothing_is_smuggled_and_neighbours_notice_nothing(tmp_path: Path) -> None:
    measured = revision()
    with Serving(ROOT / "model_repository", tmp_path) as serving:
        family, said = {process.pid for process in serving.family}, len(serving.said)
        started, before = perf_counter(), serving.family[0].memory_info().rss
        outcome = await attack(serving.url, COUNT, SEED)
        seconds, after = perf_counter() - started, serving.family[0].memory_info().rss
        survivors, logged = {process.pid for process in serving.family}, serving.said[said:]

    told = {
        "command": "python -m pytest tests/clients/test_hostile_http.py",
        "date": date.today().isoformat(),
        **measured,
        "machine": machine(),
        "versions": versions(),
        "seed": SEED,
        "seconds": round(seconds, 1),
        "requests": dict(outcome.attacks),
        "answers_by_status": {str(status): count for status, count in sorted(outcome.statuses.items())},
        "answers_of_5xx": sum(count for status, count in outcome.statuses.items() if status >= 500),
        "faults": len(outcome.faults),
        "processes_that_ended": len(family - survivors),
        "checked_answers_to_neighbours": outcome.neighbours,
        "gateway_resident_mb": [round(before / 1e6, 1), round(after / 1e6, 1)],
    }
    print(json.dumps(told))
    assert not outcome.faults, "\n".join(outcome.faults[:10])
    assert outcome.attacks.total() == COUNT
    assert outcome.neighbours > 1_000
    assert survivors == family
    assert logged == ""  # what strangers send is no reason to log
    RESULT.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
