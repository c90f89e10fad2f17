"""Measures what the simulation has to reproduce: a single machine, three Tritons on it, and three stand-ins.

python -m benchmarks.simulation.measure [single] [tritons] [stand-ins] [--seconds 5]

Each is under load at several rates, and by clients that each wait for their answer, in several rounds with requests of
their own; results/capacity.json has all. Each deployment takes about four minutes, in which nothing else should run.
The profiles that the simulation gets are measured before: of the single machine, and of one stand-in.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvloop
from conch.capacity.measuring import measured
from conch.load.closed_loop import closed_loop, percentile
from conch.load.target import target_of

from benchmarks import deployments
from benchmarks.disturbance import Disturbance
from benchmarks.machine import measured_by
from benchmarks.servers import HOST, Server, free_ports
from benchmarks.simulation import stand_in, traces
from benchmarks.simulation.sending import send

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from conch.load.http import Connection

ROOT = Path(__file__).parents[2]
RESULT = ROOT / "benchmarks" / "results" / "capacity.json"
MODEL = "all-minilm-l6-v2"
RATES = (60.0, 120.0, 180.0, 240.0)
STAND_IN_RATES = (60.0, 150.0, 250.0, 350.0)
CLIENTS = (1, 8, 32)
ROUNDS = 3
DISTURBED_CORES = 0.1  # used by other processes, beyond which a round is not counted
WARM_UP_S = 1.0
WARM_UP_ROUND = -1
STAND_IN_S = 0.040
CONCH = str(Path(sys.executable).parent / "conch")


class Session:
    """Servers that are started, measured and stopped."""

    def __init__(self, stack: ExitStack, work: Path, seconds: float) -> None:
        self._stack = stack
        self.work = work
        self.seconds = seconds

    def run(self, command: list[str]) -> None:
        """Start a process, and kill it in the end."""
        process = subprocess.Popen(command, cwd=ROOT)
        self._stack.callback(process.wait)
        self._stack.callback(process.kill)

    def conch(self, repository: Path, *, cores: int | None = None) -> tuple[str, str]:
        """Start `conch serve`; return the addresses of its Triton and of its gateway."""
        folder = Path(tempfile.mkdtemp(dir=self.work))
        environment = {} if cores is None else {"CONCH_TRITON_CORES": str(cores)}
        served = self._stack.enter_context(deployments.served(repository, folder, environment))
        return served.triton, served.url

    def gateway(self, tritons: list[str]) -> str:
        """Start a gateway in front of Tritons that run."""
        (port,) = free_ports(1)
        url = f"http://{HOST}:{port}"
        command = [CONCH, "serve", "--triton-url", ",".join(tritons), "--port", str(port)]
        question = (f"{url}/v1/embeddings", json.dumps({"input": "ready"}).encode())
        self._stack.callback(Server(command, self.work / "gateway.log", question, self.work, {}).stop)
        return url

    def loads(self, url: str, rates: Sequence[float], *, unit: str = "word") -> dict[str, Any]:
        """Measure a gateway under every load, in rounds: what disturbs the machine disturbs few of them."""
        seen: list[list[Round]] = [
            [
                *(asyncio.run(_closed(url, clients, self.seconds, unit)) for clients in CLIENTS),
                *(uvloop.run(_open(url, per_s, self.seconds, round_, unit)) for per_s in rates),
            ]
            for round_ in range(ROUNDS)
        ]
        names: list[dict[str, float]] = [{"clients": clients} for clients in CLIENTS]
        names += [{"per_s": per_s} for per_s in rates]
        together = [_together(list(rounds)) for rounds in zip(*seen, strict=True)]
        loads = [{**name, "seconds": self.seconds, **of} for name, of in zip(names, together, strict=True)]
        return {"loads": loads}


@dataclass
class Round:
    """One round of a load.

    Attributes:
        latencies_s: Of the requests that were answered.
        took_s: From the first request to the last answer.
        failed: Requests that were not answered.
        others_cores: Cores that other processes used meanwhile.
    """

    latencies_s: list[float]
    took_s: float
    failed: int
    others_cores: float

    def figures(self) -> dict[str, float]:
        """Return what is compared."""
        latencies = {f"p{percent}_ms": 1e3 * percentile(self.latencies_s, percent) for percent in (50, 99)}
        return {"answered_per_s": len(self.latencies_s) / self.took_s, **latencies}


def _together(rounds: list[Round]) -> dict[str, Any]:
    """Return figures of the rounds that nothing disturbed together, and of each; else of the least disturbed one."""
    # Chosen by what disturbed them, not by what they came to.
    most = max(DISTURBED_CORES, min(one.others_cores for one in rounds))
    counted = [one for one in rounds if one.others_cores <= most]
    latencies = [latency for one in counted for latency in one.latencies_s]
    together = Round(latencies, sum(one.took_s for one in counted), sum(one.failed for one in counted), 0.0)
    return {
        **together.figures(),
        "failed": together.failed,
        "rounds": [
            {**one.figures(), "others_cores": one.others_cores, "counted": one.others_cores <= most} for one in rounds
        ],
    }


async def _closed(url: str, clients: int, seconds: float, unit: str) -> Round:
    texts = traces.texts(traces.lengths(), unit=unit)
    async with target_of(url, None, [[text] for text in texts], clients) as target:
        await closed_loop(target.send, clients=clients, seconds=WARM_UP_S)
        disturbance = Disturbance()
        load = await closed_loop(target.send, clients=clients, seconds=seconds)
    return Round(load.latencies_s, load.seconds, sum(load.errors.values()), disturbance.cores())


async def _open(url: str, per_s: float, seconds: float, round_: int, unit: str) -> Round:
    connections: list[Connection] = []
    await send(url, traces.trace(per_s, WARM_UP_S, WARM_UP_ROUND), connections, unit=unit)
    disturbance = Disturbance()
    latencies, failures, took_s = await send(url, traces.trace(per_s, seconds, round_), connections, unit=unit)
    for connection in connections:
        connection.close()
    return Round(latencies, took_s, len(failures), disturbance.cores())


def single(session: Session) -> dict[str, Any]:
    """`conch serve` with its defaults."""
    triton, gateway = session.conch(_repository(session.work))
    profile = asyncio.run(measured(triton, gateway, MODEL, lambda *_: None))
    return {"profile": asdict(profile), **session.loads(gateway, RATES)}


def tritons(session: Session) -> dict[str, Any]:
    """Three embedded Tritons with one instance each, behind one gateway, all on this machine."""
    found = [session.conch(_repository(session.work), cores=1)[0] for _ in range(3)]
    return session.loads(session.gateway(found), RATES)


def stand_ins(session: Session) -> dict[str, Any]:
    """Three stand-ins behind one gateway; the profile is of one of them, behind another."""
    urls = [f"{HOST}:{port}" for port in free_ports(3)]
    ports = [url.rpartition(":")[2] for url in urls]
    session.run([sys.executable, "-m", stand_in.__name__, str(STAND_IN_S), *ports])
    profile = asyncio.run(measured(urls[0], session.gateway(urls[:1]), stand_in.MODEL, lambda *_: None))
    loads = session.loads(session.gateway(urls), STAND_IN_RATES, unit="byte")
    return {"profile": asdict(profile), **loads}


def _repository(work: Path) -> Path:
    """A repository of its own, in which `conch serve` may write the number of instances, with the one model."""
    folder = Path(tempfile.mkdtemp(dir=work))
    for path in (ROOT / "model_repository").glob(f"{MODEL}*"):
        if path.name.removeprefix(MODEL)[:1] in {"", "."}:
            shutil.copytree(path, folder / path.name, ignore=shutil.ignore_patterns("configs"))
    return folder


DEPLOYMENTS: dict[str, Callable[[Session], dict[str, Any]]] = {
    "single": single,
    "tritons": tritons,
    "stand-ins": stand_ins,
}


def main() -> None:
    """Measure some and put them into the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("deployments", nargs="+", choices=DEPLOYMENTS)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each load in each round")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))  # so that servers are stopped
    for name in arguments.deployments:
        with tempfile.TemporaryDirectory() as place, ExitStack() as stack:
            found = DEPLOYMENTS[name](Session(stack, Path(place), arguments.seconds))
        _save(name, found, arguments.seconds)
        print(name, json.dumps(found.get("loads"), indent=1))


def _save(name: str, found: dict[str, Any], seconds: float) -> None:
    about = measured_by(f"python -m benchmarks.simulation.measure {name} --seconds {seconds:g}")
    result = json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.exists() else {}
    result[name] = about | found
    RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
