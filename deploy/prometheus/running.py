"""Debian's Prometheus over a `conch serve` on this machine, with the configuration and the rules of this folder."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from typing_extensions import Self

FOLDER = Path(__file__).parent
START_TIMEOUT_S = 60
POLL_S = 0.05
DIRECTLY = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Prometheus:
    """A context manager inside which it scrapes every second.

    Args:
        folder: for its configuration, its data and its log.
        port: of 127.0.0.1 that it listens on.
        targets: `host:port` of each job of static.yml.
        key: that the gateway's metrics need; empty for none.
    """

    def __init__(self, folder: Path, port: int, targets: dict[str, str], key: str = "") -> None:
        self._url = f"http://127.0.0.1:{port}"
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        configuration = yaml.safe_load((FOLDER / "static.yml").read_text(encoding="utf-8"))
        configuration["global"] = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
        configuration["rule_files"] = [str(FOLDER / "rules" / "*.yml")]
        for job in configuration["scrape_configs"]:
            job["static_configs"] = [{"targets": [targets[job["job_name"]]]}]
            if key and job["job_name"] == "conch-gateway":
                (folder / "key").write_text(key, encoding="utf-8")
                job["authorization"] = {"credentials_file": str(folder / "key")}
        (folder / "prometheus.yml").write_text(yaml.safe_dump(configuration), encoding="utf-8")
        self._command = [
            *("setpriv", "--pdeathsig", "KILL"),  # it ends at the latest with who has started it
            *("prometheus", f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}"),
            *(f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn"),
        ]

    def query(self, query: str) -> list[dict[str, Any]]:
        """Return the series that a query has now, each with its `metric` and its `value`."""
        return self._asked("query", query=query)

    def query_range(self, query: str, begin: float, end: float, step_s: float) -> list[dict[str, Any]]:
        """Return the series between two times, each with its `metric` and its `values`."""
        return self._asked("query_range", query=query, start=begin, end=end, step=step_s)

    def __enter__(self) -> Self:
        if shutil.which("prometheus") is None:
            message = "prometheus is missing; install Debian's package of that name (apt-get install prometheus)"
            raise FileNotFoundError(message)
        with (self._folder / "log").open("wb") as log:
            self._process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._is_ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self._end()
                message = f"prometheus did not start: {(self._folder / 'log').read_text(errors='replace')}"
                raise RuntimeError(message)
            time.sleep(POLL_S)
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()  # its data are not kept
            self._process.wait()

    def _is_ready(self) -> bool:
        try:
            with DIRECTLY.open(f"{self._url}/-/ready", timeout=5):
                return True
        except OSError:
            return False

    def _asked(self, path: str, **parameters: object) -> list[dict[str, Any]]:
        url = f"{self._url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        with DIRECTLY.open(url, timeout=30) as answer:
            found: list[dict[str, Any]] = json.load(answer)["data"]["result"]
        return found
