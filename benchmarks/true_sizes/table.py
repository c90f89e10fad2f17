"""The part of the benchmark page about models of true size, generated from `results/sizes.json`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.markdown import table

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

RESULT = Path(__file__).parents[1] / "results" / "sizes.json"
PRECISIONS = ("fp32", "int8")
FP32_PEERS = {"sentence-transformers": "torch", "onnxruntime": "O2"}
INT8_PEERS = {"onnxruntime-int8": "O2 int8", "openvino": "OpenVINO", "infinity": "infinity"}
TITLE = "## Models of true size"
NONE = f"{TITLE}\n\nNot measured yet: `make bench-sizes` does, and `make docs` puts it here.\n"
INTRODUCTION = """\
`make bench-sizes` measures models with the configuration, element type, files and size of tokenizer that they were
published with, and random weights. MB are 10^6 bytes."""
EXPORTS = """\
An export's peak is what it takes of its own, in brackets what `conch plan` says before it; then in sizes of the
checkpoint's weights in fp32; then with the files that it maps, whose pages the kernel drops where memory is short."""
SERVICES = """\
Memory in service is that of all processes, each page once (PSS), after every instance has computed 512 tokens, and in
brackets what `conch plan` says before the export."""
PEERS = """\
Tokens per second of mixed lengths (median 40, up to 512), 32 clients or 32 texts a call, in turns; in brackets one text
of 512 tokens alone."""


def block() -> str:
    """The part of the page: exports, services, and both beside their peers."""
    if not RESULT.exists():
        return NONE
    result = json.loads(RESULT.read_text("utf-8"))
    shapes: dict[str, dict[str, Any]] = result["shapes"]
    parts = [TITLE, INTRODUCTION]
    for explained, lines in ((EXPORTS, _exports), (SERVICES, _services), (PEERS, _peers)):
        parts += [explained, "\n".join(lines(shapes))]
    return "\n\n".join([*parts, *_notes(shapes), _about(result)]) + "\n"


def _exports(shapes: Mapping[str, dict[str, Any]]) -> Iterator[str]:
    heads = (
        *("export", "checkpoint", "precision", "time (processor)", "peak (planned)", "of the weights"),
        *("with mapped files", "on disk", "mean cosine or rank correlation"),
    )
    yield from table(heads, (row for name, shape in shapes.items() for row in _export_rows(name, shape)))


def _export_rows(name: str, shape: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    for precision in PRECISIONS:
        found = shape.get(precision, {})
        export, plan = found.get("export"), found.get("plan_export", {})
        if export is None:
            continue
        about = (name, f"{_mb(shape['checkpoint']['weights_mb'])} {shape['checkpoint']['dtype']}", precision)
        if "failed" in export:
            yield *about, f"failed: {export['failed']}", "", "", "", "", ""
            continue
        fidelity = export["verification"].get("mean_cosine") or export["verification"].get("rank_correlation")
        own = export["peak_anonymous_mb"]
        planned = _planned(plan.get("export_mb", {}), precision)
        took = f"{export['seconds']:.0f} s ({export['cpu_seconds']:.0f})"
        times = own / (4e-6 * shape["checkpoint"]["parameters"])
        yield (
            *(*about, took, f"{_mb(own)}{planned}", f"{times:.1f} x"),
            *(_mb(export["peak_mb"]), _mb(export["disk_mb"]), f"{fidelity:.4f}"),
        )


def _services(shapes: Mapping[str, dict[str, Any]]) -> Iterator[str]:
    heads = (
        *("service", "precision", "ready", "memory, 2 instances", "8 instances", "of which the gateway"),
        *("1 short text", "1 of 512 tokens", "1 of the longest", "32 clients, mixed, tokens/s"),
    )
    yield from table(heads, (row for name, shape in shapes.items() for row in _service_rows(name, shape)))


def _service_rows(name: str, shape: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    for precision in PRECISIONS:
        found = shape.get(precision, {})
        serve, many = found.get("serve", {}), found.get("serve_many", {})
        if "memory_mb" not in serve:
            continue
        latency = serve["latency_ms"]
        longest = f"{_ms(latency['longest'])} ({shape['longest']:,})" if "longest" in latency else ""
        yield (
            *(name, precision, f"{serve['ready_s']:.1f} s"),
            f"{_pss(serve)}{_planned(found.get('plan_2', {}), 'total_mb')}",
            f"{_pss(many)}{_planned(found.get('plan_8', {}), 'total_mb')}",
            *(_mb(serve["memory_mb"]["gateway"]), _ms(latency["short"]), _ms(latency["middle"]), longest),
            f"{serve['mixed']['tokens_per_s']:,.0f}",
        )


def _peers(shapes: Mapping[str, dict[str, Any]]) -> Iterator[str]:
    heads = (
        *("", "conch fp32", *FP32_PEERS.values(), "conch to the best fp32 peer"),
        *("conch int8", *INT8_PEERS.values(), "conch to the best int8 peer"),
    )
    compared = {name: shape for name, shape in shapes.items() if any(_rates(shape, each) for each in PRECISIONS)}
    yield from table(heads, (_peer_row(name, shape) for name, shape in compared.items()))


def _peer_row(name: str, shape: Mapping[str, Any]) -> tuple[str, ...]:
    cells = [name]
    for precision, peers in zip(PRECISIONS, (FP32_PEERS, INT8_PEERS), strict=True):
        found, rates = shape["peers"].get(precision, {}), _rates(shape, precision)
        latency = shape.get(precision, {}).get("serve", {}).get("latency_ms", {})
        cells.append(_speed(found.get("conch", {}) | {"latency_ms": latency}))
        cells += [_speed(found.get(peer, {})) for peer in peers]
        best = max((rate for peer, rate in rates.items() if peer != "conch"), default=0.0)
        cells.append(f"{rates['conch'] / best:.2f}" if best and "conch" in rates else "")
    return tuple(cells)


def _rates(shape: Mapping[str, Any], precision: str) -> dict[str, float]:
    """Tokens per second by system."""
    found = shape.get("peers", {}).get(precision, {})
    return {name: each["mixed"]["tokens_per_s"] for name, each in found.items() if "mixed" in each}


def _notes(shapes: Mapping[str, dict[str, Any]]) -> Iterator[str]:
    """What was noted of measurements, and why peers are not in the table, each reason once."""
    noted: dict[str, list[str]] = {}
    for name, shape in shapes.items():
        for part, measured in shape["measured"].items():
            if "note" in measured:
                noted.setdefault(measured["note"], []).append(f"{name} ({part})")
    for note, parts in noted.items():
        yield f"{', '.join(parts)}: {note}."
    reasons: dict[str, list[str]] = {}
    for name, shape in shapes.items():
        for systems in shape.get("peers", {}).values():
            for peer, found in systems.items():
                if "not_measured" in found:
                    reasons.setdefault(found["not_measured"], []).append(f"{peer} with {name}")
    for reason, which in reasons.items():
        yield f"Not measured: {', '.join(which)}: {reason}."


def _about(result: Mapping[str, Any]) -> str:
    """Where and when each shape was measured, and the command."""
    shapes: Mapping[str, dict[str, Any]] = result["shapes"]
    of_machines: dict[str, list[str]] = {}
    for name, shape in shapes.items():
        machine = shape["machine"]
        where = f"{machine['cores']} cores ({machine['cpu']}), {machine['memory_gib']} GiB"
        of_machines.setdefault(where, []).append(name)
    said = []
    for where, names in of_machines.items():
        dates = sorted(part["date"][:10] for name in names for part in shapes[name]["measured"].values())
        when = dates[0] if dates[0] == dates[-1] else f"{dates[0]} to {dates[-1]}"
        said.append(f"{', '.join(names)}: {where}, {when}.")
    command = f"Measured with `{result['command']}`; [raw numbers](../benchmarks/results/sizes.json)."
    return "\n".join([*said, command])


def _speed(found: Mapping[str, Any]) -> str:
    if "mixed" not in found:
        return ""
    alone = found["latency_ms"].get("middle")
    return f"{found['mixed']['tokens_per_s']:,.0f}" + (f" ({_ms(alone)})" if alone else "")


def _pss(found: Mapping[str, Any]) -> str:
    return _mb(found["memory_mb"]["pss"]) if "memory_mb" in found else "failed"


def _planned(plan: Mapping[str, Any], key: str) -> str:
    return f" ({_mb(plan[key])})" if key in plan else ""


def _mb(megabytes: float) -> str:
    return f"{megabytes:,.0f} MB"


def _ms(milliseconds: float | None) -> str:
    if milliseconds is None:
        return "not answered"
    return f"{milliseconds / 1000:.1f} s" if milliseconds >= 10_000 else f"{milliseconds:,.0f} ms"
