"""The measured systems as data: name, label in tables, and the processes that compute.

Every system keeps both cores of a two-core machine busy by itself: as many single-threaded processes as there are
cores, or a server under load.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from conch_contract import usable_cores

from benchmarks import venvs, workloads
from benchmarks.models import NAME

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from benchmarks.models import Models

CLIENTS, BULK_CLIENTS, BULK_TEXTS = 32, 4, 64
TEXTS_PER_CALL = 128
"""Of sentence-transformers."""
Command = list[str]


@dataclass(frozen=True)
class Setting:
    """Values from which the commands of a system are built.

    Attributes:
        models: the models on disk.
        workloads: file of each workload.
        grpc: `host:port` of Triton.
        gateway: URL of conch's gateway.
        infinity: URL of infinity with its defaults.
        infinity_tuned: URL of infinity with batches of 8.
        work: folder for what peers make.
    """

    models: Models
    workloads: dict[str, Path]
    grpc: str
    gateway: str
    infinity: str
    infinity_tuned: str
    work: Path


@dataclass(frozen=True)
class System:
    """One row of the result.

    Attributes:
        name: in results and on the command line.
        label: in tables.
        commands: the worker processes; raises `venvs.InstallError` where the peer cannot be installed.
        workloads: which it computes.
        peer: whether it is not ours.
        needs: the server it asks: conch, infinity, infinity-tuned or none.
    """

    name: str
    label: str
    commands: Callable[[Setting], list[Command]]
    workloads: tuple[str, ...] = workloads.NAMES
    peer: bool = False
    needs: str = ""


def _each_core(command: Callable[[Setting], Command]) -> Callable[[Setting], list[Command]]:
    """The command once per core, with `INDEX COUNT` after it."""
    count = usable_cores()
    return lambda setting: [[*command(setting), str(index), str(count)] for index in range(count)]


def _graphs(batch: int) -> Callable[[Setting], Command]:
    return lambda setting: [*_ours("graphs"), str(setting.models.int8), NAME, str(batch)]


def _onnxruntime(batch: int) -> Callable[[Setting], Command]:
    return lambda setting: [*_peer("onnxruntime"), str(setting.models.onnx / "int8" / "model.onnx"), str(batch)]


def _sentence_transformers(setting: Setting) -> Command:
    folder = setting.models.onnx / "sentence-transformers"
    return [*_peer("sentence-transformers"), str(folder), "model.onnx", "1", str(TEXTS_PER_CALL)]


def _openvino(setting: Setting) -> list[Command]:
    source = setting.models.onnx / "fp32" / "model.onnx"
    return [[*_peer("openvino"), str(source), str(setting.work / "openvino.xml"), str(setting.workloads["real"])]]


def _grpc(clients: int, padded_length: int = 0) -> Callable[[Setting], list[Command]]:
    return lambda setting: [[*_ours("grpc"), setting.grpc, NAME, str(clients), str(padded_length)]]


def _gateway(clients: int, texts: int = 1) -> Callable[[Setting], list[Command]]:
    return lambda setting: [_http(f"{setting.gateway}/v1/embeddings", clients, texts)]


def _infinity(clients: int) -> Callable[[Setting], list[Command]]:
    return lambda setting: [_http(f"{setting.infinity}/embeddings", clients, 1)]


def _http(url: str, clients: int, texts: int) -> Command:
    return [*_ours("http"), url, NAME, str(clients), str(texts)]


def _ours(worker: str) -> Command:
    return [sys.executable, "-m", f"benchmarks.worker_{worker}"]


def _peer(name: str) -> Command:
    return [str(venvs.python(name)), "-m", f"benchmarks.peers.{name.replace('-', '_')}_worker"]


def _alone(setting: Setting) -> list[Command]:
    return [[*_graphs(1)(setting), "0", "1"]]


def _products(_: Setting) -> list[Command]:
    return [_ours("matmul")] * usable_cores()


REAL, SHORT, SINGLE = ("real",), ("short",), (workloads.SINGLE,)

SYSTEMS = (
    System("graphs", "conch's graphs in process, batches of 8", _each_core(_graphs(8))),
    System("triton", "conch on Triton, gRPC, 32 clients", _grpc(CLIENTS), needs="conch"),
    System("gateway", "conch's gateway, HTTP, 32 clients", _gateway(CLIENTS), REAL, needs="conch"),
    System(
        "gateway-bulk", "conch's gateway, 64 texts a request", _gateway(BULK_CLIENTS, BULK_TEXTS), REAL, needs="conch"
    ),
    System("openvino", "OpenVINO int8 in process, 2 streams, batch 1", _openvino, peer=True),
    System(
        "onnxruntime",
        "onnxruntime in process, optimum O2 + dynamic int8, batch 1",
        _each_core(_onnxruntime(1)),
        peer=True,
    ),
    System("onnxruntime-padded", "the same, padded batches of 32", _each_core(_onnxruntime(32)), peer=True),
    System(
        "sentence-transformers",
        "sentence-transformers in process, ONNX int8, batches of 32 by length",
        _each_core(_sentence_transformers),
        peer=True,
    ),
    System("infinity", "infinity int8 ONNX, HTTP, 32 clients", _infinity(CLIENTS), peer=True, needs="infinity"),
    System(
        "infinity-tuned",
        "infinity told to batch 8, HTTP, 32 clients",
        lambda setting: [_http(f"{setting.infinity_tuned}/embeddings", CLIENTS, 1)],
        peer=True,
        needs="infinity-tuned",
    ),
    System("products", "int8 matrix products alone", _products, SHORT),
    System("graphs-one", "conch's graphs in process, one text at a time", _alone, SHORT),
    System("triton-one", "conch on Triton, gRPC, one client", _grpc(1), SHORT, needs="conch"),
    System("gateway-one", "conch's gateway, HTTP, one client", _gateway(1), SHORT, needs="conch"),
    System("infinity-one", "infinity, HTTP, one client", _infinity(1), SHORT, peer=True, needs="infinity"),
    System("unpadded-one", "conch on Triton, 40 tokens", _grpc(1), SINGLE, needs="conch"),
    System("padded-one", "conch on Triton, 40 tokens padded to 512", _grpc(1, 512), SINGLE, needs="conch"),
)
