"""The tables of docs/replicas.md, from `results/replicas.json`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.markdown import table

if TYPE_CHECKING:
    from collections.abc import Iterator

RESULT = Path(__file__).parent / "results" / "replicas.json"


def block() -> str:
    """Return both tables, and where they were measured."""
    if not RESULT.exists():
        return "Not measured yet: `python benchmarks/replicas.py` does, and `make docs` writes the tables here."
    return "\n".join(_lines(json.loads(RESULT.read_text(encoding="utf-8"))))


def _lines(result: dict[str, Any]) -> Iterator[str]:
    parts, machine, clients = result["parts"], result["machine"], result["clients"]
    runs, cost = parts["stand-ins"]["runs"], parts["stand-ins"]["cost"]
    yield (
        f"{clients} clients in a closed loop on stand-ins that do one call after another in {result['call_ms']:g} ms; "
        "a slow one takes five times as long, and one is stopped (`SIGSTOP`) or killed after a third of the time."
    )
    yield ""
    head: tuple[str, ...] = ("servers", "choice", "calls/s", "p50 ms", "p99 ms", "longest ms", "failed")
    yield from table(head, map(_run, runs))
    yield ""
    yield (
        f"A single call through eight addresses takes {cost['eight_ms']:.2f} ms at the median, through one "
        f"{cost['one_ms']:.2f} ms, to servers that answer at once."
    )
    yield ""
    if tritons := parts.get("tritons"):
        yield (
            f"Three embedded Tritons behind one gateway, {clients} clients, each answer compared with its known "
            f"vectors: {tritons['requests']} requests in {tritons['seconds']:.0f} s, {tritons['wrong']} wrong, "
            f"{tritons['failed']} failed."
        )
        yield ""
        head = ("meanwhile", "requests", "p50 ms", "p99 ms", "longest ms", "out after s")
        yield from table(head, map(_step, tritons["steps"]))
        yield ""
    others = max(run["others_cores"] for run in [*runs, *parts.values()] if "others_cores" in run)
    yield (
        f"Measured with {_commands(parts)}: {machine['cores']} cores ({machine['cpu']}), of which other work took up "
        f"to {others:.1f}; grpcio {result['versions']['grpcio']}."
    )


def _commands(parts: dict[str, Any]) -> str:
    return " and ".join(f"`{part['command']}` on {part['date'][:10]}" for part in parts.values())


def _run(run: dict[str, Any]) -> tuple[str, ...]:
    times = (f"{run[name]:.0f}" for name in ("calls_per_s", "p50_ms", "p99_ms", "max_ms"))
    return run["scenario"], run["policy"], *times, str(run["failed"])


def _step(step: dict[str, Any]) -> tuple[str, ...]:
    times = (f"{step[name]:.0f}" for name in ("p50_ms", "p99_ms", "max_ms"))
    out = "" if step["out_after_s"] is None else f"{step['out_after_s']:.1f}"
    return step["step"], str(step["requests"]), *times, out
