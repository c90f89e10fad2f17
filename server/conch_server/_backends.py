"""The folder for `--backend-directory`: the wheel's python backend, the right stub, and our onnxruntime backend.

Copies, because Triton refuses a backend whose library resolves to a path outside its folder.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from conch_server._errors import ServingError

if TYPE_CHECKING:
    from conch_server._wheel import Wheel

OURS = Path(__file__).parent / "backends" / "onnxruntime"


def assemble_backends(wheel: Wheel, folder: Path) -> Path:
    """Make `folder` (which must not exist) with `backends/` in it and return that; it appears whole or not at all."""
    staging = folder.with_name(f".{folder.name}")
    try:
        python, onnxruntime = (staging / "backends" / name for name in ("python", "onnxruntime"))
        python.mkdir(parents=True)
        for source in (*wheel.python_backend.glob("*.so"), *wheel.python_backend.glob("*.py"), wheel.stub):
            shutil.copy(source, python)
        shutil.copytree(OURS, onnxruntime, ignore=shutil.ignore_patterns("__pycache__"))
        staging.rename(folder)
    except OSError as error:
        shutil.rmtree(staging, ignore_errors=True)
        message = f"cannot write to {folder.parent} ({error.strerror}); set CONCH_RUN_DIRECTORY to a folder you can"
        raise ServingError(message) from error
    return folder / "backends"
