"""The same checkpoint in its peers' hands: models that their users make of it, and how fast those are."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

from conch_export import usable_cores

from benchmarks import deployments, venvs
from benchmarks.models import NAME, Models
from benchmarks.servers import HOST, ServerError, free_ports
from benchmarks.true_sizes import loads
from benchmarks.true_sizes.measuring import measured, over_http
from benchmarks.true_sizes.ours import CLIENTS
from benchmarks.venvs import InstallError
from benchmarks.workers import ENVIRONMENT, WorkerError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path

    from benchmarks.true_sizes.measuring import Command
    from benchmarks.true_sizes.ours import Subject

FAILURES = (InstallError, ServerError, WorkerError, OSError, subprocess.SubprocessError)
LABELS = {
    "sentence-transformers": "sentence-transformers, torch fp32",
    "onnxruntime": "optimum O2 fp32 on onnxruntime",
    "onnxruntime-int8": "optimum O2 and dynamic int8 on onnxruntime",
    "openvino": "OpenVINO int8",
    "infinity": "infinity int8",
}
_TEXTS_PER_CALL = 64
_CALIBRATION_TEXTS = 32
_TIMEOUT_S = 1800
_CORES = str(usable_cores())
_TOKENIZER_FILES = ("config.json", "special_tokens_map.json", "tokenizer.json", "tokenizer_config.json", "vocab.txt")


def measure(subject: Subject, chosen: Collection[str], on_step: Callable[[str], None]) -> dict[str, dict[str, Any]]:
    """Latencies and rate of every chosen peer, or why it has none, by names of `LABELS`."""
    found: dict[str, dict[str, Any]] = {}
    ways: dict[str, Callable[[Subject], dict[str, dict[str, Any]]]] = {
        "sentence-transformers": _sentence_transformers,
        "onnxruntime": _onnxruntime,
        "openvino": _openvino,
        "infinity": _infinity,
    }
    for peer, way in ways.items():
        if peer not in chosen:
            continue
        on_step(peer)
        if peer not in subject.shape.peers:
            found[peer] = {"not_measured": subject.shape.why_not}
            continue
        try:
            found |= way(subject)
        except FAILURES as error:
            found[peer] = {"not_measured": _reason(error)}
    return found


def _sentence_transformers(subject: Subject) -> dict[str, dict[str, Any]]:
    query = [loads.QUERY] if subject.shape.is_reranker else []

    def command(texts: int) -> Command:
        return [*_python("sentence-transformers", "torch_worker"), str(subject.checkpoint), _CORES, str(texts), *query]

    return {"sentence-transformers": _summary(subject, [command(1)], [command(_TEXTS_PER_CALL)])}


def _onnxruntime(subject: Subject) -> dict[str, dict[str, Any]]:
    """O2 in fp32 and int8: all cores for one text, one process for each core under load."""
    models = _onnx_models(subject)
    graphs = {"onnxruntime": models / "o2" / "model_optimized.onnx", "onnxruntime-int8": models / "int8" / "model.onnx"}
    found = {}
    for name, graph in graphs.items():
        command = [*_python("onnxruntime", "onnxruntime_worker"), str(graph), "1"]
        each = [[*command, str(index), _CORES] for index in range(int(_CORES))]
        found[name] = _summary(subject, [[*command, "0", "1", _CORES]], each)
    return found


def _openvino(subject: Subject) -> dict[str, dict[str, Any]]:
    """Static int8 by nncf: all cores for one text, one stream for each core under load."""
    source, quantized = _onnx_models(subject) / "fp32" / "model.onnx", subject.folder / "openvino.xml"
    command = [*_python("openvino", "openvino_worker"), str(source), str(quantized), str(subject.loads["mixed"])]
    command.append(str(_CALIBRATION_TEXTS))
    return {"openvino": _summary(subject, [[*command, "1"]], [[*command, _CORES]])}


def _infinity(subject: Subject) -> dict[str, dict[str, Any]]:
    models, port = Models(subject.folder, subject.folder, subject.checkpoint, _onnx_models(subject)), free_ports(1)[0]
    pooling = ("--pooling-method", subject.shape.pooling)
    server = deployments.infinity(models, subject.folder / "infinity", port, *pooling)
    try:
        address = f"http://{HOST}:{port}/embeddings"
        return {"infinity": _summary(subject, [over_http(address, NAME, 1)], [over_http(address, NAME, CLIENTS)])}
    finally:
        server.stop()


def _summary(subject: Subject, alone: list[Command], together: list[Command]) -> dict[str, Any]:
    """Median milliseconds of one text at a time, and the rate of mixed ones."""
    log, one = subject.folder / "peers.log", ["short", "middle"]
    one += ["longest"] if subject.shape.longest > loads.MIDDLE_TOKENS else []
    latency = measured(alone, log, {name: subject.loads[name] for name in one}, subject.seconds)
    mixed = measured(together, log, {"mixed": subject.loads["mixed"]}, subject.seconds)["mixed"]
    return {"latency_ms": {name: answer["latency_ms"]["p50"] for name, answer in latency.items()}, "mixed": mixed}


def _onnx_models(subject: Subject) -> Path:
    """The models that users of onnxruntime make, made once."""
    folder = subject.folder / "onnx"
    if not (folder / ".whole").exists():
        shutil.rmtree(folder, ignore_errors=True)
        task = "text-classification" if subject.shape.is_reranker else "feature-extraction"
        command = [str(venvs.python("onnxruntime")), str(venvs.PEERS / "onnx_models.py"), str(subject.checkpoint)]
        with (subject.folder / "onnx.log").open("w") as log:
            subprocess.run(
                [*command, str(folder), task],
                check=True,
                stdout=log,
                stderr=log,
                timeout=_TIMEOUT_S,
                env=os.environ | ENVIRONMENT,
            )
        for name in _TOKENIZER_FILES:
            if (subject.checkpoint / name).exists():
                shutil.copy(subject.checkpoint / name, folder / "plain-int8" / name)
        (folder / ".whole").touch()
    return folder


def _python(peer: str, worker: str) -> Command:
    return [str(venvs.python(peer)), "-m", f"benchmarks.peers.{worker}"]


def _reason(error: Exception) -> str:
    if isinstance(error, subprocess.CalledProcessError):
        return f"optimum failed with status {error.returncode}"
    return " ".join(str(error).split())[:200]
