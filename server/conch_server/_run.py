"""One start of tritonserver, from its folder to its end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import secrets
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

import anyio

from conch_server import _warden
from conch_server._arguments import secret_argument, triton_arguments
from conch_server._errors import StartError
from conch_server._processes import until_gone

if TYPE_CHECKING:
    from pathlib import Path

    from conch_server._log import TritonLog
    from conch_server._settings import ServerSettings
    from conch_server._wheel import Wheel

# A warden that takes longer to obey has been stopped (SIGSTOP), and is killed.
OBEY_S = 3.0


@dataclass
class TritonRun:
    """A tritonserver and its warden; all that they used has been removed when `wait` returns.

    All methods may be called at any time, whichever processes have ended and whichever files are gone.
    """

    name: str
    _warden: asyncio.subprocess.Process
    _orders: BinaryIO
    _folder: Path
    _exit_timeout_s: float
    pid: int = 0

    @classmethod
    async def start(cls, settings: ServerSettings, wheel: Wheel, log: TritonLog, cores: int) -> TritonRun:
        """Start the process, with models fitted to so many cores, and return before it is ready; raise ServingError."""
        name = f"conch-{os.getpid()}-{settings.triton_grpc_port}-{secrets.token_hex(4)}"
        folder = settings.run_directory.absolute() / name
        arguments = triton_arguments(settings, backends=wheel.copy_backends(folder), name=name, cores=cores)
        command = [str(wheel.tritonserver), *arguments, _warden.SECRET_ARGUMENT]
        # asyncio's event loops differ in what happens on writing to a process that has ended, so this is our own pipe.
        reader, writer = os.pipe()
        orders = os.fdopen(writer, "wb", buffering=0)
        try:
            with log.open() as output:
                warden = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-I", "-S", _warden.__file__),
                    *(f"{name}-", str(folder), str(settings.exit_timeout_s), *command),
                    stdin=reader,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=output,
                    env=_environment(settings, wheel),
                    # Ctrl-C in the terminal is for the supervisor, which stops Triton in order.
                    start_new_session=True,
                )
        except BaseException:
            orders.close()
            # The warden, which would remove it, has not started.
            _warden.release(f"{name}-", folder)
            raise
        finally:
            os.close(reader)
        run = cls(name, warden, orders, folder, settings.exit_timeout_s)
        try:
            run.pid = await _announced_pid(warden, log, settings.start_timeout_s)
        except BaseException:
            # Cancelled or failed, a tritonserver that has started is not left to itself.
            await asyncio.shield(run.kill())
            raise
        return run

    async def wait(self) -> int:
        """Wait for the end of tritonserver and of all its processes; return its exit status as a shell reports it."""
        status = await self._warden.wait()
        self._orders.close()
        if self.pid and (status < 0 or self._folder.exists()):  # the warden was killed before it could clean up
            _warden.kill_group(self.pid)
            await until_gone(self.pid, OBEY_S)  # before that, the next start would find its ports taken
        _warden.release(f"{self.name}-", self._folder)
        return status

    async def stop(self) -> int:
        """Let requests in flight finish, within the exit timeout, and return the exit status."""
        return await self._end(b"s", within_s=self._exit_timeout_s + _warden.GRACE_S + OBEY_S)

    async def kill(self) -> int:
        """Kill it and return the exit status."""
        return await self._end(b"k", within_s=OBEY_S)

    def abort(self) -> None:
        """Kill it, without waiting until it is gone."""
        with contextlib.suppress(OSError, ValueError):  # the warden has ended, or the pipe is closed
            self._orders.write(b"k")

    async def _end(self, order: bytes, within_s: float) -> int:
        with contextlib.suppress(OSError, ValueError):
            self._orders.write(order)
        try:
            with anyio.fail_after(within_s):
                return await self.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                self._warden.kill()
            return await self.wait()


def remove_leftovers(settings: ServerSettings, log: TritonLog) -> None:
    """Remove folders and shared memory of runs at this port whose warden was killed together with its supervisor."""
    if not log.in_use:
        for folder in settings.run_directory.absolute().glob("*conch-*"):
            if re.fullmatch(rf"\.?conch-\d+-{settings.triton_grpc_port}-[0-9a-f]+", folder.name):
                _warden.release(f"{folder.name}-", folder)


def _environment(settings: ServerSettings, wheel: Wheel) -> dict[str, str]:
    # Triton needs none of our settings, and some are secrets.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("CONCH_")}
    known = settings.triton_admin_key
    # Without a key of the settings, nobody knows the key, and what is restricted stays closed.
    key = secrets.token_hex(16) if known is None else known.get_secret_value()
    secret = secret_argument(key, loads_on_demand=known is not None)
    return {**inherited, **wheel.environment(), _warden.IN_ENVIRONMENT: secret}


async def _announced_pid(warden: asyncio.subprocess.Process, log: TritonLog, timeout_s: float) -> int:
    """Return the process id of tritonserver, the only line that the warden writes; raise StartError."""
    try:
        with anyio.fail_after(timeout_s):
            line = await warden.stdout.readline() if warden.stdout else b""
    except TimeoutError as error:
        msg = f"the warden of Triton has not started it within {timeout_s:g} s; raise CONCH_START_TIMEOUT_S"
        raise StartError(msg) from error
    # A line without its end was cut short by the warden's own end.
    if not line.endswith(b"\n"):
        last = log.last_lines()[-1:]
        raise StartError(": ".join([f"the warden of Triton ended with status {await warden.wait()}", *last]))
    return int(line)
