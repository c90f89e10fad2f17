"""Measures conch-web in Chromium without a screen.

    python -m benchmarks.browser prepare   exports, checkpoints, and transformers.js with optimum's export
    python -m benchmarks.browser loading   the first vector, after a cold load and from the browser's cache
    python -m benchmarks.browser speed     tokens a second on one thread and on two, beside transformers.js
    python -m benchmarks.browser memory    of texts of up to 8,192 tokens, and whether their vectors are the server's

Each part is written into `results/browser.json`, the last one into `results/web-memory.json`; docs/browser.md shows
both.
"""

from __future__ import annotations

import argparse
import datetime
import json
import sys
from typing import TYPE_CHECKING, Any

from benchmarks import machine
from benchmarks.browser import loading, memory, prepared, speed

if TYPE_CHECKING:
    from pathlib import Path

RESULTS = machine.ROOT / "benchmarks" / "results"
PARTS = {"loading": loading.measure, "speed": speed.measure, "memory": memory.measure}


def main() -> None:
    """Measure one part, and write it down."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["prepare", *PARTS])
    parser.add_argument("--only", nargs="*", help="of memory: rows such as jina-small-int8-8192")
    options = parser.parse_args()
    files = prepared.prepare(machine.ROOT / ".run" / "browser")
    if options.part == "prepare":
        return
    more = {"only": options.only} if options.only else {}
    found = {
        "command": f"python -m benchmarks.browser {options.part}",
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "git": machine.revision(),
        "machine": machine.machine(),
        "versions": prepared.versions(),
        **PARTS[options.part](files, **more),
    }
    if options.part == "memory":
        _write(RESULTS / "web-memory.json", _with_earlier_rows(RESULTS / "web-memory.json", found))
    else:
        path = RESULTS / "browser.json"
        _write(path, {**(json.loads(path.read_text("utf-8")) if path.exists() else {}), options.part: found})
    json.dump(found, sys.stdout, indent=1)


def _with_earlier_rows(path: Path, found: dict[str, Any]) -> dict[str, Any]:
    """The result with rows that were measured before and are not among its own."""
    earlier = json.loads(path.read_text("utf-8"))["rows"] if path.exists() else []
    names = {memory.name_of(row) for row in found["rows"]}
    rows = [*(row for row in earlier if memory.name_of(row) not in names), *found["rows"]]
    order = ("shape", "precision", "threads", "tokens")
    return {**found, "rows": sorted(rows, key=lambda row: [row[field] for field in order])}


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
