"""Seconds from a bare clone until it serves, and until its tests have passed; written to `results/setup.json`.

    python benchmarks/cold_start.py

The commit that is checked out (nothing uncommitted) is cloned twice into a temporary folder, once for `make serve` and
once for `make test`. Each is timed twice: cold, with empty caches of pip and of Hugging Face, and again. Ports are free
ones, so that no running service is touched. Needs git, make and the standard library; a cold run downloads gigabytes.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import os
import platform
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks" / "results" / "setup.json"
PACKAGES = ("conch", "nvidia-pytriton", "onnxruntime", "optimum-onnx", "torch", "transformers", "pip")
# What would make the clone use something of this checkout or of this session.
LEFT_OUT = re.compile(r"CONCH_|MAKE|MFLAGS|VIRTUAL_ENV|PYTHON|HF_HUB_CACHE|TRANSFORMERS_CACHE")
POLL_S = 0.1
STOP_S = 60
TAIL_LINES = 30


class FailedError(Exception):
    """A command failed; the message ends with its last output."""


@dataclass(frozen=True)
class Clone:
    """A bare clone and the environment for its commands."""

    folder: Path
    environment: Mapping[str, str]

    @classmethod
    def make(cls, place: Path) -> Clone:
        """Clone into `place`, with caches of its own beside it."""
        source = ["git", "clone", "--quiet", "--depth=1", ROOT.as_uri(), str(place / "conch")]
        subprocess.run(source, check=True)
        kept = {name: value for name, value in os.environ.items() if not LEFT_OUT.match(name)}
        own = {"PIP_CACHE_DIR": str(place / "pip"), "HF_HOME": str(place / "hugging-face")}
        return cls(place / "conch", {**kept, **own})

    def commit(self) -> str:
        """The commit that was cloned."""
        ask = ["git", "rev-parse", "HEAD"]
        return subprocess.run(ask, cwd=self.folder, check=True, capture_output=True, text=True).stdout.strip()

    def versions(self) -> dict[str, str]:
        """Versions of Python and of the packages that its commands installed."""
        code = f"import importlib.metadata as m, json; print(json.dumps({{n: m.version(n) for n in {PACKAGES!r}}}))"
        python = self.folder / ".venv" / "bin" / "python"
        found = subprocess.run([python, "-c", code], check=True, capture_output=True, text=True).stdout
        version = subprocess.run([python, "--version"], check=True, capture_output=True, text=True).stdout
        return {"python": version.split()[1], **json.loads(found)}


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as opened:
        sockets = [opened.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [one.getsockname()[1] for one in sockets]


@contextlib.contextmanager
def running(clone: Clone, target: str, **environment: str) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """`make target` and its log; processes left at the end are stopped, and killed if they do not stop."""
    log = clone.folder.parent / f"{target}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["make", target], cwd=clone.folder, env={**clone.environment, **environment},
            stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    try:
        yield process, log
    finally:
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(STOP_S)


def serve_s(clone: Clone, timeout_s: float) -> float:
    """Seconds from `make serve` until the gateway says that every model answers."""
    ports = dict(zip(("CONCH_PORT", "CONCH_TRITON_GRPC_PORT", "CONCH_TRITON_METRICS_PORT"), free_ports(3), strict=True))
    began = time.monotonic()
    with running(clone, "serve", **{name: str(port) for name, port in ports.items()}) as (process, log):
        while not answers(f"http://127.0.0.1:{ports['CONCH_PORT']}/health/ready"):
            if process.poll() is not None:
                raise FailedError(f"make serve ended with status {process.returncode}:\n{tail(log)}")
            if time.monotonic() - began > timeout_s:
                raise FailedError(f"make serve is not ready after {timeout_s:g} s:\n{tail(log)}")
            time.sleep(POLL_S)
        return time.monotonic() - began


def tests_s(clone: Clone, timeout_s: float) -> float:
    """Seconds that `make test` takes."""
    began = time.monotonic()
    with running(clone, "test") as (process, log):
        try:
            status = process.wait(timeout_s)
        except subprocess.TimeoutExpired as error:
            raise FailedError(f"make test has not ended after {timeout_s:g} s:\n{tail(log)}") from error
        if status:
            raise FailedError(f"make test ended with status {status}:\n{tail(log)}")
        return time.monotonic() - began


def answers(url: str) -> bool:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=30) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


def tail(log: Path) -> str:
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-TAIL_LINES:])


def measure(clone: Clone, seconds: Callable[[Clone, float], float], timeout_s: float) -> dict[str, float]:
    """Time a command twice in one clone: bare, and again."""
    found = {}
    for name in ("cold_s", "again_s"):
        found[name] = round(seconds(clone, timeout_s), 1)
        print(f"{seconds.__name__} {name}: {found[name]:g}", file=sys.stderr, flush=True)
    return found


def machine() -> dict[str, Any]:
    names = re.findall(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "processor": names[0] if names else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(memory / 2**30),
        "system": f"{platform.system()} {platform.release()}",
        "packages_from": "a package index" + (" and a local folder" if os.environ.get("PIP_FIND_LINKS") else ""),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--timeout-s", type=float, default=1800, help="of every single command (default: %(default)g)")
    timeout_s = parser.parse_args().timeout_s
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that running commands are stopped
    with tempfile.TemporaryDirectory(prefix="conch-cold-start-") as place:
        for name in ("serve", "test"):
            (Path(place) / name).mkdir()
        serving, testing = (Clone.make(Path(place) / name) for name in ("serve", "test"))
        try:
            commands = {
                "make serve": measure(serving, serve_s, timeout_s),
                "make test": measure(testing, tests_s, timeout_s),
            }
        except FailedError as error:
            print(error, file=sys.stderr)
            return 1
        result = {
            "command": "python benchmarks/cold_start.py",
            "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
            "commit": serving.commit(),
            "machine": machine(),
            "versions": serving.versions(),
            "commands": commands,
        }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(f"wrote {RESULT.relative_to(ROOT)}; make docs puts it into the README", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
