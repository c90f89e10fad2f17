"""The part of the benchmark page about models of true size, generated from `results/sizes.json`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

RESULT = Path(__file__).parents[1] / "results" / "sizes.json"
PRECISIONS = ("fp32", "int8")
FP32_PEERS = {"sentence-transformers": "torch", "onnxruntime": "O2"}
INT8_PEERS = {"onnxruntime-int8": "O2 int8", "openvino": "OpenVINO", "infinity": "infinity"}
TITLE = "## Models of true size"
NONE = f"{TITLE}\n\nNot measured yet: `make bench-sizes` does, and `make docs` puts it here.\n"
INTRODUCTION = """\
`make bench-sizes` measures models with the configuration, element type, files and size of tokenizer that they were
published with, and random weights. MB are 10^6 bytes; memory in service is that of all processes, each page once (PSS),
after every instance has computed 512 tokens, and in brackets what `conch plan` says before the export."""


def block() -> str:
    """The part of the page: exports, services, and both beside their peers."""
    if not RESULT.exists():
        return NONE
    result = json.loads(RESULT.read_text("utf-8"))
    shapes: dict[str, dict[str, Any]] = result["shapes"]
    parts = [
        TITLE,
        "",
        INTRODUCTION,
        "",
        *_exports(shapes),
        "",
        *_services(shapes),
        "",
        *_peers(shapes),
        "",
        *_notes(shapes),
    ]
    return "\n".join([*parts, _about(result)]) + "\n"


def _exports(shapes: Mapping[str, dict[str, Any]]) -> Iterator[str]:
    heads = (
        "export",
        "checkpoint",
        "precision",
        "time",
        "peak memory (planned)",
        "on disk",
        "mean cosine or correlation",
    )
    yield from _table(heads, (row for name, shape in shapes.items() for row in _export_rows(name, shape)))


def _export_rows(name: str, shape: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    checkpoint = f"{_mb(shape['checkpoint']['weights_mb'])} {shape['checkpoint']['dtype']}"
    for precision in PRECISIONS:
        export, plan = shape[precision]["export"], shape[precision]["plan_2"]
        if "failed" in export:
            yield name, checkpoint, precision, f"failed: {export['failed']}", "", "", ""
            continue
        measured = export["verification"]
        fidelity = measured.get("mean_cosine") or measured.get("rank_correlation")
        needed, mapped = (plan.get(key, {}).get(precision, 0) for key in ("export_mb", "export_mapped_mb"))
        peak = f"{_mb(export['peak_mb'])} ({_mb(needed + mapped)})"
        yield name, checkpoint, precision, f"{export['seconds']:.0f} s", peak, _mb(export["disk_mb"]), f"{fidelity:.4f}"


def _services(shapes: Mapping[str, dict[str, Any]]) -> Iterator[str]:
    heads = (
        *("service", "precision", "ready", "memory, 2 instances", "8 instances", "of which the gateway"),
        *("1 short text", "1 of 512 tokens", "1 of the longest", "32 clients, mixed, tokens/s"),
    )
    yield from _table(heads, (row for name, shape in shapes.items() for row in _service_rows(name, shape)))


def _service_rows(name: str, shape: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    for precision in PRECISIONS:
        found = shape[precision]
        serve, many = found.get("serve", {}), found.get("serve_many", {})
        if "memory_mb" not in serve:
            continue
        latency = serve["latency_ms"]
        longest = f"{_ms(latency['longest'])} ({shape['longest']:,})" if "longest" in latency else ""
        yield (
            *(name, precision, f"{serve['ready_s']:.1f} s"),
            f"{_pss(serve)}{_planned(found['plan_2'], 'total_mb')}",
            f"{_mb(many['memory_mb']['pss'])}{_planned(found['plan_8'], 'total_mb')}"
            if "memory_mb" in many
            else "failed",
            _mb(serve["memory_mb"]["gateway"]),
            *(_ms(latency["short"]), _ms(latency["middle"]), longest),
            f"{serve['mixed']['tokens_per_s']:,.0f}",
        )


def _peers(shapes: Mapping[str, dict[str, Any]]) -> Iterator[str]:
    heads = (
        "mixed, tokens/s (512 tokens alone)",
        *("conch fp32", *FP32_PEERS.values()),
        *("conch int8", *INT8_PEERS.values(), "conch int8 to the best int8 peer"),
    )
    yield from _table(heads, (_peer_row(name, shape) for name, shape in shapes.items() if "peers" in shape))


def _peer_row(name: str, shape: Mapping[str, Any]) -> tuple[str, ...]:
    peers = shape["peers"]
    fp32, int8 = (shape[precision].get("serve", {}) for precision in PRECISIONS)
    best = max(
        (peers[peer]["mixed"]["tokens_per_s"] for peer in INT8_PEERS if "mixed" in peers.get(peer, {})), default=0
    )
    ratio = f"{int8['mixed']['tokens_per_s'] / best:.2f}" if best and "mixed" in int8 else ""
    return (
        *(name, _speed(fp32), *(_speed(peers.get(peer, {})) for peer in FP32_PEERS)),
        *(_speed(int8), *(_speed(peers.get(peer, {})) for peer in INT8_PEERS), ratio),
    )


def _notes(shapes: Mapping[str, dict[str, Any]]) -> Iterator[str]:
    """Why peers are not in the table, each reason once."""
    reasons: dict[str, list[str]] = {}
    for name, shape in shapes.items():
        for peer, found in shape.get("peers", {}).items():
            if "not_measured" in found:
                reasons.setdefault(found["not_measured"], []).append(f"{peer} with {name}")
    for reason, which in reasons.items():
        yield f"Not measured: {', '.join(which)}: {reason}.\n"


def _about(result: Mapping[str, Any]) -> str:
    machine = result["machine"]
    dates = sorted(shape["date"][:10] for shape in result["shapes"].values())
    where = f"{machine['cores']} cores ({machine['cpu']}), {machine['memory_gib']} GiB, {dates[0]} to {dates[-1]}"
    return f"{where}, measured with `{result['command']}`; [raw numbers](../benchmarks/results/sizes.json)."


def _speed(found: Mapping[str, Any]) -> str:
    if "mixed" not in found:
        return ""
    return f"{found['mixed']['tokens_per_s']:,.0f} ({_ms(found['latency_ms']['middle'])})"


def _pss(found: Mapping[str, Any]) -> str:
    return _mb(found["memory_mb"]["pss"]) if "memory_mb" in found else "failed"


def _planned(plan: Mapping[str, Any], key: str) -> str:
    return f" ({_mb(plan[key])})" if key in plan else ""


def _mb(megabytes: float) -> str:
    return f"{megabytes:,.0f} MB"


def _ms(milliseconds: float) -> str:
    return f"{milliseconds / 1000:.1f} s" if milliseconds >= 10_000 else f"{milliseconds:,.0f} ms"


def _table(heads: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    for cells in (heads, ("---",) * len(heads), *rows):
        yield f"| {' | '.join(cells)} |"
