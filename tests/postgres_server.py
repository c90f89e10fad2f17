"""Debian's postgres, as a process of its own on a free port; as root it runs as another user, which it insists on."""

from __future__ import annotations

import fcntl
import os
import pwd
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from tests.serving import WITH_ITS_PARENT, free_ports
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

PASSWORD = "passw0rd-of-postgres-in-tests"
USER = "conch"
_SETTINGS = (
    *("fsync=off", "full_page_writes=off", "autovacuum=off", "unix_socket_directories=", "listen_addresses=127.0.0.1"),
    "dynamic_shared_memory_type=mmap",  # killed, it leaves nothing in /dev/shm
)


class PostgresServer:
    """Entered, it answers; left, it has ended and its files are gone.

    Args:
        made: What `initdb` makes, which takes seconds; the first of all workers that needs it puts it there.
    """

    def __init__(self, made: Path) -> None:
        self._made = made
        (self._port,) = free_ports(1)
        self._numbers = count()
        self._folder = Path(tempfile.mkdtemp(prefix="conch-postgres-"))
        self._process: subprocess.Popen[bytes] | None = None

    def new_database(self) -> str:
        """Make an empty database and return its URL."""
        name = f"tests{next(self._numbers)}"
        self._run("createdb", "--host=127.0.0.1", f"--port={self._port}", f"--username={USER}", name)
        return f"postgresql+asyncpg://{USER}:{PASSWORD}@127.0.0.1:{self._port}/{name}"

    def start(self) -> None:
        data, log = self._folder / "data", self._folder / "postgres.log"
        if not data.exists():
            self._make(data)
        settings = [f"-c{setting}" for setting in _SETTINGS]
        command = [*_as_other_user(), _program("postgres"), "-D", str(data), "-p", str(self._port), *settings]
        with log.open("ab") as output:
            self._process = subprocess.Popen([*WITH_ITS_PARENT, *command], stdout=output, stderr=output)
        until(self._answers)

    def stop(self) -> None:
        """Let it end as when the machine does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    @contextmanager
    def hanging(self) -> Iterator[None]:
        """Inside the block it takes connections and answers nothing."""
        if self._process is None:
            pytest.fail("the server has not been started")
        processes = [psutil.Process(self._process.pid), *psutil.Process(self._process.pid).children(recursive=True)]
        for process in processes:
            process.suspend()
        try:
            yield
        finally:
            for process in processes:
                process.resume()

    def __enter__(self) -> PostgresServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        shutil.rmtree(self._folder)

    def _make(self, data: Path) -> None:
        secret = self._folder / "password"
        secret.write_text(PASSWORD)
        if os.geteuid() == 0:
            user = _other_user()
            for path in (self._folder, secret):
                os.chown(path, user.pw_uid, user.pw_gid)
        with self._made.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if self._made.exists():
                _copy(self._made, data)
            else:
                options = ("--auth=scram-sha-256", f"--pwfile={secret}", "--no-sync", "--locale=C", "--encoding=UTF8")
                self._run("initdb", f"--pgdata={data}", f"--username={USER}", *options)
                _copy(data, self._made)

    def _answers(self) -> bool:
        asked = [_program("pg_isready"), "--host=127.0.0.1", f"--port={self._port}", "--quiet"]
        return subprocess.run(asked, check=False).returncode == 0

    def _run(self, program: str, *arguments: str) -> None:
        command = [*_as_other_user(), _program(program), *arguments]
        environment = {"PGPASSWORD": PASSWORD, "PATH": "/usr/bin:/bin", "LC_ALL": "C"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd="/")
        assert done.returncode == 0, done.stderr


def _copy(folder: Path, copy: Path) -> None:
    """With owners, which differ from ours for root."""
    subprocess.run(["cp", "--archive", folder, copy], check=True)


def _other_user() -> pwd.struct_passwd:
    try:
        return pwd.getpwnam("postgres")
    except KeyError:
        return pwd.getpwnam("nobody")


def _as_other_user() -> list[str]:
    if os.geteuid() != 0:
        return []
    user = _other_user()
    return ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]


def _program(name: str) -> str:
    """Debian keeps most of them off the PATH, in a folder for each version."""
    found = [path for path in Path("/usr/lib/postgresql").glob(f"*/bin/{name}") if os.access(path, os.X_OK)]
    program = str(max(found, key=lambda path: int(path.parts[-3]))) if found else shutil.which(name)
    if program is None:
        pytest.fail(f"there is no {name}; install Debian's package postgresql (apt-get install postgresql)")
    return program
