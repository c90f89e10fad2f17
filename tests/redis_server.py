"""Debian's redis-server, as a process of its own on a free port, with a password and nothing on the disk."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
import redis

from tests.serving import WITH_ITS_PARENT, free_ports
from tests.waiting import until

if TYPE_CHECKING:
    import signal
    from pathlib import Path

PASSWORD = "passw0rd-of-redis-in-tests"


class RedisServer:
    """Entered, it answers; left, it has ended.

    `start` may be called again after `stop`, with nothing left of what was stored.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        (self._port,) = free_ports(1)
        self.url = f"redis://:{PASSWORD}@127.0.0.1:{self._port}/0"
        self.client: Any = redis.Redis.from_url(self.url)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        program = shutil.which("redis-server")
        if program is None:
            pytest.fail("there is no redis-server on the PATH; install it: apt-get install redis-server")
        command = [program, "--bind", "127.0.0.1", "--port", str(self._port), "--requirepass", PASSWORD, "--save", ""]
        with (self._folder / "redis.log").open("ab") as log:
            self._process = subprocess.Popen([*WITH_ITS_PARENT, *command], cwd=self._folder, stdout=log, stderr=log)
        until(self._answers)

    def stop(self) -> None:
        self.client.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal: SIGSTOP makes it hang, SIGCONT go on."""
        assert self._process is not None, "it was never started"
        self._process.send_signal(number)

    def __enter__(self) -> RedisServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except redis.RedisError:
            return False
