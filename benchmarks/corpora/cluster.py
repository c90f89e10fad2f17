"""`conch embed` on a Ray cluster of several nodes, one of which is killed in the middle; `results/corpus-cluster.json`.

    python -m benchmarks.corpora.cluster [--texts 12000] [--nodes 1 2 …]

The nodes are on this machine and have one core each: how fast one, two, four … of them are, as many as there are cores
and at least two; then the most of them, of which one dies when a third of the rows is there, with its process that
computes. Every output is compared with the first one.
"""

from __future__ import annotations

import argparse
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.dataset as ds
from conch_batch import Embedding, Job, Workers, run
from conch_contract import usable_cores
from ray.cluster_utils import Cluster

from benchmarks.corpora.docstrings import corpus
from benchmarks.corpora.kills import differing, files
from benchmarks.corpora.parts import Parts
from benchmarks.corpora.watching import Clock, timed
from benchmarks.machine import ROOT
from benchmarks.models import NAME

if TYPE_CHECKING:
    from conch_batch import Done

RESULT = ROOT / "benchmarks" / "results" / "corpus-cluster.json"
NODE: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 100 << 20}


class Killing(Clock):
    """Kills a node when a third of the rows is done."""

    def __init__(self, cluster: Cluster, node: Any) -> None:
        super().__init__()
        self._cluster, self._node = cluster, node

    def done(self, shard: Done) -> None:
        super().done(shard)
        if self._node and 3 * sum(done.rows for _, done in self.shards) >= self.rows:
            self._cluster.remove_node(self._node, allow_graceful=False)
            self._node = None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=12_000)
    parser.add_argument("--nodes", type=int, nargs="+", default=_counts(), help="how many, one after another")
    parser.add_argument("--folder", type=Path, default=ROOT / ".run" / "corpora-cluster")
    options = parser.parse_args()
    folder = options.folder.resolve() / str(options.texts)
    path = folder / "docstrings.parquet"
    if not path.exists():
        corpus(path, options.texts)
    # With the niceness of this process: Ray adds 15 otherwise.
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}
    parts = Parts(RESULT, "benchmarks.corpora.cluster", options.texts)
    cluster = Cluster(initialize_head=True, head_node_args={**NODE, "num_cpus": 0, "include_dashboard": False})
    try:
        _measure(cluster, sorted(options.nodes), path, parts)
    finally:
        cluster.shutdown()  # type: ignore[no-untyped-call]


def _counts() -> list[int]:
    most = max(2, usable_cores())
    return [1 << power for power in range(most.bit_length())]


def _measure(cluster: Cluster, counts: list[int], path: Path, parts: Parts) -> None:
    nodes: list[Any] = []
    workers = Workers(address=cluster.address)
    first = path.parent / f"nodes-{counts[0]}"
    for count in counts:
        nodes += [cluster.add_node(**NODE) for _ in range(count - len(nodes))]
        output = path.parent / f"nodes-{count}"
        found = timed(_job(path, output), workers)
        parts.add(output.name, {"nodes": count, **found, "differing_files": differing(files(output), files(first))})
    if len(nodes) < 2:  # somebody has to finish
        return
    job = _job(path, path.parent / "killed")
    killing = Killing(cluster, nodes[0])
    run(job, workers, killing)
    ids = ds.dataset(job.output, format="parquet").to_table(columns=["id"])["id"].to_pylist()
    killed = {
        "nodes": len(nodes),
        "seconds": round(max(at for at, _ in killing.shards), 1),
        "rows_lost": killing.rows - len(set(ids)),
        "rows_doubled": len(ids) - len(set(ids)),
        "shards_told_twice": len(killing.shards) - len({(done.repeated, done.shard) for _, done in killing.shards}),
        "differing_files": differing(files(Path(job.output)), files(first)),
    }
    parts.add("killed", killed)


def _job(path: Path, output: Path) -> Job:
    shutil.rmtree(output, ignore_errors=True)
    repository = ROOT / "model_repository"
    return Job(inputs=(str(path),), output=str(output), task=Embedding(), model=NAME, repository=repository)


if __name__ == "__main__":
    main()
