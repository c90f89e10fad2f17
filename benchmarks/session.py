"""One run: servers and workers started, every round's measurements taken, everything stopped again."""

from __future__ import annotations

import contextlib
import functools
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks import deployments, workloads
from benchmarks.disturbance import Disturbance
from benchmarks.models import NAME, prepare_peers
from benchmarks.peers.protocol import load_items
from benchmarks.servers import HOST, Server, ServerError, free_ports
from benchmarks.systems import Setting
from benchmarks.venvs import InstallError
from benchmarks.worker_graphs import open_graphs
from benchmarks.workers import Worker, WorkerError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from typing_extensions import Self

    from benchmarks.models import Models
    from benchmarks.results import Record, SystemInfo
    from benchmarks.systems import System

FAILURES = (InstallError, ServerError, WorkerError, OSError, subprocess.SubprocessError)
COMPARED_TEXTS = 64
INFINITIES: dict[str, tuple[str, ...]] = {"infinity": (), "infinity-tuned": ("--batch-size", "8")}


class Session:
    """A context manager inside which the systems can be measured.

    Attributes:
        records: what was measured.
        infos: what is known about each system, `not_measured` where it could not be started.
        described: what the workloads are.
    """

    def __init__(self, models: Models, paths: dict[str, Path], systems: Sequence[System], work: Path) -> None:
        self._models, self._paths, self._systems, self._work = models, paths, systems, work
        self._stack = contextlib.ExitStack()
        self._servers: dict[str, Server] = {}
        self._workers: dict[str, Worker] = {}
        self.records: list[Record] = []
        self.infos: dict[str, SystemInfo] = {s.name: {"label": s.label, "peer": s.peer} for s in systems}
        self.described = {name: workloads.summary(load_items(path)) for name, path in paths.items()}

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            self._stack = stack
            self._start()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def measure(self, rounds: int, seconds: float, only: Sequence[str] | None) -> None:
        """Measure every system on every one of its workloads, round by round."""
        for number in range(1, rounds + 1):
            for system in self._systems:
                for workload in system.workloads:
                    if system.name in self._workers and (not only or workload in only):
                        self._measure(number, system.name, workload, seconds)

    def studies(self) -> dict[str, dict[str, Any]]:
        """Return measurements of the servers other than speed."""
        if "conch" not in self._servers:
            return {}
        server = self._servers["conch"]
        return {"deployment": {"start_to_first_answer_s": server.start_s, "memory_mb": server.memory_mb()}}

    def _start(self) -> None:
        """Start conch first, because its start is timed and the machine is still idle."""
        ports = free_ports(4)
        setting = Setting(
            self._models,
            self._paths,
            f"{HOST}:{ports[0]}",
            f"http://{HOST}:{ports[1]}",
            f"http://{HOST}:{ports[2]}",
            f"http://{HOST}:{ports[3]}",
            self._work,
        )
        needed = {system.needs for system in self._systems}
        if "conch" in needed:
            self._serve("conch", deployments.conch(self._models.int8, self._work, ports[0], ports[1]))
        missing = {
            name: self._start_infinity(name, port)
            for name, port in zip(INFINITIES, ports[2:], strict=True)
            if name in needed
        }
        for system in self._systems:
            self._start_worker(system, setting, missing.get(system.needs))

    def _start_infinity(self, name: str, port: int) -> str | None:
        """Start a worker; return the reason if it does not run, else None."""
        try:
            prepare_peers(self._models)
            self._serve(name, deployments.infinity(self._models, self._work / name, port, *INFINITIES[name]))
        except FAILURES as error:
            return str(error)
        return None

    def _serve(self, name: str, server: Server) -> None:
        self._servers[name] = server
        self._stack.callback(server.stop)

    def _start_worker(self, system: System, setting: Setting, missing: str | None) -> None:
        try:
            if missing:
                raise ServerError(missing)
            if system.peer:
                prepare_peers(self._models)
            worker = Worker(system.commands(setting), self._work / f"{system.name}.log")
            self._stack.callback(worker.stop)
            worker.wait_until_ready()
            self.infos[system.name]["cosine_to_fp32"] = self._cosine(system, worker)
            self._workers[system.name] = worker
        except FAILURES as error:
            self._give_up(system.name, error)

    def _cosine(self, system: System, worker: Worker) -> dict[str, float]:
        """Check that a system computes the same model, before it is timed."""
        if system.name == "products":
            return {}
        cosines = (self._exact * np.array(worker.embed(self._paths["real"], COMPARED_TEXTS))).sum(axis=1)
        if cosines.mean() < 0.9:
            raise WorkerError(f"computes another model: mean cosine {cosines.mean():.3f}")
        return {"mean": float(cosines.mean()), "min": float(cosines.min())}

    @functools.cached_property
    def _exact(self) -> NDArray[np.float32]:
        """Return fp32 vectors of the first real texts, each computed alone."""
        graphs = open_graphs(self._models.fp32, NAME)
        items = load_items(self._paths["real"])[:COMPARED_TEXTS]
        return np.concatenate([graphs.run(graphs.prepare([item])) for item in items])

    def _measure(self, number: int, system: str, workload: str, seconds: float) -> None:
        disturbance = Disturbance()
        try:
            measured = self._workers[system].measure(self._paths[workload], seconds)
        except FAILURES as error:
            del self._workers[system]
            self._give_up(system, error)
            return
        about = {"round": number, "system": system, "workload": workload, "others_cores": disturbance.cores()}
        self.records.append({**about, **measured})  # type: ignore[typeddict-item]
        _say(
            f"round {number}  {system:22} {workload:8} {measured['tokens_per_s']:8.0f} tokens/s "
            f"{measured['texts_per_s']:7.0f} texts/s  p50 {measured['latency_ms']['p50']:8.2f} ms  "
            f"errors {measured['errors']}  others {about['others_cores']} cores"
        )

    def _give_up(self, system: str, error: Exception) -> None:
        self.infos[system]["not_measured"] = str(error)
        _say(f"{system}: not measured: {error}")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
