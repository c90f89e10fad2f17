"""`conch embed` on a Ray cluster of several nodes, one of which is killed in the middle; `results/corpus-cluster.json`.

    python -m benchmarks.corpora.cluster [--texts 12000]

The nodes are on this machine and have one core each: how fast one and two of them are, then two of which one dies
when a third of the shards is there, with its process that computes. Every output is compared with the first one.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.dataset as ds
from conch_batch import Embedding, Job, Workers, run
from conch_export import usable_cores
from ray.cluster_utils import Cluster

from benchmarks.corpora.docstrings import corpus
from benchmarks.corpora.kills import files
from benchmarks.corpora.watching import Clock, timed
from benchmarks.disturbance import Disturbance
from benchmarks.machine import ROOT, measured_by
from benchmarks.models import NAME

if TYPE_CHECKING:
    from conch_batch import Done

RESULT = ROOT / "benchmarks" / "results" / "corpus-cluster.json"
NODE: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 100 << 20}


class Killing(Clock):
    """Kills a node when so many shards are done."""

    def __init__(self, cluster: Cluster, node: Any, at: int) -> None:
        super().__init__()
        self._cluster, self._node, self._at = cluster, node, at

    def done(self, shard: Done) -> None:
        super().done(shard)
        if len(self.shards) == self._at:
            self._cluster.remove_node(self._node, allow_graceful=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=12_000)
    parser.add_argument("--folder", type=Path, default=ROOT / ".run" / "corpora-cluster")
    options = parser.parse_args()
    path = options.folder / f"docstrings-{options.texts}.parquet"
    if not path.exists():
        corpus(path, options.texts)
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    disturbance = Disturbance()
    cluster = Cluster(initialize_head=True, head_node_args={**NODE, "num_cpus": 0, "include_dashboard": False})
    nodes, found, workers = [], {}, Workers(address=cluster.address)
    for count in range(1, usable_cores() + 1):
        nodes.append(cluster.add_node(**NODE))
        found[f"{count} node(s)"] = timed(_job(path, options.folder / f"nodes-{count}"), workers)
        print(json.dumps(found, indent=1), flush=True)
    job = _job(path, options.folder / "killed")
    killing = Killing(cluster, nodes[0], at=20)
    run(job, workers, killing)
    cluster.shutdown()  # type: ignore[no-untyped-call]
    ids = ds.dataset(job.output, format="parquet").to_table(columns=["id"])["id"].to_pylist()
    expected = files(options.folder / "nodes-1")
    result = {
        **measured_by(" ".join(["python -m benchmarks.corpora.cluster", *sys.argv[1:]])),
        "others_cores": disturbance.cores(),
        "texts": options.texts,
        "runs": found,
        "killed": {
            "seconds": round(max(at for at, _ in killing.shards), 1),
            "rows_lost": options.texts - len(set(ids)),
            "rows_doubled": len(ids) - len(set(ids)),
            "shards_told_twice": len(killing.shards) - len({done.shard for _, done in killing.shards}),
        },
        "outputs_that_differ": [
            name
            for name in (*(f"nodes-{count}" for count in range(2, usable_cores() + 1)), "killed")
            if files(options.folder / name) != expected
        ],
    }
    RESULT.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    print(json.dumps(result["killed"]), result["outputs_that_differ"])


def _job(path: Path, output: Path) -> Job:
    shutil.rmtree(output, ignore_errors=True)
    repository = ROOT / "model_repository"
    return Job(inputs=(str(path),), output=str(output), task=Embedding(), model=NAME, repository=repository)


if __name__ == "__main__":
    main()
