"""Tests that hang come to an end."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
LOOPS = "import uvloop\ndef pytest_asyncio_loop_factories(): return {'uvloop': uvloop.new_event_loop}\n"
WAITS = "import asyncio\nasync def test_that_waits(): await asyncio.Event().wait()\n"


def test_a_test_that_waits_for_ever_on_the_event_loop_is_ended(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(LOOPS)
    (tmp_path / "test_waiting.py").write_text(WAITS)
    command = [sys.executable, "-m", "pytest", f"--config-file={ROOT / 'pyproject.toml'}", f"--rootdir={tmp_path}"]
    done = subprocess.run(
        [*command, "--override-ini=faulthandler_timeout=1", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 1, done.stdout
    assert "Timeout" in done.stdout + done.stderr
