"""Ctrl-C ends the command quietly with status 130, whatever it is doing."""

from __future__ import annotations

import subprocess
import sys

import pytest

INTERRUPTING = """
import os, signal, sys

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Finder())
sys.argv = ["conch", *{arguments!r}]
from conch.__main__ import main
main()
"""
"""Sends itself what Ctrl-C sends in the moment in which it imports a module."""

BUILDING = """
import os, signal, sys, typer.main

def interrupted(_):
    os.kill(os.getpid(), signal.SIGINT)

typer.main.get_command = interrupted
sys.argv = ["conch", "--version"]
from conch.__main__ import main
main()
"""

ENDING = """
import atexit, os, signal, sys
atexit.register(lambda: os.kill(os.getpid(), signal.SIGINT))
sys.argv = ["conch", "--version"]
from conch.__main__ import main
main()
"""


@pytest.mark.parametrize(
    "code",
    [
        pytest.param(INTERRUPTING.format(module="typer", arguments=["--version"]), id="while it begins"),
        pytest.param(
            INTERRUPTING.format(module="conch.serve", arguments=["--version"]), id="while it imports commands"
        ),
        pytest.param(INTERRUPTING.format(module="conch_server", arguments=["serve"]), id="while a command imports"),
        pytest.param(BUILDING, id="before a command begins"),
        pytest.param(ENDING, id="while it ends"),
    ],
)
def test_it_ends_quietly(code: str) -> None:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (130, "")
