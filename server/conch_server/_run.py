"""One start of tritonserver, from its folder to its end."""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
from typing import TYPE_CHECKING

from . import _warden
from ._arguments import TritonCommand
from ._backends import assemble_backends
from ._errors import StartError

if TYPE_CHECKING:
    from pathlib import Path

    from ._log import TritonLog
    from ._settings import ServerSettings
    from ._wheel import Wheel


class TritonRun:
    """A tritonserver and its warden; whatever it used is gone when `wait` returns."""

    def __init__(self, warden: asyncio.subprocess.Process, pid: int, folder: Path, shm_prefix: str) -> None:
        self.pid = pid
        self._warden = warden
        self._folder = folder
        self._shm_prefix = shm_prefix

    @classmethod
    async def start(cls, settings: ServerSettings, wheel: Wheel, log: TritonLog) -> TritonRun:
        """Start the process; it is not ready yet."""
        name = f"conch-{os.getpid()}-{secrets.token_hex(4)}"
        folder = settings.run_directory.absolute() / name
        folder.parent.mkdir(parents=True, exist_ok=True)
        command = TritonCommand.from_settings(
            settings,
            admin_key=_admin_key(settings),
            backend_directory=assemble_backends(wheel, folder),
            shm_prefix=f"{name}-",
        )
        program = [sys.executable, "-I", "-S", _warden.__file__]
        arguments = [f"{name}-", str(folder), str(settings.exit_timeout_s), str(wheel.tritonserver)]
        with log.open() as output:
            warden = await asyncio.create_subprocess_exec(
                *program,
                *arguments,
                *command.arguments(),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=output,
                env={**os.environ, **wheel.environment()},
                # Ctrl-C in the terminal is for the supervisor, which stops Triton in order.
                start_new_session=True,
            )
        try:
            pid = await _announced(warden, log)
        except BaseException:
            if warden.stdin is not None:
                warden.stdin.close()
            await asyncio.shield(warden.wait())
            raise
        return cls(warden, pid, folder, f"{name}-")

    async def wait(self) -> int:
        """Wait for the end of tritonserver and of all that it started; return its exit status as a shell would."""
        status = await self._warden.wait()
        if self._folder.exists():  # the warden was killed before it could clean up
            _warden.kill_group(self.pid)
            _warden.release(self._shm_prefix, self._folder)
        return status

    async def stop(self) -> int:
        """Let requests in flight finish, within the exit timeout, and return the exit status."""
        if self._warden.stdin is not None:
            self._warden.stdin.close()
        return await self.wait()

    async def kill(self) -> int:
        """End it at once."""
        if self._warden.stdin is not None:
            self._warden.stdin.write(b"k")
        return await self.wait()


def _admin_key(settings: ServerSettings) -> str:
    """The key of the settings, or one that nobody is told: what is restricted then stays closed."""
    key = settings.triton_admin_key
    return secrets.token_hex(16) if key is None else key.get_secret_value()


async def _announced(warden: asyncio.subprocess.Process, log: TritonLog) -> int:
    """Return the process id of tritonserver, which the warden writes as its only line."""
    line = await warden.stdout.readline() if warden.stdout else b""
    if not line:
        raise StartError(f"the warden of Triton ended with status {await warden.wait()}\n{log.tail()}")
    return int(line)
