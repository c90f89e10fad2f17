"""Connects to Ray: to a cluster that is started on this machine for a run, or to a running one.

A cluster that is started here listens on the loopback address only, sends no usage reports and has no dashboard.
"""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import tempfile
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from conch_batch.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Iterator

_OBJECT_STORE_BYTES = 128 << 20
"""Small, because rows and answers pass through files: Ray stores only numbers of shards and counts of rows."""
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
}
_IDLE = {
    "AUTOSCALER_UPDATE_INTERVAL_S": "3600",
    "LOG_NAME_UPDATE_INTERVAL_S": "3600",
    "RAY_LOG_MONITOR_MANY_FILES_THRESHOLD": "0",
    "RAY_enable_metrics_collection": "0",
}
"""Ray's processes look for nodes, logs and metrics again and again, which costs a few percent of a core; nobody reads
those of a cluster of one run."""
_NICENESS = "RAY_worker_niceness"
_ATTEMPTS = 3
_LONGEST_FOLDER = 107 - len("/conch-abcdefgh/session_2026-01-01_00-00-00_000000_1234567/sockets/plasma_store")
"""Bytes of the path of a folder below which Ray puts its sockets: the path of a socket has 107 at most."""


class Resources(NamedTuple):
    """Cores and GPUs of a cluster."""

    cpus: int
    gpus: int


@contextmanager
def connected(address: str | None, cores: int) -> Iterator[Resources]:
    """Connect to a cluster until the end of the block.

    Args:
        address: address of a running cluster, as printed by `ray start`; None to start one here, and stop it.
        cores: cores that a cluster that is started here may use.

    Raises:
        EngineError: it cannot be reached or started.
    """
    os.environ.update(_QUIET if address else _QUIET | _private())
    import ray  # noqa: PLC0415 - reads the environment

    folder = _new_folder() if address is None else None
    started: dict[str, Any] = {
        "address": "local",  # without it, Ray would join the cluster that RAY_ADDRESS names
        "num_cpus": cores,
        "object_store_memory": _OBJECT_STORE_BYTES,
        "include_dashboard": False,
        "_temp_dir": folder,
    }
    try:
        _connect({"address": address} if address else started, attempts=1 if address else _ATTEMPTS)
        logging.getLogger("ray").setLevel(logging.ERROR)
        found = ray.cluster_resources()  # type: ignore[no-untyped-call]
        yield Resources(int(found.get("CPU", 0)), int(found.get("GPU", 0)))
    finally:
        try:
            ray.shutdown()
        finally:  # also where a second Ctrl-C ends the shutdown
            if folder is not None:
                shutil.rmtree(folder, ignore_errors=True)


def _new_folder() -> str:
    fits = len(os.fsencode(tempfile.gettempdir())) <= _LONGEST_FOLDER
    return tempfile.mkdtemp(prefix="conch-", dir=None if fits else "/tmp")  # noqa: S108 - the shortest


def _connect(arguments: dict[str, Any], attempts: int) -> None:
    """Initialise Ray, several times if need be: it gives up after 30 s, and a busy machine may take longer."""
    import ray  # noqa: PLC0415

    try:
        with _silent():
            ray.init(**arguments, log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:  # Ray raises exceptions of many classes
        ray.shutdown()
        if attempts == 1:
            raise EngineError(f"Ray cannot be used: {error}") from error
        _connect(arguments, attempts - 1)


@cache
def _private() -> dict[str, str]:
    """Environment of a cluster of this run's own. It needs a token: Ray runs any code that is sent to its ports.

    Cached, because Ray reads the token once in a process.
    """
    return _IDLE | {
        # Keeps the node on the loopback address; named after the systems where that is the default.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        # Ray's own is 15: a thirtieth of a core that another process wants too. That of the command is added to it.
        _NICENESS: os.environ.get(_NICENESS, "0"),
    }


@contextmanager
def _silent() -> Iterator[None]:
    """Discard standard error: processes of Ray write to it even when logging is off."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
