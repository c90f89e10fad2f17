"""Numbers of model instances and threads for the cores of this machine.

The parameter `per_core` of a model's `config.pbtxt` says what grows with the cores: `instances` or `threads`. The
counts in the file are those of two cores. On a machine with another number, say 8, the counts for it are written to
`configs/8-cores.pbtxt` beside the exported file, which stays as it is. Triton, started with
`--model-config-name=8-cores`, prefers that file. Each number of cores has a file of its own, because Tritons with
different numbers may serve the same repository, and load models again at any time.
"""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

PER_CORE = "per_core"
THREADS = "intra_op_thread_count"

logger = logging.getLogger("conch_server")


def config_name(cores: int) -> str:
    """Return the name of the configurations for that many cores, which Triton is told."""
    return f"{cores}-cores"


def fit_to_cores(repository: Path, cores: int) -> None:
    """Write or remove every model's file for so many cores; a model in a read-only folder is served as exported."""
    for path in sorted(repository.glob("[!.]*/config.pbtxt")):
        _fit(path, cores)


def fitted(exported: str, cores: int) -> str:
    """Return the configuration for that many cores; unchanged text if it does not depend on them."""
    if PER_CORE not in exported:
        return exported
    config = text_format.Parse(exported, pb.ModelConfig())
    per_core = config.parameters[PER_CORE].string_value
    if per_core == "threads":
        config.parameters[THREADS].string_value = str(cores)
    elif per_core == "instances":
        _set_instances(config, cores)
    text: str = text_format.MessageToString(config, as_utf8=True)
    return text


def _set_instances(config: pb.ModelConfig, cores: int) -> None:
    """Set the number of instances; of two groups the first keeps one, the instance that lone requests go to."""
    first, *others = config.instance_group
    if others and cores > first.count:
        others[0].count = cores - first.count
    else:
        first.count = cores
        del config.instance_group[1:]


def _fit(path: Path, cores: int) -> None:
    place = path.parent / "configs" / f"{config_name(cores)}.pbtxt"
    try:
        text = _overlay(path, cores)
        if text is None:
            place.unlink(missing_ok=True)
        # A file that is right already is kept, so that restarts need no room on the disk.
        elif not place.exists() or place.read_bytes() != text.encode():
            _write(place, text)
    except OSError as error:
        logger.warning("%s is served as it was planned, not for %s cores: %s", path.parent.name, cores, error)


def _overlay(path: Path, cores: int) -> str | None:
    """Return the configuration to write; None if the exported one fits, or is broken: Triton then reports how."""
    try:
        exported = path.read_text(encoding="utf-8")
        text = fitted(exported, cores)
    except (ValueError, text_format.ParseError):
        return None
    return None if text == exported else text


def _write(place: Path, text: str) -> None:
    place.parent.mkdir(exist_ok=True)
    # A folder of its own, as several Tritons may start together on one repository.
    with tempfile.TemporaryDirectory(dir=place.parent, prefix=".") as staging:
        written = Path(staging, place.name)
        written.write_text(text, encoding="utf-8")
        written.replace(place)
