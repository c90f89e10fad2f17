"""The tables of docs/browser.md, from `results/browser.json` and `results/web-memory.json`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from conch_export import BrowserPlan, Precision
from conch_export.planning.memory import Footprint, HeadFootprint

from benchmarks.markdown import table

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

RESULTS = Path(__file__).parents[1] / "results"
LABELS = {"single": "one text of {} tokens", "mixed": "{} texts of mixed lengths"}


def block() -> str:
    """Return what is measured, and where."""
    return "\n".join([*_loading(_read("browser.json").get("loading")), *_speed(_read("browser.json").get("speed"))])


def memory() -> str:
    """Return the memory, time and agreement of long texts."""
    result = _read("web-memory.json")
    if not result:
        return "Not measured yet: `python -m benchmarks.browser memory` does."
    head = (
        *("shape", "precision", "tokens", "threads", "WebAssembly MB (plan)", "page MB (plan)"),
        *("seconds", "cosine", "difference"),
    )
    unmeasured = list(_unmeasured(result["rows"]))
    rows = sorted([*map(_memory_row, result["rows"]), *unmeasured], key=_order)
    told = ["", "Rows with numbers in brackets alone were planned and not measured."] if unmeasured else []
    return "\n".join([*table(head, rows), *told, "", _where(result)])


def planned(row: dict[str, Any]) -> BrowserPlan:
    """Return what the plan knows of a row's model, to be planned by the constants of today."""
    stated = row["plan"]
    heads = tuple(HeadFootprint(**head) for head in stated["heads"])
    facts = {"precision": Precision(stated["precision"]), "encoder": Footprint(**stated["encoder"]), "heads": heads}
    return BrowserPlan(**{**stated, **facts})


def _loading(result: dict[str, Any] | None) -> Iterator[str]:
    if result is None:
        yield "Loading is not measured yet: `python -m benchmarks.browser loading` does."
        return
    cold, cached = (result[name]["first_vector_s"]["median"] for name in ("cold", "cached"))
    yield (
        f"From the import of the module to the first vector of all-MiniLM-L6-v2 in int8, served by the gateway on the "
        f"same machine: {cold:.1f} s in a new browser, {cached:.1f} s in one that has been there before (medians of "
        f"{result['rounds']})."
    )
    yield from ("", _where(result), "")


def _speed(result: dict[str, Any] | None) -> Iterator[str]:
    if result is None:
        yield "Speed is not measured yet: `python -m benchmarks.browser speed` does."
        return
    version = result["versions"]["transformers.js itself"]
    yield (
        f"Tokens a second beside transformers.js {version}, in one page, in turns, on the same texts, both with "
        "WebAssembly. It has the same checkpoint as optimum exports and quantizes it, and its own onnxruntime-web "
        f"{result['versions']['transformers.js onnxruntime-web']}."
    )
    yield ""
    labels = {load: LABELS[load].format(result["tokens" if load == "single" else "texts"][load]) for load in LABELS}
    head = ("precision", "threads", *(f"{label}: conch-web, transformers.js, ratio" for label in labels.values()))
    yield from table(head, (_speed_row(row, labels) for row in result["rows"]))
    yield from ("", _where(result))


def _speed_row(row: dict[str, Any], loads: Iterable[str]) -> tuple[str, ...]:
    ours, theirs = (row["tokens_per_s"][name] for name in ("conch-web", "transformers.js"))
    cells = (f"{ours[load]:,.0f}, {theirs[load]:,.0f}, {row['ratio'][load]:.1f}" for load in loads)
    return row["precision"], str(row["threads"]), *cells


def _memory_row(row: dict[str, Any]) -> tuple[str, ...]:
    budget = planned(row).budget(row["tokens"])
    compared = ((row["wasm_bytes_peak"], budget.heap), (row["process_bytes_peak"], budget.total))
    megabytes = (f"{measured / 1e6:,.0f} ({plan / 1e6:,.0f})" for measured, plan in compared)
    numbers = (f"{row['seconds']:.1f}", f"{row['cosine']:.6f}", f"{row['largest_difference']:.0e}")
    return row["shape"], row["precision"], f"{row['tokens']:,}", str(row["threads"]), *megabytes, *numbers


def _unmeasured(rows: Iterable[dict[str, Any]]) -> Iterator[tuple[str, ...]]:
    """Rows for the longest texts of models whose longest one was not measured."""
    longest = {(row["shape"], row["precision"]): row for row in sorted(rows, key=lambda row: row["tokens"])}
    for (shape, precision), row in longest.items():
        plan = planned(row)
        if row["tokens"] < plan.length:
            budget = plan.budget(plan.length)
            megabytes = (f"({count / 1e6:,.0f})" for count in (budget.heap, budget.total))
            yield shape, precision, f"{plan.length:,}", "", *megabytes, "", "", ""


def _order(row: tuple[str, ...]) -> tuple[str, str, int]:
    return row[0], row[1], int(row[2].replace(",", ""))


def _where(result: dict[str, Any]) -> str:
    machine, versions = result["machine"], result["versions"]
    browser = f"Chromium {versions['chromium'].split('.')[0]}, onnxruntime-web {versions['onnxruntime-web']}"
    cores = f"{machine['cores']} cores ({machine['cpu']}) with a load of {machine['load_before']:.1f} when it began"
    return f"`{result['command']}` on {result['date'][:10]}: {browser}, {cores}."


def _read(name: str) -> dict[str, Any]:
    path = RESULTS / name
    found: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.exists() else {}
    return found
