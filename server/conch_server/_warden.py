"""Owner of one tritonserver: a process of its own, which leaves nothing behind however it or its parent ends.

The supervisor holds the write end of the pipe that is the warden's standard input. When that closes, because the
supervisor stops or because it was killed, Triton gets its SIGTERM and time to finish; the byte `k` asks for SIGKILL.
Once tritonserver is gone, whatever the reason, its stubs are killed and its shared memory and folder are removed.

It is one small single-threaded process because both guarantees need that: PR_SET_PDEATHSIG follows the thread that
forked, and only a subreaper can wait for stubs whose parent died. It is run by its path, isolated, with the standard
library alone.
"""

from __future__ import annotations

import ctypes
import os
import select
import shutil
import signal
import sys
import time
from pathlib import Path

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  where Linux keeps shm_open's regions
# Triton ends by itself after its own exit timeout; this much later it is killed.
GRACE_S = 3.0


def release(prefix: str, folder: Path) -> None:
    """Remove the shared memory regions whose names begin with `prefix`, and the run's folder."""
    for region in SHARED_MEMORY.glob(f"{prefix}*"):
        region.unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


def kill_group(leader: int) -> None:
    """Kill the process group of `leader`, if any of it is left."""
    try:
        os.killpg(leader, signal.SIGKILL)
    except ProcessLookupError:
        return


def main(prefix: str, folder: str, exit_timeout_s: str, *command: str) -> int:
    """Run `command` until it ends or is to be stopped; return its exit status as a shell would."""
    prctl = ctypes.CDLL(None).prctl
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    wake = _wake_on_signals()
    pid = _spawn(command, prctl)
    os.write(1, f"{pid}\n".encode())
    os.close(1)
    status = _guard(pid, wake, float(exit_timeout_s) + GRACE_S)
    release(prefix, Path(folder))
    return status if status >= 0 else 128 - status


def _wake_on_signals() -> int:
    """Return a descriptor that gets a byte, the signal's number, for every signal that matters here."""
    receiver, sender = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(sender)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    return receiver


def _spawn(command: tuple[str, ...], prctl: ctypes._NamedFuncPointer) -> int:
    pid = os.fork()
    if pid:
        return pid
    os.setpgid(0, 0)
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(2, 1)
    try:
        os.execv(command[0], command)  # noqa: S606  no shell is wanted
    except OSError as error:
        os.write(2, f"cannot run {command[0]}: {error}\n".encode())
    os._exit(127)


def _guard(pid: int, wake: int, patience_s: float) -> int:
    """Wait for the end of `pid`, pass on what is asked, and reap it and all its descendants."""
    sources, deadline = [0, wake], float("inf")
    while os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None:
        left = max(0.0, deadline - time.monotonic()) if deadline < float("inf") else None
        ready = select.select(sources, [], [], left)[0]
        asked = _asked(ready, sources)
        if "kill" in asked or not ready:
            kill_group(pid)
            deadline = float("inf")
        elif "stop" in asked and deadline == float("inf"):
            os.kill(pid, signal.SIGTERM)
            deadline = time.monotonic() + patience_s
    # Not reaped yet, so the group's number cannot have been given to somebody else.
    kill_group(pid)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    _reap_all()
    return status


def _asked(ready: list[int], sources: list[int]) -> set[str]:
    asked = set()
    for source in ready:
        received = os.read(source, 64)
        if source == 0:
            asked.add("kill" if b"k" in received else "stop")
            if not received:
                sources.remove(source)
        elif set(received) - {signal.SIGCHLD}:
            asked.add("stop")
    return asked


def _reap_all() -> None:
    try:
        while True:
            os.wait()
    except ChildProcessError:
        return


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
