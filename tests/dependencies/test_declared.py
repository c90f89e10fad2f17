"""Every package is imported in an environment of its own extra alone, at the lowest and the newest versions allowed.

`make test-dependencies` does this, not `make test`: it resolves and installs a dozen environments.
"""

from __future__ import annotations

import importlib.metadata
import json
from functools import cache
from typing import TYPE_CHECKING

import pytest

from tests.declared import PACKAGES, ROOT, extras_of
from tests.environments import made, run, uv

if TYPE_CHECKING:
    from pathlib import Path

ENVIRONMENTS = ROOT / ".venv-dependencies"
# PyTorch is pinned, and the build of several gigabytes that an index may have adds nothing: that of this environment is
# taken, without what only such builds need.
AT_HAND = "torch"
ONLY_CUDA = ("triton==", "nvidia-", "cuda-")
PLAIN = ("--no-annotate", "--no-header")
each_resolution = pytest.mark.parametrize("resolution", ["lowest-direct", "highest"])
IMPORT_ALL = """
import importlib, pkgutil, sys
package = importlib.import_module(sys.argv[1])
for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
    if not module.name.endswith(".__main__"):
        importlib.import_module(module.name)
"""


@each_resolution
@pytest.mark.parametrize("package", PACKAGES)
def test_every_module_can_be_imported(package: str, resolution: str) -> None:
    run(environment(extras_of(package), resolution), "-c", IMPORT_ALL, package)


@each_resolution
@pytest.mark.parametrize("extra", ["batch", "gateway"])
def test_a_package_is_imported_without_what_is_optional_in_it(extra: str, resolution: str) -> None:
    run(environment((extra,), resolution), "-c", f"import conch_{extra}")


@each_resolution
@pytest.mark.parametrize("command", ["serve", "bench", "keys create"])
def test_the_command_line_explains_itself_without_any_extra(command: str, resolution: str) -> None:
    assert "--help" in run(environment((), resolution), "-m", "conch", *command.split(), "--help")


def test_the_gpu_benchmark_runs_with_current_releases_and_without_the_rest_of_ours() -> None:
    current = "numpy>=2\nonnx\nonnxruntime\nsentence-transformers>=6\ntorch\ntransformers>=5\n"
    interpreter = new("gpu", uv("pip", "compile", "-", *PLAIN, given=current))
    told = json.loads(run(interpreter, "benchmarks/gpu.py", "--device=cpu", "--tiny"))
    assert int(told["versions"]["transformers"].split(".")[0]) >= 5
    assert told["shapes"]["tiny"]["least_cosine"]["fp32"] > 0.9999


@cache
def environment(extras: tuple[str, ...], resolution: str) -> Path:
    """The interpreter of a new environment with what is declared for these extras, and our packages beside it."""
    wanted = ["pyproject.toml", *(f"--extra={extra}" for extra in extras), "--resolution", resolution]
    interpreter = new("-".join((*extras, resolution)), uv("pip", "compile", *wanted, *PLAIN))
    site = next(interpreter.parents[1].glob("lib/python3*/site-packages"))
    (site / "conch.pth").write_text("\n".join(str(path.parent) for path in PACKAGES.values()), encoding="utf-8")
    return interpreter


def new(name: str, resolved: str) -> Path:
    """The interpreter of a new environment with these versions."""
    folder = ENVIRONMENTS / name
    pinned = [line for line in resolved.splitlines() if not line.startswith(ONLY_CUDA)]
    fetched = [line for line in pinned if not line.startswith(f"{AT_HAND}==")]
    interpreter = made(folder, "\n".join(fetched))
    if fetched != pinned:
        link(AT_HAND, next(folder.glob("lib/python3*/site-packages")))
    return interpreter


def link(distribution: str, site: Path) -> None:
    """Put an installed distribution into another environment, by links to its files and folders."""
    files = importlib.metadata.files(distribution) or ()
    for name in {file.parts[0] for file in files} - {"..", "__pycache__"}:
        target = site / name
        target.symlink_to(str(importlib.metadata.distribution(distribution).locate_file(name)))
