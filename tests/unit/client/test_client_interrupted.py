"""Ctrl-C during a call of several requests to a server that hangs."""

from __future__ import annotations

import signal
import subprocess
import sys

from tests.waiting import PATIENCE_S

CALL = """
import time
from conch_client._transport.threads import each

def hang(item):
    print("begun\\n", end="", flush=True)  # in one piece, as two threads write
    time.sleep(3600)

each(range(4), hang, max_in_flight=2)
"""


def test_it_ends_the_process_at_once() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", CALL], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as ran:
        assert ran.stdout is not None
        try:
            assert ran.stdout.readline() == "begun\n"
            ran.send_signal(signal.SIGINT)
            _, errors = ran.communicate(timeout=PATIENCE_S)
        finally:
            ran.kill()

    assert "KeyboardInterrupt" in errors
