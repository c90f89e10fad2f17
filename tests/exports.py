"""Models that tests only use, exported once: later runs and other workers copy the files.

What is kept is found by the hash of all that makes it: the checkpoint, the options, the code of the export, and the
versions of the libraries below it. `make clean` takes it away, and so does a third change of the code.
"""

from __future__ import annotations

import hashlib
import platform
import shutil
from dataclasses import replace
from functools import cache
from importlib.metadata import distributions
from pathlib import Path
from typing import TYPE_CHECKING, Any

from conch_export import Options, Overrides, Precision, export, plan
from conch_export.sources.finder import resolve
from filelock import FileLock

from tests.hub_checkpoints import ADAPTERS

if TYPE_CHECKING:
    from tests.checkpoints import Checkpoints

ROOT = Path(__file__).parents[1]
KEPT = ROOT / ".cache" / "exports"
GENERATIONS = 3
"""Of code and libraries; those used before are taken away."""
ONE_CORE = plan(cores=1)
"""The plan of small models, also where nothing serves them, so that tests of graphs and of servers share exports."""
WITH_MAXSIM = ("bert", "xlm_roberta", "roformer")


def options_of(
    checkpoints: Checkpoints, kind: str, repository: Path, precision: str = "fp32", **chosen: Any
) -> Options:
    """Options for `Checkpoints.KIND`, which becomes the model `KIND-PRECISION` unless `chosen` says otherwise."""
    options = Options(str(getattr(checkpoints, kind)()), repository, name=f"{kind}-{precision}", plan=ONE_CORE)
    standard: dict[str, Any] = {"precision": Precision(precision), "adapter": ADAPTERS.get(kind)}
    return replace(options, **{**standard, "late_interaction": kind in WITH_MAXSIM or None, **chosen})


def minilm(repository: Path, precision: str) -> Options:
    """Options for the default model; beside the one in fp32, that in int8 has another name, and vectors of chunks."""
    if precision == "fp32":
        return Options("all-minilm-l6-v2", repository, precision=Precision.FP32)
    chosen: dict[str, Any] = {"overrides": Overrides(late_chunking=True), "late_interaction": False, "plan": ONE_CORE}
    return Options("all-minilm-l6-v2", repository, "all-minilm-l6-v2-int8", precision=Precision.INT8, **chosen)


def export_once(options: Options) -> None:
    """Publish into `options.repository`, which has no such model yet, what `export` would; raises what it raises."""
    generation = KEPT / _code_and_libraries()
    kept = generation / _checkpoint_and_options(options)
    generation.mkdir(parents=True, exist_ok=True)
    with FileLock(kept.with_suffix(".lock")):  # another worker may be making it
        if not kept.exists():
            unfinished = kept.with_suffix(".unfinished")
            shutil.rmtree(unfinished, ignore_errors=True)  # of a run that was killed
            export(replace(options, repository=unfinished))
            unfinished.rename(kept)
    # Not over an older one: its weights may be mapped, and writing into them would end whoever serves it.
    if already := [
        model.name for model in kept.iterdir() if model.is_dir() and (options.repository / model.name).exists()
    ]:
        raise FileExistsError(f"{options.repository} has {', '.join(already)}; replace models by a real export")
    shutil.copytree(kept, options.repository, dirs_exist_ok=True)


@cache
def _code_and_libraries() -> str:
    """Names a generation, and takes the oldest ones away."""
    packages = (ROOT / "export", ROOT / "contract")
    found = [path for package in packages for path in sorted(package.rglob("*"))]
    code = [path for path in found if path.is_file() and path.suffix != ".pyc"]
    versions = sorted({f"{each.name}=={each.version}" for each in distributions()})
    name = _hash(*versions, platform.python_version(), platform.machine(), *(path.read_bytes() for path in code))
    if KEPT.exists():
        others = sorted((each for each in KEPT.iterdir() if each.name != name), key=lambda each: each.stat().st_mtime)
        for old in others[: -(GENERATIONS - 1)]:
            shutil.rmtree(old, ignore_errors=True)  # another worker may be at it
    return name


def _checkpoint_and_options(options: Options) -> str:
    stated = replace(options, reference=Path(options.reference).name, repository=Path())
    return _hash(repr(stated), _checkpoint(options.reference))


def _checkpoint(reference: str) -> str:
    folder = resolve(reference, hashed=False).folder
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return _hash(*(part for path in files for part in (str(path.relative_to(folder)), path.read_bytes())))


def _hash(*parts: str | bytes) -> str:
    digests = [hashlib.sha256(part if isinstance(part, bytes) else part.encode()).digest() for part in parts]
    return hashlib.sha256(b"".join(digests)).hexdigest()[:20]
