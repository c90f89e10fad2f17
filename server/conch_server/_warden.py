"""Owner of one tritonserver: a process of its own, which leaves nothing behind however it or its parent ends.

The supervisor holds the write end of the pipe that is the warden's standard input. The byte `s` asks for Triton's
SIGTERM and gives it time to finish; `k` asks for SIGKILL, as does the end of the pipe when the supervisor dies.
Once tritonserver is gone, whatever the reason, its stubs are killed and its shared memory and folder are removed.

It is one small single-threaded process because both guarantees need that: PR_SET_PDEATHSIG follows the thread that
forked, and only a subreaper can wait for stubs whose parent died. It is run by its path, isolated, with the standard
library alone.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import shutil
import signal
import sys
import time
from pathlib import Path

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
PTRACE_TRACEME, PTRACE_DETACH = 0, 17
# Everybody can read a command line, but only the same user an environment. So the command has this word, which
# tritonserver would refuse, where an argument with a secret belongs, and the environment has the argument.
SECRET_ARGUMENT, IN_ENVIRONMENT = "--secret-argument", "CONCH_SECRET_ARGUMENT"
START_STACK, ENV_START, ENV_END = 25, 47, 48  # of /proc/PID/stat after the name, proc(5)
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  where Linux keeps shm_open's regions
# Triton ends by itself after its own exit timeout; this much later it is killed.
GRACE_S = 3.0


def release(prefix: str, folder: Path) -> None:
    """Remove the shared memory regions whose names begin with `prefix`, and the run's folder."""
    for region in SHARED_MEMORY.glob(f"{prefix}*"):
        with contextlib.suppress(OSError):
            region.unlink()
    shutil.rmtree(folder, ignore_errors=True)


def kill_group(leader: int) -> None:
    """Kill the process group of `leader`, if any of it is left."""
    try:
        os.killpg(leader, signal.SIGKILL)
    except ProcessLookupError:
        return


def main(prefix: str, folder: str, exit_timeout_s: str, *command: str) -> int:
    """Run `command` until it ends or is to be stopped; return its exit status as a shell would."""
    libc = ctypes.CDLL(None)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    wake = _wake_on_signals()
    pid = _spawn(command, libc)
    with contextlib.suppress(BrokenPipeError):  # the supervisor has died; the end of its pipe follows
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


def _spawn(command: tuple[str, ...], libc: ctypes.CDLL) -> int:
    hides = SECRET_ARGUMENT in command and _may_trace(libc)
    if not hides:
        command = tuple(os.environ[IN_ENVIRONMENT] if word == SECRET_ARGUMENT else word for word in command)
    warden, pid = os.getpid(), os.fork()
    if pid:
        with contextlib.suppress(PermissionError):  # it has done so itself, and runs the command already
            os.setpgid(pid, pid)
        if hides:
            _put_secret(pid, command.index(SECRET_ARGUMENT), libc)
        return pid
    os.setpgid(0, 0)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != warden:
        os._exit(127)
    if hides:
        libc.ptrace(PTRACE_TRACEME, 0, None, None)  # it stops when it has become the command
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(2, 1)
    try:
        os.execv(command[0], command)  # noqa: S606  no shell is wanted
    except OSError as error:
        os.write(2, f"cannot run {command[0]}: {error}\n".encode())
    os._exit(127)


def _may_trace(libc: ctypes.CDLL) -> bool:
    """Whether this system lets a process be traced by its parent; says on the log if it does not."""
    pid = os.fork()
    if not pid:
        os._exit(0 if libc.ptrace(PTRACE_TRACEME, 0, None, None) == 0 else 1)
    allowed = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    if not allowed:
        os.write(2, b"ptrace is forbidden here: other users can read Triton's key in its command line\n")
    return allowed


def _put_secret(pid: int, index: int, libc: ctypes.CDLL) -> None:
    """Let argument `index` of a process that has not run yet be the string that its environment has for it."""
    change = os.waitid(os.P_PID, pid, os.WEXITED | os.WSTOPPED | os.WNOWAIT)
    if change is None or change.si_code != os.CLD_TRAPPED:  # it could not be run, which is told elsewhere
        return
    if change.si_status != signal.SIGTRAP:  # a signal came first
        os.kill(pid, signal.SIGKILL)
        return
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    stack, begin, end = (int(fields[field]) for field in (START_STACK, ENV_START, ENV_END))
    with Path(f"/proc/{pid}/mem").open("r+b", buffering=0) as memory:
        memory.seek(begin)
        environment = b"\0" + memory.read(end - begin)
        name = f"\0{IN_ENVIRONMENT}=".encode()
        value = begin - 1 + environment.index(name) + len(name)
        memory.seek(stack + 8 * (1 + index))  # the number of arguments, and a pointer to each
        memory.write(value.to_bytes(8, "little"))
    libc.ptrace(PTRACE_DETACH, pid, None, None)


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
            # Without a supervisor nothing may keep the ports from the next one, an orderly end of some seconds neither.
            asked.add("stop" if received == b"s" else "kill")
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
