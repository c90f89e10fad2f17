"""One start of tritonserver, from its folder to its end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import sys
from typing import TYPE_CHECKING, BinaryIO

from conch_server import _warden
from conch_server._arguments import TritonCommand
from conch_server._backends import assemble_backends
from conch_server._errors import StartError
from conch_server._processes import until_gone

if TYPE_CHECKING:
    from pathlib import Path

    from conch_server._log import TritonLog
    from conch_server._settings import ServerSettings
    from conch_server._wheel import Wheel

# What a warden takes to do as it is told; one that takes longer has been stopped, and is killed.
OBEY_S = 3.0


class TritonRun:
    """A tritonserver and its warden; whatever it used is gone when `wait` returns.

    All methods may be called at any time, whatever has ended, been killed or been deleted in the meantime. Orders go
    through a pipe of our own: asyncio's loops disagree on what writing to a process that has ended does.
    """

    def __init__(
        self, name: str, warden: asyncio.subprocess.Process, orders: BinaryIO, folder: Path, exit_timeout_s: float
    ) -> None:
        self.name = name
        self.pid = 0
        self._warden = warden
        self._orders = orders
        self._folder = folder
        self._exit_timeout_s = exit_timeout_s

    @classmethod
    async def start(cls, settings: ServerSettings, wheel: Wheel, log: TritonLog) -> TritonRun:
        """Start the process; it is not ready yet."""
        name = f"conch-{os.getpid()}-{secrets.token_hex(4)}"
        folder = settings.run_directory.absolute() / name
        command = TritonCommand.from_settings(
            settings,
            admin_key=_admin_key(settings),
            backend_directory=assemble_backends(wheel, folder),
            name=name,
        )
        program = [sys.executable, "-I", "-S", _warden.__file__]
        arguments = [f"{name}-", str(folder), str(settings.exit_timeout_s), str(wheel.tritonserver)]
        # Of our own settings Triton needs none, and some are secrets.
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("CONCH_")}
        secret = {_warden.IN_ENVIRONMENT: command.secret_argument()}
        environment = {**inherited, **wheel.environment(), **secret}
        told, tell = os.pipe()
        orders = os.fdopen(tell, "wb", buffering=0)
        try:
            with log.open() as output:
                warden = await asyncio.create_subprocess_exec(
                    *program,
                    *arguments,
                    *command.arguments(),
                    _warden.SECRET_ARGUMENT,
                    stdin=told,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=output,
                    env=environment,
                    # Ctrl-C in the terminal is for the supervisor, which stops Triton in order.
                    start_new_session=True,
                )
        except BaseException:
            orders.close()
            _warden.release(f"{name}-", folder)
            raise
        finally:
            os.close(told)
        run = cls(name, warden, orders, folder, settings.exit_timeout_s)
        try:
            run.pid = await asyncio.wait_for(_announced(warden, log), settings.start_timeout_s)
        except BaseException:
            await asyncio.shield(run.kill())
            raise
        return run

    async def wait(self) -> int:
        """Wait for the end of tritonserver and of all that it started; return its exit status as a shell would."""
        status = await self._warden.wait()
        self._orders.close()
        if self.pid and (status < 0 or self._folder.exists()):  # the warden was killed before it could clean up
            _warden.kill_group(self.pid)
            await until_gone(self.pid, OBEY_S)  # or the next one finds its ports taken
        _warden.release(f"{self.name}-", self._folder)
        return status

    async def stop(self) -> int:
        """Let requests in flight finish, within the exit timeout, and return the exit status."""
        return await self._told(b"s", within_s=self._exit_timeout_s + _warden.GRACE_S + OBEY_S)

    async def kill(self) -> int:
        """End it at once; return the exit status."""
        return await self._told(b"k", within_s=OBEY_S)

    def abort(self) -> None:
        """Have it end at once, without waiting for that."""
        self._order(b"k")

    def _order(self, order: bytes) -> None:
        with contextlib.suppress(OSError, ValueError):  # nobody reads it any more, or all is over
            self._orders.write(order)

    async def _told(self, order: bytes, within_s: float) -> int:
        self._order(order)
        try:
            return await asyncio.wait_for(self.wait(), within_s)
        except asyncio.TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                self._warden.kill()
            return await self.wait()


def _admin_key(settings: ServerSettings) -> str:
    """The key of the settings, or one that nobody is told: what is restricted then stays closed."""
    key = settings.triton_admin_key
    return secrets.token_hex(16) if key is None else key.get_secret_value()


async def _announced(warden: asyncio.subprocess.Process, log: TritonLog) -> int:
    """Return the process id of tritonserver, which the warden writes as its only line."""
    line = await warden.stdout.readline() if warden.stdout else b""
    if not line.endswith(b"\n"):
        last = log.last_lines()[-1:]
        raise StartError(": ".join([f"the warden of Triton ended with status {await warden.wait()}", *last]))
    return int(line)
