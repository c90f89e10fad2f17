"""What pages say of corpora, generated from the results: the seed's job, throughput, kills and the cluster."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

RESULTS = Path(__file__).parents[1] / "results"
SLOWEST = "transformers, batches of 16"
OURS, OURS_FP32 = "conch embed", "conch embed, fp32"
LABELS = {
    "embed": "**`conch embed`**, int8, from Parquet to Parquet",
    "graphs": "its graphs alone, texts tokenised and sorted before the clock runs",
    "gateway": "conch's gateway, int8, 4 clients that send lists of 64 texts",
    "sentence-transformers-torch": "sentence-transformers `encode`, torch fp32",
    "sentence-transformers-int8": "sentence-transformers `encode`, ONNX int8, a process for each core",
    "infinity": "infinity `embed`, ONNX int8",
}


def seed_job(*, whole: bool = False) -> str:
    """The job that conch was made for, as a table; `whole` with every way that was measured."""
    result = _read("seed-job")
    if result is None:
        return "The first job has not been measured yet: `python -m benchmarks.corpora.seed_job` does that."
    ways = {name: way for name, way in result["ways"].items() if whole or name != OURS_FP32}
    lines = ["| 2,587 chunks of about 850 tokens | seconds a chunk | hours in all | times as fast |"]
    lines.append("| --- | ---: | ---: | ---: |")
    for name, way in ways.items():
        label = f"`{OURS}`{name.removeprefix(OURS)}" if name.startswith(OURS) else f"{name}, fp32"
        ratio = ways[SLOWEST]["seconds_per_chunk"] / way["seconds_per_chunk"]
        lines.append(f"| {label} | {way['seconds_per_chunk']:.2f} | {way['hours_in_all']:.2f} | {ratio:.1f} |")
    samples = ", ".join(str(way["sample"]) for way in ways.values())
    about = (
        "nomic-embed-text-v1.5's true shape with random weights; transformers pads to the longest of a batch. Measured "
        f"on samples of {samples} chunks, in this order; hours are for all. {_where(result)}"
    )
    return "\n".join([*lines, "", about])


def throughput() -> str:
    """`conch embed` beside other ways, as a table, and what was killed."""
    result = _read("corpus")
    if result is None:
        return "Not measured yet: `python -m benchmarks.corpora.throughput` does."
    lines = [f"| {result['texts']:,} docstrings, all-MiniLM-L6-v2 | tokens per second |", "| --- | ---: |"]
    for name, label in LABELS.items():
        found = result["systems"].get(name)
        if found is not None:
            lines.append(f"| {label} | {_rate(found)} |")
    return "\n".join([*lines, "", *_notes(result)])


def measured() -> str:
    """All that was measured, for the page about corpora."""
    return "\n\n".join([throughput(), *_killed(), *_cluster(), seed_job(whole=True)])


def _notes(result: dict[str, Any]) -> Iterator[str]:
    embed = result["systems"]["embed"]
    memory = " ".join(f"{size:.0f}" for size in embed["actor_memory_mb_by_quarter"])
    yield (
        f"{embed['tokens']:,} tokens in {embed['seconds']:.0f} s, {embed['of_graphs']:.0%} of the graphs' rate; with "
        f"planning and Ray's start and end {embed['command_seconds']:.0f} s. Memory of the larger process in the "
        f"quarters of the run: {memory} MB. Others compute the first 4,096 texts for some seconds. {_where(result)}"
    )


def _killed() -> Iterator[str]:
    result = _read("corpus-kills")
    if result is not None:
        differing = sum(len(each["differing_files"]) for each in result["outputs"])
        yield (
            f"Killed at {result['kills']} random moments and run again ({len(result['outputs'])} outputs of "
            f"{result['texts']:,} texts): {differing} files differ from those of a run that nobody disturbed "
            f"(`{result['command']}`, {result['date'][:10]})."
        )


def _cluster() -> Iterator[str]:
    result = _read("corpus-cluster")
    if result is not None:
        rates = ", ".join(f"{name} {run['tokens_per_s']:,.0f} tokens/s" for name, run in result["runs"].items())
        killed = result["killed"]
        yield (
            f"On a Ray cluster of nodes of one core each on this machine: {rates}. With one of two nodes killed in "
            f"the middle {killed['rows_lost']} rows are lost and {killed['rows_doubled']} doubled; "
            f"{len(result['outputs_that_differ'])} outputs differ (`{result['command']}`, {result['date'][:10]})."
        )


def _rate(found: dict[str, Any]) -> str:
    if "not_measured" in found:
        return "not measured"
    return f"{round(found['tokens_per_s'], -2):,.0f}".replace(",", " ")


def _where(result: dict[str, Any]) -> str:
    machine = result["machine"]
    return f"{machine['cores']} cores ({machine['cpu']}), `{result['command']}`, {result['date'][:10]}."


def _read(name: str) -> dict[str, Any] | None:
    path = RESULTS / f"{name}.json"
    found: dict[str, Any] | None = json.loads(path.read_text("utf-8")) if path.exists() else None
    return found
