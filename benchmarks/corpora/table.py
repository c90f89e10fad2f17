"""What pages say of corpora, generated from the results: long chunks for README, the rest for the page about corpora.

Each result may be there in parts, measured on any number of cores.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.markdown import table

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    Found = Mapping[str, Any]
    """A result, or a part of one."""

RESULTS = Path(__file__).parents[1] / "results"
SLOWEST = "transformers, batches of 16"
OURS = "conch embed"
LABELS = {
    "embed": "**`conch embed`**, int8, from Parquet to Parquet",
    "graphs": "its graphs alone, texts tokenised and sorted before the clock runs",
    "gateway": "conch's gateway, int8, 4 clients that send lists of 64 texts",
    "sentence-transformers-torch": "sentence-transformers `encode`, torch fp32",
    "sentence-transformers-int8": "sentence-transformers `encode`, ONNX int8, a process for each core",
    "infinity": "infinity `embed`, ONNX int8",
}


def long_chunks() -> str:
    """A table of the times of `conch embed` and transformers for long chunks."""
    result = _read("long-chunks")
    if result is None:
        return "Not measured yet: `python -m benchmarks.corpora.long_chunks` does that."
    ways = result["ways"]
    head = ("a corpus of 2,587 chunks of about 850 tokens", "seconds a chunk", "hours in all", "times as fast")
    rows = []
    for name, way in ways.items():
        label = f"`{OURS}`{name.removeprefix(OURS)}" if name.startswith(OURS) else f"{name}, fp32"
        ratio = ways[SLOWEST]["seconds_per_chunk"] / way["seconds_per_chunk"]
        rows.append((label, f"{way['seconds_per_chunk']:.2f}", f"{way['hours_in_all']:.2f}", f"{ratio:.1f}"))
    samples = ", ".join(str(way["sample"]) for way in ways.values())
    about = (
        "nomic-embed-text-v1.5's true shape with random weights; transformers pads to the longest of a batch. Measured "
        f"on samples of {samples} chunks, in this order; hours are for all. {_where([result])}"
    )
    return "\n".join([*table(head, rows, numbers=True), "", about])


def measured() -> str:
    """What was measured of short texts, kills and clusters, for the page about corpora."""
    blocks = [throughput(_read("corpus")), *killed(_read("corpus-kills")), *cluster(_read("corpus-cluster"))]
    return "\n\n".join(blocks)


def throughput(result: Found | None) -> str:
    """`conch embed` beside other ways, as a table."""
    if result is None:
        return "Not measured yet: `python -m benchmarks.corpora.throughput` does."
    parts = dict(result["parts"])
    if "graphs" in parts.get("embed", {}):
        parts["graphs"] = parts["embed"]["graphs"]
    head = (f"{result['texts']:,} docstrings, all-MiniLM-L6-v2", "tokens per second")
    rows = ((label, _rate(parts[name])) for name, label in LABELS.items() if name in parts)
    lines = table(head, rows, numbers=True)
    about = [*_embedding(parts.get("embed", {})), "The gateway and other libraries compute the first 4,096 texts."]
    return "\n".join([*lines, "", " ".join([*about, _where(_measured(result))])])


def killed(result: Found | None) -> Iterator[str]:
    """What became of runs that were killed."""
    if result is not None:
        outputs = [output for part in result["parts"].values() for output in part["outputs"]]
        differing = sum(len(output["differing_files"]) for output in outputs)
        kills = sum(part["kills"] for part in result["parts"].values())
        yield (
            f"Killed at {kills} random moments and run again ({len(outputs)} outputs of {result['texts']:,} texts): "
            f"{differing} files differ from those of a run that nobody disturbed. {_where(_measured(result))}"
        )


def cluster(result: Found | None) -> Iterator[str]:
    """How fast nodes are together, and what became of a run one of whose nodes was killed."""
    if result is not None:
        runs = [part for name, part in result["parts"].items() if name != "killed"]
        runs.sort(key=lambda run: int(run["nodes"]))
        rates = ", ".join(f"{run['nodes']} with {run['tokens_per_s']:,.0f} tokens/s" for run in runs)
        differing = sum(len(part["differing_files"]) for part in result["parts"].values())
        yield " ".join([
            f"Nodes of a Ray cluster, of one core each on this machine: {rates}.",
            *_death(result["parts"].get("killed")),
            f"{differing} files differ. {_where(_measured(result))}",
        ])  # fmt: skip


def _embedding(embed: Found) -> Iterator[str]:
    if "tokens" in embed:
        memory = " ".join(f"{size:.0f}" for size in embed["actor_memory_mb_by_quarter"])
        yield (
            f"{embed['tokens']:,} tokens in {embed['seconds']:.0f} s, {embed['of_graphs']:.0%} of the graphs' rate "
            f"({_around(embed['graphs'])}); "
            f"with planning and the processes' start and end {embed['command_seconds']:.0f} s. Memory of the largest "
            f"process in the quarters of the run: {memory} MB."
        )


def _around(graphs: Found) -> str:
    before, after = (graphs[when]["tokens_per_s"] for when in ("before", "after"))
    return f"{before:,.0f} tokens/s just before the run, {after:,.0f} just after it"


def _death(killed: Found | None) -> Iterator[str]:
    if killed is not None:
        yield (
            f"With one of {killed['nodes']} killed after a third of the rows {killed['rows_lost']} rows are lost and "
            f"{killed['rows_doubled']} doubled."
        )


def _rate(found: Found) -> str:
    if "not_measured" in found:
        return "not measured"
    return f"{round(found['tokens_per_s'], -2):,.0f}".replace(",", " ")


def _measured(result: Found) -> list[Found]:
    return [part["measured"] for part in result["parts"].values()]


def _where(measured: Iterable[Found]) -> str:
    """Machines, commands and dates, each once."""
    places = (
        f"{each['machine']['cores']} cores ({each['machine']['cpu']}), `{each['command']}`, {each['date'][:10]}"
        for each in measured
    )
    return f"{'; '.join(dict.fromkeys(places))}."


def _read(name: str) -> Found | None:
    path = RESULTS / f"{name}.json"
    found: Found | None = json.loads(path.read_text("utf-8")) if path.exists() else None
    return found
