"""`conch embed` over docstrings, beside the graphs alone, a gateway and other libraries; `results/corpus.json`.

    python -m benchmarks.corpora.throughput [--texts 50000] [--seconds 30] [--only embed gateway …]

- embed: all texts, from Parquet to Parquet. Beside it the graphs alone, a process for each core, tokenised and sorted
  before the clock runs: a quarter of the texts before `embed` and another one after it, so that a machine whose speed
  changes counts for both.
- gateway: `conch serve`, 4 clients that send lists of 64 texts.
- sentence-transformers: `encode` on torch in fp32, all cores, and on its ONNX backend in int8, a process for each core.
- infinity: `AsyncEmbeddingEngine.embed`, int8 ONNX, all cores.

The gateway and the peers compute the first texts of the same corpus for so many seconds, cut at the model's limit: not
all of them would cut at the same one. What is measured is kept at once, so that a part can be measured by itself.
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
from conch_batch import BatchError, Embedding, Job, Workers
from conch_contract import usable_cores

from benchmarks import deployments, models, venvs
from benchmarks.corpora.docstrings import corpus
from benchmarks.corpora.parts import Parts
from benchmarks.corpora.watching import timed
from benchmarks.machine import ROOT
from benchmarks.models import NAME, Models
from benchmarks.true_sizes.measuring import FAILURES, measured, over_http

if TYPE_CHECKING:
    from collections.abc import Callable

RESULT = ROOT / "benchmarks" / "results" / "corpus.json"
PEER_TEXTS, TEXTS_PER_CALL = 4096, 1024
CLIENTS, TEXTS_PER_REQUEST = 4, 64
MAX_LENGTH = 256
GRAPHS_SHARE = 4
"""The graphs alone compute one in so many texts at a time."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=50_000)
    parser.add_argument("--seconds", type=float, default=30.0, help="of each measurement of a peer")
    parser.add_argument("--folder", type=Path, default=ROOT / ".run" / "corpora")
    parser.add_argument("--only", nargs="*", choices=SYSTEMS, default=list(SYSTEMS))
    options = parser.parse_args()
    made = models.prepare(ROOT / ".run" / "benchmarks")
    folder = options.folder.resolve()
    path = folder / f"docstrings-{options.texts}.parquet"
    if not path.exists():
        corpus(path, options.texts)
    parts = Parts(RESULT, "benchmarks.corpora.throughput", options.texts)
    for name in options.only:
        try:
            found = SYSTEMS[name](made, path, folder, options.seconds)
        except (*FAILURES, BatchError) as error:
            found = {"not_measured": str(error)[:300]}
        parts.add(name, found)


def embed(made: Models, path: Path, folder: Path, seconds: float) -> dict[str, Any]:  # noqa: ARG001
    output = folder / "vectors"
    shutil.rmtree(output, ignore_errors=True)
    job = Job(inputs=(str(path),), output=str(output), task=Embedding(), model=NAME, repository=made.int8.absolute())
    before = _graphs(made, path, 0)
    found = timed(job, Workers(cores=usable_cores()))
    after = _graphs(made, path, GRAPHS_SHARE // 2)
    tokens, total = (before[key] + after[key] for key in ("tokens", "seconds"))
    found["of_graphs"] = round(found["tokens_per_s"] / (tokens / total), 4)
    return {**found, "graphs": {"tokens_per_s": round(tokens / total, 1), "before": before, "after": after}}


def _graphs(made: Models, path: Path, first: int) -> dict[str, Any]:
    """Tokens a second of all cores over every so manieth text from the first on."""
    cores = usable_cores()
    command = [sys.executable, "-m", "benchmarks.corpora.graphs_worker", str(made.int8), NAME, str(path)]
    shares = [[*command, str(first + GRAPHS_SHARE * core), str(GRAPHS_SHARE * cores)] for core in range(cores)]
    pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "cwd": ROOT}
    with contextlib.ExitStack() as stack:
        workers = [stack.enter_context(subprocess.Popen(share, **pipes)) for share in shares]
        for worker in workers:
            stack.callback(worker.kill)
        for worker in workers:
            _line(worker)
        for worker in workers:
            _tell(worker)
        said = [json.loads(_line(worker)) for worker in workers]
    tokens, seconds = sum(each["tokens"] for each in said), max(each["seconds"] for each in said)
    return {"tokens": tokens, "seconds": round(seconds, 2), "tokens_per_s": round(tokens / seconds, 1)}


def _line(worker: subprocess.Popen[str]) -> str:
    if worker.stdout is None or not (line := worker.stdout.readline()):
        raise OSError("a process that runs the graphs has ended")
    return line


def _tell(worker: subprocess.Popen[str]) -> None:
    if worker.stdin is not None:
        worker.stdin.write("go\n")
        worker.stdin.flush()


def _workload(made: Models, path: Path, folder: Path) -> dict[str, Path]:
    """The first texts of the corpus, each cut at the model's limit, with its tokens."""
    tokenizer = made.tokenizer()
    tokenizer.enable_truncation(MAX_LENGTH)
    whole = pq.read_table(path, columns=["text"])["text"].to_pylist()[:PEER_TEXTS]
    # The last token is a special one, which stands at no place in the text. `encode_batch_fast` knows no places at all.
    texts = [
        text[: encoding.offsets[-2][1]] for text, encoding in zip(whole, tokenizer.encode_batch(whole), strict=True)
    ]
    ids = [encoding.ids for encoding in tokenizer.encode_batch_fast(texts)]
    (folder / "workload.json").write_text(json.dumps({"texts": texts, "ids": ids}), "utf-8")
    return {"corpus": folder / "workload.json"}


def gateway(made: Models, path: Path, folder: Path, seconds: float) -> dict[str, Any]:
    with deployments.served(made.int8, folder) as served:
        command = over_http(f"{served.url}/v1/embeddings", NAME, CLIENTS, texts=TEXTS_PER_REQUEST)
        return measured([command], folder / "gateway.log", _workload(made, path, folder), seconds)["corpus"]


def peer(
    made: Models, path: Path, folder: Path, seconds: float, *, name: str, commands: Callable[[Models], list[list[str]]]
) -> dict[str, Any]:
    models.prepare_peers(made)
    return measured(commands(made), folder / f"{name}.log", _workload(made, path, folder), seconds)["corpus"]


def _torch(made: Models) -> list[list[str]]:
    worker = [str(venvs.python("sentence-transformers")), "-m", "benchmarks.peers.torch_worker"]
    return [[*worker, str(made.checkpoint), str(usable_cores()), str(TEXTS_PER_CALL)]]


def _sentence_transformers(made: Models) -> list[list[str]]:
    worker = [str(venvs.python("sentence-transformers")), "-m", "benchmarks.peers.sentence_transformers_worker"]
    worker += [str(made.onnx / "sentence-transformers"), "model.onnx", "1", str(TEXTS_PER_CALL)]
    cores = usable_cores()
    return [[*worker, str(core), str(cores)] for core in range(cores)]


def _infinity(made: Models) -> list[list[str]]:
    environment = [f"HF_HOME={made.onnx.parent / 'infinity'}", "HF_HUB_OFFLINE=1", "DO_NOT_TRACK=1"]
    worker = ["env", *environment, str(venvs.python("infinity")), "-m", "benchmarks.peers.infinity_worker"]
    return [[*worker, str(made.onnx / "plain-int8"), str(TEXTS_PER_CALL)]]


SYSTEMS: dict[str, Callable[[Models, Path, Path, float], dict[str, Any]]] = {
    "embed": embed,
    "gateway": gateway,
    "sentence-transformers-torch": partial(peer, name="sentence-transformers-torch", commands=_torch),
    "sentence-transformers-int8": partial(peer, name="sentence-transformers-int8", commands=_sentence_transformers),
    "infinity": partial(peer, name="infinity", commands=_infinity),
}

if __name__ == "__main__":
    main()
