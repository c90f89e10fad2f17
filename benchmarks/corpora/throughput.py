"""`conch embed` over docstrings, beside the graphs alone, a gateway and other libraries; `results/corpus.json`.

    python -m benchmarks.corpora.throughput [--texts 50000] [--seconds 30] [--only embed graphs gateway …]

- graphs: a process for each core, tokenised and sorted before the clock runs: half of the texts before `embed`, the
  other half after it, so that a machine whose speed changes counts for both.
- embed: all texts, from Parquet to Parquet.
- gateway: `conch serve`, 4 clients that send lists of 64 texts.
- sentence-transformers: `encode` on torch in fp32, all cores, and on its ONNX backend in int8, a process for each core.
- infinity: `AsyncEmbeddingEngine.embed`, int8 ONNX, all cores.

Peers compute the first texts of the same corpus for so many seconds.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq
from conch_batch import Embedding, Job, Workers
from conch_export import usable_cores

from benchmarks import deployments, models, venvs
from benchmarks.corpora.docstrings import corpus
from benchmarks.corpora.watching import timed
from benchmarks.disturbance import Disturbance
from benchmarks.machine import ROOT, measured_by
from benchmarks.models import NAME, Models
from benchmarks.servers import HOST, free_ports
from benchmarks.true_sizes.measuring import FAILURES, measured

if TYPE_CHECKING:
    from collections.abc import Callable

RESULT = ROOT / "benchmarks" / "results" / "corpus.json"
PEER_TEXTS, TEXTS_PER_CALL = 4096, 1024
CLIENTS, TEXTS_PER_REQUEST = 4, 64
MAX_LENGTH = 256


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=50_000)
    parser.add_argument("--seconds", type=float, default=30.0, help="of each measurement of a peer")
    parser.add_argument("--folder", type=Path, default=ROOT / ".run" / "corpora")
    parser.add_argument("--only", nargs="*", choices=SYSTEMS, default=list(SYSTEMS))
    options = parser.parse_args()
    made = models.prepare(ROOT / ".run" / "benchmarks")
    path = options.folder / f"docstrings-{options.texts}.parquet"
    if not path.exists():
        corpus(path, options.texts)
    found: dict[str, Any] = {}
    disturbance = Disturbance()
    for name, measure in SYSTEMS.items():
        if name in options.only:
            try:
                found |= measure(made, path, options.folder, options.seconds)
            except FAILURES as error:
                found[name] = {"not_measured": str(error)[:300]}
            print(json.dumps(found, indent=1), flush=True)
    _write(found, options.texts, disturbance)


def _write(found: dict[str, Any], texts: int, disturbance: Disturbance) -> None:
    """Put what was measured beside what an earlier part of the same measurement has found."""
    about = {
        **measured_by(" ".join(["python -m benchmarks.corpora.throughput", *sys.argv[1:]])),
        "others_cores": disturbance.cores(),
        "texts": texts,
    }
    before = json.loads(RESULT.read_text("utf-8")) if RESULT.exists() else {}
    kept = before.get("systems", {}) if before.get("texts") == texts else {}
    RESULT.write_text(json.dumps({**about, "systems": {**kept, **found}}, indent=1) + "\n", "utf-8")


def _graphs(made: Models, path: Path, half: int) -> dict[str, Any]:
    """Tokens a second of all cores over half of the texts."""
    cores = usable_cores()
    command = [sys.executable, "-m", "benchmarks.corpora.graphs_worker", str(made.int8), NAME, str(path)]
    parts = [[*command, str(half + 2 * core), str(2 * cores)] for core in range(cores)]
    pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "cwd": ROOT}
    with contextlib.ExitStack() as stack:
        workers = [stack.enter_context(subprocess.Popen(part, **pipes)) for part in parts]
        for worker in workers:
            _line(worker)
        for worker in workers:
            _tell(worker)
        said = [json.loads(_line(worker)) for worker in workers]
    tokens, seconds = sum(each["tokens"] for each in said), max(each["seconds"] for each in said)
    return {"tokens": tokens, "seconds": round(seconds, 2), "tokens_per_s": round(tokens / seconds, 1)}


def _line(worker: subprocess.Popen[str]) -> str:
    if worker.stdout is None or not (line := worker.stdout.readline()):
        raise OSError("a worker has ended")
    return line


def _tell(worker: subprocess.Popen[str]) -> None:
    if worker.stdin is not None:
        worker.stdin.write("go\n")
        worker.stdin.flush()


def embed_and_graphs(made: Models, path: Path, folder: Path, seconds: float) -> dict[str, Any]:  # noqa: ARG001
    before = _graphs(made, path, 0)
    embedded = embed(made, path, folder)
    after = _graphs(made, path, 1)
    tokens, total = (before[key] + after[key] for key in ("tokens", "seconds"))
    graphs = {"tokens": tokens, "seconds": total, "tokens_per_s": round(tokens / total, 1), "halves": [before, after]}
    embedded["of_graphs"] = round(embedded["tokens_per_s"] / graphs["tokens_per_s"], 4)
    return {"embed": embedded, "graphs": graphs}


def embed(made: Models, path: Path, folder: Path) -> dict[str, Any]:
    output = folder / "vectors"
    shutil.rmtree(output, ignore_errors=True)
    job = Job(inputs=(str(path),), output=str(output), task=Embedding(), model=NAME, repository=made.int8.absolute())
    return timed(job, Workers(cores=usable_cores()))


def _workload(made: Models, path: Path, folder: Path) -> dict[str, Path]:
    """The first texts of the corpus with the ids that count as their tokens."""
    tokenizer = made.tokenizer()
    tokenizer.enable_truncation(MAX_LENGTH)
    texts = pq.read_table(path, columns=["text"])["text"].to_pylist()[:PEER_TEXTS]
    ids = [encoding.ids for encoding in tokenizer.encode_batch_fast(texts)]
    (folder / "workload.json").write_text(json.dumps({"texts": texts, "ids": ids}), "utf-8")
    return {"corpus": folder / "workload.json"}


def gateway(made: Models, path: Path, folder: Path, seconds: float) -> dict[str, Any]:
    grpc_port, port = free_ports(2)
    server = deployments.conch(made.int8, folder, grpc_port, port)
    address = f"http://{HOST}:{port}/v1/embeddings"
    try:
        command = [sys.executable, "-m", "benchmarks.worker_http", address, NAME, str(CLIENTS), str(TEXTS_PER_REQUEST)]
        found = measured([command], folder / "gateway.log", _workload(made, path, folder), seconds)
    finally:
        server.stop()
    return {"gateway": found["corpus"]}


def peer(
    made: Models, path: Path, folder: Path, seconds: float, *, name: str, commands: Callable[[Models], list[list[str]]]
) -> dict[str, Any]:
    models.prepare_peers(made)
    found = measured(commands(made), folder / f"{name}.log", _workload(made, path, folder), seconds)
    return {name: found["corpus"]}


def _torch(made: Models) -> list[list[str]]:
    worker = [str(venvs.python("sentence-transformers")), "-m", "benchmarks.peers.torch_worker"]
    return [[*worker, str(made.checkpoint), str(usable_cores()), str(TEXTS_PER_CALL)]]


def _sentence_transformers(made: Models) -> list[list[str]]:
    worker = [str(venvs.python("sentence-transformers")), "-m", "benchmarks.peers.sentence_transformers_worker"]
    cores = usable_cores()
    folder = str(made.onnx / "sentence-transformers")
    return [[*worker, folder, "model.onnx", "1", str(core), str(cores)] for core in range(cores)]


def _infinity(made: Models) -> list[list[str]]:
    worker = [str(venvs.python("infinity")), "-m", "benchmarks.peers.infinity_worker"]
    return [[*worker, str(made.onnx / "plain-int8"), str(TEXTS_PER_CALL)]]


SYSTEMS: dict[str, Callable[[Models, Path, Path, float], dict[str, Any]]] = {
    "embed": embed_and_graphs,
    "gateway": gateway,
    "sentence-transformers-torch": partial(peer, name="sentence-transformers-torch", commands=_torch),
    "sentence-transformers-int8": partial(peer, name="sentence-transformers-int8", commands=_sentence_transformers),
    "infinity": partial(peer, name="infinity", commands=_infinity),
}

if __name__ == "__main__":
    main()
