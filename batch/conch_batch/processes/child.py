"""The process that `local` starts: computes the shards that it is sent, one after another."""

from __future__ import annotations

import contextlib
import os
import threading
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import Any


def main(descriptor: int) -> None:
    """Say that the process is there, take the class that computes and its arguments, then answer shards.

    Args:
        descriptor: file descriptor of the connection with the process that has started this one.
    """
    parent, shards = Connection(descriptor), SimpleQueue[Any]()
    with contextlib.suppress(EOFError, ConnectionError):
        parent.send(None)
        worker, arguments = parent.recv()
        threading.Thread(target=_receive, args=(parent, shards), daemon=True).start()
        made = worker(*arguments)
        while True:
            parent.send(made.compute(shards.get()))


def _receive(parent: Connection, shards: SimpleQueue[Any]) -> None:
    """Receive at any time, so that the sender never waits; end the process when the other one has ended."""
    with contextlib.suppress(EOFError, ConnectionError):
        while True:
            shards.put(parent.recv())
    os._exit(0)  # at any moment, since files are published whole
