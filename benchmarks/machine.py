"""Where a result was measured: machine, versions, revision."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import platform
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
from conch_contract import usable_cores

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).parent.parent
PACKAGES = (
    "conch",
    "fastapi",
    "grpcio",
    "numpy",
    "nvidia-pytriton",
    "onnx",
    "onnxruntime",
    "tokenizers",
    "tritonclient",
)
FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8")


def measured_by(command: str, **peers: str) -> dict[str, Any]:
    """Where and when a result was measured: what every file of results begins with; `peers` are further versions."""
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "command": command,
        "git": revision(),
        "machine": machine(),
        "versions": versions() | peers,
    }


def keep(path: Path, command: str, measured: Mapping[str, Any], **peers: str) -> None:
    """Write what was measured into the file, after where and when (see `measured_by`), and print it."""
    path.write_text(json.dumps({**measured_by(command, **peers), **measured}, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(measured, indent=1))


def machine() -> dict[str, Any]:
    """Processor, its cores that this process may use, memory, system."""
    fields = _cpuinfo()
    flags = fields.get("flags", "").split()
    return {
        "cpu": fields.get("model name", platform.processor()),
        "cpu_family_model": f"{fields.get('cpu family', '?')}/{fields.get('model', '?')}",
        "flags": [flag for flag in FLAGS if flag in flags],
        "avx512_vnni": "avx512_vnni" in flags,
        "cores": usable_cores(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": platform.platform(),
        "load_before": psutil.getloadavg()[0],
    }


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that conch runs on."""
    return {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in PACKAGES}


def revision() -> dict[str, Any]:
    """The git revision, and whether the tree differs from it, results of measurements aside."""
    changed = _git("status", "--porcelain", "--", ".", ":!benchmarks/results")
    return {"revision": _git("rev-parse", "HEAD"), "dirty": bool(changed)}


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=False)
    return done.stdout.strip()


def _cpuinfo() -> dict[str, str]:
    try:
        first = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n\n", 1)[0]
    except OSError:
        return {}
    pairs = (line.partition(":") for line in first.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}
