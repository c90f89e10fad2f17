"""Commands that are killed leave what there was or what there was to be, and the next one leaves nothing over."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_killed_at_any_moment_each_command_leaves_the_old_or_the_new() -> None:
    program = Path(__file__).parents[1] / "interrupted.py"  # which kills 200 times when it is run by hand
    done = subprocess.run(
        [sys.executable, str(program), "--kills", "4", "--seed", "7"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
