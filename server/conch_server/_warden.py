"""Parent process of one tritonserver, which leaves nothing behind however Triton, the supervisor or itself ends.

The supervisor holds the write end of the pipe that is the warden's standard input. The byte `s` makes the warden send
SIGTERM to Triton and give it time to finish; `k` makes it send SIGKILL, as does the end of the pipe when the supervisor
dies. Once tritonserver is gone, for whatever reason, its stubs are killed and its shared memory and folder are removed.

It is a process of its own with a single thread because PR_SET_PDEATHSIG applies to the end of the thread that forked,
and because only a subreaper can wait for stubs whose parent has died. It is run by its path, in isolated mode, and
imports the standard library only.
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
# Every user can read a command line, but only the same user an environment. So the command line has this placeholder,
# which tritonserver would refuse, in place of the argument with the secret, and the environment has the argument.
SECRET_ARGUMENT, IN_ENVIRONMENT = "--secret-argument", "CONCH_SECRET_ARGUMENT"
START_STACK, ENV_START, ENV_END = 25, 47, 48  # of /proc/PID/stat after the name, proc(5)
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  where Linux keeps shm_open's regions
# Triton ends by itself after its own exit timeout; if it does not, it is killed this much later.
GRACE_S = 3.0


def release(prefix: str, folder: Path) -> None:
    """Remove the shared memory regions whose names begin with `prefix`, and the folder of the run."""
    for region in SHARED_MEMORY.glob(f"{prefix}*"):
        with contextlib.suppress(OSError):
            region.unlink()
    shutil.rmtree(folder, ignore_errors=True)


def kill_group(leader: int) -> None:
    """Kill the process group of `leader`, if it still has members."""
    try:
        os.killpg(leader, signal.SIGKILL)
    except ProcessLookupError:
        return


def main(prefix: str, folder: str, exit_timeout_s: str, *command: str) -> int:
    """Run `command` until it ends or an order ends it; return its exit status as a shell reports it."""
    libc = ctypes.CDLL(None)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    wake = _wake_on_signals()
    pid = _spawn(command, libc)
    with contextlib.suppress(BrokenPipeError):  # the supervisor has died; `_guard` sees the end of its pipe
        os.write(1, f"{pid}\n".encode())
    os.close(1)
    status = _guard(pid, wake, float(exit_timeout_s) + GRACE_S)
    release(prefix, Path(folder))
    return status if status >= 0 else 128 - status


def _wake_on_signals() -> int:
    """Return a descriptor that receives one byte, the signal's number, for each of the signals handled here."""
    receiver, sender = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(sender)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        # The descriptor gets a byte only for signals that have a handler in Python, even one that does nothing.
        signal.signal(number, lambda *_: None)
    return receiver


def _spawn(command: tuple[str, ...], libc: ctypes.CDLL) -> int:
    hide = SECRET_ARGUMENT in command and _may_trace(libc)
    if not hide:
        command = tuple(os.environ[IN_ENVIRONMENT] if word == SECRET_ARGUMENT else word for word in command)
    warden, pid = os.getpid(), os.fork()
    if pid:
        with contextlib.suppress(PermissionError):  # the child has done so itself, and runs the command already
            os.setpgid(pid, pid)
        if hide:
            _put_secret(pid, command.index(SECRET_ARGUMENT), libc)
        return pid
    # Parent and child both do this: whichever comes first, the group exists before anybody kills it.
    os.setpgid(0, 0)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    # The warden may have died before prctl took effect; its death would then send no signal.
    if os.getppid() != warden:
        os._exit(127)
    if hide:
        libc.ptrace(PTRACE_TRACEME, 0, None, None)  # the kernel stops it right after exec
    # Orders are for the warden alone, and its standard output for the process id; Triton writes to the log.
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(2, 1)
    try:
        os.execv(command[0], command)  # noqa: S606  no shell is wanted
    except OSError as error:
        os.write(2, f"cannot run {command[0]}: {error}\n".encode())
    os._exit(127)


def _may_trace(libc: ctypes.CDLL) -> bool:
    """Return whether a process may be traced by its parent here; if not, write so to the log."""
    pid = os.fork()
    if not pid:
        os._exit(0 if libc.ptrace(PTRACE_TRACEME, 0, None, None) == 0 else 1)
    allowed = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    if not allowed:
        os.write(2, b"ptrace is forbidden here: other users can read Triton's key in its command line\n")
    return allowed


def _put_secret(pid: int, index: int, libc: ctypes.CDLL) -> None:
    """Point argument `index` of a process, stopped before its first instruction, at the string in its environment."""
    change = os.waitid(os.P_PID, pid, os.WEXITED | os.WSTOPPED | os.WNOWAIT)
    if change is None or change.si_code != os.CLD_TRAPPED:  # exec failed; the child has written why
        return
    if change.si_status != signal.SIGTRAP:  # stopped by another signal than that of exec
        os.kill(pid, signal.SIGKILL)
        return
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    stack, begin, end = (int(fields[field]) for field in (START_STACK, ENV_START, ENV_END))
    with Path(f"/proc/{pid}/mem").open("r+b", buffering=0) as memory:
        memory.seek(begin)
        # With a NUL in front, the first variable is found like all others.
        environment = b"\0" + memory.read(end - begin)
        name = f"\0{IN_ENVIRONMENT}=".encode()
        value = begin - 1 + environment.index(name) + len(name)
        memory.seek(stack + 8 * (1 + index))  # the number of arguments, and a pointer to each
        memory.write(value.to_bytes(8, "little"))
    libc.ptrace(PTRACE_DETACH, pid, None, None)


def _guard(pid: int, wake: int, patience_s: float) -> int:
    """Wait for the end of `pid`, carry out orders and signals, and reap it and all its descendants."""
    sources, deadline = [0, wake], float("inf")
    while os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None:
        left = max(0.0, deadline - time.monotonic()) if deadline < float("inf") else None
        ready = select.select(sources, [], [], left)[0]
        orders = _orders(ready, sources)
        # Nothing is ready only when the patience is over.
        if "kill" in orders or not ready:
            kill_group(pid)
            deadline = float("inf")
        # Further orders to stop do not prolong the patience.
        elif "stop" in orders and deadline == float("inf"):
            os.kill(pid, signal.SIGTERM)
            deadline = time.monotonic() + patience_s
    # The leader is not reaped yet, so no new process group can have its number.
    kill_group(pid)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    _reap_all()
    return status


def _orders(ready: list[int], sources: list[int]) -> set[str]:
    orders = set()
    for source in ready:
        received = os.read(source, 64)
        if source == 0:
            # At the end of the pipe the supervisor is dead, and the next one needs the ports at once. What was written
            # in the meantime is read together.
            orders.add("stop" if set(received) == {ord("s")} else "kill")
            if not received:
                sources.remove(source)
        elif set(received) - {signal.SIGCHLD}:
            orders.add("stop")
    return orders


def _reap_all() -> None:
    try:
        while True:
            os.wait()
    except ChildProcessError:
        return


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
