"""Ray: started for one run on this machine, or one that runs already; and the shards shared among its actors.

A started one listens on the loopback address alone, sends no usage report and has no dashboard.
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
    from collections.abc import Iterator, Sequence

_OBJECT_STORE_BYTES = 128 << 20
"""Shards pass through files: what Ray stores are numbers of shards and their counts."""
_QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_BACKEND_LOG_LEVEL": "fatal"}


_ATTEMPTS = 3


class Resources(NamedTuple):
    """What a cluster has."""

    cpus: int
    gpus: int


@contextmanager
def connected(address: str | None, cores: int) -> Iterator[Resources]:
    """A cluster until the end of the block.

    Args:
        address: of one that runs, as `ray start` has printed it; None for one that is started here, and stopped.
        cores: that a started one may use.

    Raises:
        EngineError: it cannot be reached or started.
    """
    os.environ.update(_QUIET if address else _QUIET | _private())
    import ray  # noqa: PLC0415 - reads the environment

    folder = tempfile.mkdtemp(prefix="conch-") if address is None else None
    started: dict[str, Any] = {
        "address": "local",  # or Ray would join the one that RAY_ADDRESS names
        "num_cpus": cores,
        "object_store_memory": _OBJECT_STORE_BYTES,
        "include_dashboard": False,
        "_temp_dir": folder,
    }
    try:
        _connect({"address": address} if address else started, attempts=1 if address else _ATTEMPTS)
        _quieten()
        found = ray.cluster_resources()  # type: ignore[no-untyped-call]
        yield Resources(int(found.get("CPU", 0)), int(found.get("GPU", 0)))
    finally:
        ray.shutdown()
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


def _connect(arguments: dict[str, Any], attempts: int) -> None:
    """Ray gives a node up that is not there within 30 s, which a busy machine may take: it is tried again."""
    import ray  # noqa: PLC0415

    try:
        with _silent():
            ray.init(**arguments, log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:  # Ray raises nothing more special
        ray.shutdown()
        if attempts == 1:
            raise EngineError(f"Ray cannot be used: {error}") from error
        _connect(arguments, attempts - 1)


@cache
def _private() -> dict[str, str]:
    """Environment of a cluster that nobody else can use: Ray runs what anyone sends it who reaches its ports.

    The same for all clusters of a process, which reads its token once.
    """
    return {
        # Named after the systems where it is the default: the node's address is that of the loopback.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
    }


@contextmanager
def _silent() -> Iterator[None]:
    """Nothing on standard error: Ray's own processes say there that they say nothing."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _quieten() -> None:
    from ray.data import DataContext  # noqa: PLC0415

    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.ERROR)


def spread(
    worker: type[Any], arguments: Sequence[Any], shards: Sequence[str], *, actors: int, threads: int, on_gpu: bool
) -> Iterator[dict[str, Any]]:
    """What an actor says of each shard, as they are done.

    Actors that end are started again, and what they were at is given to another.

    Args:
        worker: class of the actors, a function of one shard.
        arguments: with which an actor is made.
        shards: what is handed to them, each once unless an actor ends.
        actors: how many there are, where there is room for them.
        threads: cores of an actor.
        on_gpu: whether each has a GPU to itself.
    """
    import ray  # noqa: PLC0415

    items = ray.data.from_items(list(shards), override_num_blocks=len(shards))
    answers = items.map(
        worker,
        fn_constructor_args=tuple(arguments),
        compute=ray.data.ActorPoolStrategy(size=min(actors, len(shards)), max_tasks_in_flight_per_actor=1),
        num_cpus=threads,
        num_gpus=1 if on_gpu else None,
    )
    yield from answers.iter_rows()
