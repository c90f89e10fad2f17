"""Weights of a graph, packed once for all instances of a model instead of once in each.

When onnxruntime opens a graph it brings the matrices of its products into the order that the processor wants, in memory
of the session's own. Here the first instance has the result written to a file, and every instance maps that file: all
of them share one copy of the weights. The file is right for this processor and this onnxruntime only, so it is made
anew at every start.
"""

from __future__ import annotations

import fcntl
import shutil
import sys
from typing import TYPE_CHECKING

import onnxruntime as ort

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

WEIGHTS_FILE = "model.data"
WORTH_BYTES = 64 << 20
"""Smaller weights are not worth the time at the start."""
_ROOM = 2.5
"""Free space that is needed, in sizes of the weights: the file has them as they were and as they are packed."""
_ENTRIES = {
    "session.save_external_prepacked_constant_initializers": "1",
    "session.optimized_model_external_initializers_file_name": WEIGHTS_FILE,
    "session.optimized_model_external_initializers_min_size_in_bytes": "1024",
}


def packed(graph: Path, instances: int, folder: Path, options: Callable[[], ort.SessionOptions]) -> Path:
    """Return the graph that an instance should open: a packed one where several instances would share it.

    Args:
        graph: As it was exported, with its weights beside it.
        instances: Of the model.
        folder: The model's own, for packed graphs; it is made if necessary, and whoever owns it removes it.
        options: Makes the options of the session.
    """
    weights = graph.with_name(WEIGHTS_FILE)
    if instances < 2 or not weights.exists() or weights.stat().st_size < WORTH_BYTES:
        return graph
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # the other instances wait for the first
            # A model that is exported anew while Triton runs has other weights under the same name.
            place = folder / "{0.st_ino}-{0.st_mtime_ns}".format(weights.stat())
            if not place.exists():
                _write(graph, place, options())
    except Exception as error:  # noqa: BLE001  onnxruntime has no common base, and the exported graph serves as well
        print(f"{graph.parent.parent.name}: each instance holds its own weights: {error}", file=sys.stderr, flush=True)
        return graph
    return place / graph.name


def _write(graph: Path, place: Path, options: ort.SessionOptions) -> None:
    """Write the packed graph into the folder `place`, which appears whole or not at all."""
    for old in (path for path in place.parent.iterdir() if path.is_dir()):
        shutil.rmtree(old)  # whoever has mapped a file keeps it
    staging = _reserved(place.parent, int(_ROOM * graph.with_name(WEIGHTS_FILE).stat().st_size))
    try:
        options.optimized_model_filepath = str(staging / graph.name)
        for key, value in _ENTRIES.items():
            options.add_session_config_entry(key, value)
        ort.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
        staging.rename(place)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)  # it would take room for as long as Triton runs
        raise


def _reserved(folder: Path, needed: int) -> Path:
    """Make the folder to write into, whose name says how many bytes it may take; raise OSError where there is no room.

    Triton loads several models at once. What the others may take counts as taken, also the part that they have written.
    """
    scratch = folder.parent
    with (scratch / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        others = sum(int(staging.stem) for staging in scratch.glob("*/*.staging"))
        free = shutil.disk_usage(scratch).free - others
        if free < needed:
            # onnxruntime does not notice that the disk is full, and reading what is missing would end the process.
            raise OSError(f"packing needs {needed / 1e6:,.0f} MB in {scratch}, {max(0, free) / 1e6:,.0f} MB are free")
        staging = folder / f"{needed}.staging"
        staging.mkdir()
    return staging
