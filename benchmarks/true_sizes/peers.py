"""The same checkpoint in its peers' hands: the models that their users make of it, and how those are run."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from functools import partial
from typing import TYPE_CHECKING, Any

from conch_contract import usable_cores

from benchmarks import deployments, venvs
from benchmarks.models import NAME, TOKENIZER_FILES, Models
from benchmarks.servers import HOST, free_ports
from benchmarks.true_sizes import loads, ours
from benchmarks.true_sizes.measuring import System, compared, over_http
from benchmarks.true_sizes.ours import CLIENTS
from benchmarks.workers import ENVIRONMENT

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from benchmarks.true_sizes.measuring import Command
    from benchmarks.true_sizes.ours import Subject

OURS = "conch"
LABELS = {
    "sentence-transformers": "sentence-transformers, torch fp32",
    "onnxruntime": "optimum O2 fp32 on onnxruntime",
    "onnxruntime-int8": "optimum O2 and dynamic int8 on onnxruntime",
    "openvino": "OpenVINO int8",
    "infinity": "infinity int8",
}
_TEXTS_PER_CALL = 32
"""As many as conch has clients."""
_CALIBRATION_TEXTS = 32
_TIMEOUT_S = 1800
_MADE = "made"
_CORES = str(usable_cores())


def measure(
    subject: Subject, precision: str, chosen: Collection[str], on_step: Callable[[str], None]
) -> dict[str, dict[str, Any]]:
    """Rates of conch and of every chosen peer, and the peers' latencies; or why there are none."""
    peers = {name: start for name, start in _peers(precision).items() if name.removesuffix("-int8") in chosen}
    known = {name: start for name, start in peers.items() if name.removesuffix("-int8") in subject.shape.peers}
    found = {name: {"not_measured": subject.shape.why_not} for name in peers if name not in known}
    if not known:
        return found
    systems = {name: partial(start, subject) for name, start in known.items()}
    conch = partial(ours.system, subject, precision)
    return found | compared({OURS: conch, **systems}, subject.log("peers"), subject.loads, subject.seconds, on_step)


def _peers(precision: str) -> dict[str, Callable[[Subject], AbstractContextManager[System]]]:
    if precision == "fp32":
        return {"sentence-transformers": _sentence_transformers, "onnxruntime": partial(_onnxruntime, graph=_FP32)}
    return {"onnxruntime-int8": partial(_onnxruntime, graph=_INT8), "openvino": _openvino, "infinity": _infinity}


_FP32, _INT8 = "o2/model_optimized.onnx", "int8/model.onnx"


@contextlib.contextmanager
def _sentence_transformers(subject: Subject) -> Iterator[System]:
    """All cores, one call after another."""
    query = [loads.QUERY] if subject.shape.is_reranker else []
    command = [*_python("sentence-transformers", "torch_worker"), str(subject.checkpoint), _CORES]
    yield System([[*command, str(_TEXTS_PER_CALL), *query]], [[*command, "1", *query]])


@contextlib.contextmanager
def _onnxruntime(subject: Subject, graph: str) -> Iterator[System]:
    """All cores for one text, one process for each core under load."""
    command = [*_python("onnxruntime", "onnxruntime_worker"), str(_onnx_model(subject, graph)), "1"]
    yield System(
        [[*command, str(index), _CORES] for index in range(int(_CORES))],
        [[*command, "0", "1", _CORES]],
    )


@contextlib.contextmanager
def _openvino(subject: Subject) -> Iterator[System]:
    """Static int8 by nncf: all cores for one text, one stream for each core under load."""
    source, quantized = _onnx_model(subject, "fp32/model.onnx"), subject.folder / "openvino.xml"
    command = [*_python("openvino", "openvino_worker"), str(source), str(quantized), str(subject.loads["mixed"])]
    command.append(str(_CALIBRATION_TEXTS))
    yield System([[*command, _CORES]], [[*command, "1"]])


@contextlib.contextmanager
def _infinity(subject: Subject) -> Iterator[System]:
    onnx, port = _onnx_model(subject, "plain-int8/model.onnx").parents[1], free_ports(1)[0]
    models = Models(subject.folder, subject.folder, subject.checkpoint, onnx)
    server = deployments.infinity(models, subject.folder / "infinity", port, pooling=subject.shape.pooling)
    try:
        address = f"http://{HOST}:{port}/embeddings"
        yield System([over_http(address, NAME, CLIENTS)], [over_http(address, NAME, 1)])
    finally:
        server.stop()


def _onnx_model(subject: Subject, graph: str) -> Path:
    """A graph of those that users of onnxruntime make; raises OSError if it could not be made."""
    folder = _made(subject)
    if not (folder / graph).exists():
        raise FileNotFoundError(f"optimum did not make {graph}: {(folder / _MADE).read_text('utf-8')}")
    return folder / graph


def _made(subject: Subject) -> Path:
    """Their folder, filled once; what was said last is in a file that comes last."""
    folder = subject.folder / "onnx"
    if not (folder / _MADE).exists():
        shutil.rmtree(folder, ignore_errors=True)
        task = "text-classification" if subject.shape.is_reranker else "feature-extraction"
        command = [str(venvs.python("onnxruntime")), str(venvs.PEERS / "onnx_models.py"), str(subject.checkpoint)]
        log, environment = subject.log("onnx"), os.environ | ENVIRONMENT
        with log.open("w") as said:
            command += [str(folder), task]
            subprocess.run(command, check=False, stdout=said, stderr=said, timeout=_TIMEOUT_S, env=environment)
        for name in TOKENIZER_FILES:
            if (subject.checkpoint / name).exists() and (folder / "plain-int8").exists():
                shutil.copy(subject.checkpoint / name, folder / "plain-int8" / name)
        folder.mkdir(exist_ok=True)
        (folder / _MADE).write_text(log.read_text("utf-8").strip().rpartition("\n")[2], "utf-8")
    return folder


def _python(peer: str, worker: str) -> Command:
    return [str(venvs.python(peer)), "-m", f"benchmarks.peers.{worker}"]
