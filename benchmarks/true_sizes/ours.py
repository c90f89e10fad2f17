"""conch's part of a row: the plan, the export, and the service with two and with eight instances."""

from __future__ import annotations

import contextlib
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import deployments
from benchmarks.true_sizes import loads
from benchmarks.true_sizes.measuring import System, measured, over_http
from benchmarks.true_sizes.processes import run

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.servers import Server
    from benchmarks.true_sizes.measuring import Command
    from benchmarks.true_sizes.shapes import Shape

PRECISIONS = ("fp32", "int8")
FEW, MANY = 2, 8
"""Instances of the encoder."""
CLIENTS = 32
_CONCH = str(Path(sys.executable).parent / "conch")


@dataclass(frozen=True)
class Subject:
    """What is measured.

    Attributes:
        name: of the shape, and of the model.
        shape: the shape.
        folder: for everything that is made of it.
        loads: files of texts, by load.
        seconds: of one measurement.
    """

    name: str
    shape: Shape
    folder: Path
    loads: dict[str, Path]
    seconds: float

    @property
    def checkpoint(self) -> Path:
        """The folder of the checkpoint."""
        return self.folder / "checkpoint"

    def log(self, name: str) -> Path:
        """A file for what a step writes to standard error."""
        return self.folder / f"{name}.log"

    def repository(self, precision: str) -> Path:
        """The model repository of that precision."""
        return self.folder / f"models-{precision}"


def checkpoint(subject: Subject) -> dict[str, Any]:
    """Sizes of the checkpoint that was written."""
    dtype = subject.shape.dtype
    weights = sum(path.stat().st_size for path in subject.checkpoint.rglob("*.safetensors"))
    encoder = sum(path.stat().st_size for path in subject.checkpoint.glob("*.safetensors"))
    tokenizer = (subject.checkpoint / "tokenizer.json").stat().st_size
    parameters = encoder // {"F32": 4, "F16": 2, "BF16": 2}[dtype]
    return {"dtype": dtype, "weights_mb": weights / 1e6, "parameters": parameters, "tokenizer_mb": tokenizer / 1e6}


def plan(subject: Subject, precision: str, instances: int, length: int = loads.MIDDLE_TOKENS) -> dict[str, Any]:
    """What `conch plan` says of so many instances and texts of so many tokens, and what planning takes."""
    length = min(length, subject.shape.longest)
    ran = run(
        [
            *(_CONCH, "plan", str(subject.checkpoint), "--precision", precision, "--cores", str(instances)),
            *("--max-length", str(length), "--json"),
        ],
        subject.log(f"plan-{precision}-{instances}-{length}"),
    )
    return {"seconds": ran.seconds, "peak_mb": ran.peak_mb, **json.loads(ran.printed)}


def export(subject: Subject, precision: str) -> dict[str, Any]:
    """The export's time, memory and size on disk, and what verification measured."""
    repository = subject.repository(precision)
    ran = run(
        [
            *(_CONCH, "export", str(subject.checkpoint), "--repository", str(repository), "--name", subject.name),
            *("--precision", precision, "--max-length", str(subject.shape.longest)),
        ],
        subject.log(f"export-{precision}"),
    )
    report = json.loads((repository / subject.name / "report.json").read_text("utf-8"))
    return {
        "seconds": ran.seconds,
        "cpu_seconds": ran.cpu_seconds,
        "peak_mb": ran.peak_mb,
        "peak_anonymous_mb": ran.peak_anonymous_mb,
        "disk_mb": sum(report["files"].values()) / 1e6,
        "verification": report["verification"][subject.name],
    }


def serve(subject: Subject, precision: str) -> dict[str, Any]:
    """Time until it is ready, latencies, rate of 32 clients, and memory, with two instances."""
    with _serving(subject, precision, FEW) as (server, address):
        latency = {name: _latency(subject, address, name) for name in ("short", "middle")}
        _measure(subject, address, "middle", FEW)
        memory = _memory(server)
        if "longest" in subject.loads:
            latency["longest"] = _latency(subject, address, "longest")
        mixed = _measure(subject, address, "mixed", CLIENTS)
        return {
            "ready_s": server.start_s,
            "latency_ms": latency,
            "mixed": mixed,
            "memory_mb": memory,
            "memory_after_all_mb": _memory(server),
        }


def serve_many(subject: Subject, precision: str) -> dict[str, Any]:
    """Time until it is ready and memory, with eight instances that have all computed."""
    with _serving(subject, precision, MANY) as (server, address):
        _measure(subject, address, "middle", MANY)
        return {"ready_s": server.start_s, "memory_mb": _memory(server)}


@contextlib.contextmanager
def system(subject: Subject, precision: str) -> Iterator[System]:
    """conch with two instances, as 32 clients use it."""
    with _serving(subject, precision, FEW) as (_, address):
        yield System([_client(subject, address, CLIENTS)])


@contextlib.contextmanager
def _serving(subject: Subject, precision: str, instances: int) -> Iterator[tuple[Server, str]]:
    work = subject.folder / f"serve-{precision}-{instances}"
    work.mkdir(exist_ok=True)
    question: tuple[str, dict[str, Any]] = ("/v1/embeddings", {"input": "ready"})
    if subject.shape.is_reranker:
        question = ("/v1/rerank", {"query": "ready", "documents": ["ready"]})
    cores = {"CONCH_TRITON_CORES": str(instances)}
    with deployments.served(subject.repository(precision), work, cores, question=question) as (server, url, _):
        yield server, f"{url}{question[0]}"


def _latency(subject: Subject, address: str, load: str) -> float | None:
    """Median milliseconds of one request at a time; None if none was answered."""
    answered = _measure(subject, address, load, 1)
    return float(answered["latency_ms"]["p50"]) if answered["texts"] else None


def _measure(subject: Subject, address: str, load: str, clients: int) -> dict[str, Any]:
    command = _client(subject, address, clients)
    return measured([command], subject.log("clients"), {load: subject.loads[load]}, subject.seconds)[load]


def _client(subject: Subject, address: str, clients: int) -> Command:
    return over_http(address, subject.name, clients, loads.QUERY if subject.shape.is_reranker else "")


def _memory(server: Server) -> dict[str, float]:
    return {**server.memory_mb(), "gateway": server.first_process_mb()}
