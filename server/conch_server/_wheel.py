"""The tritonserver of the wheel `nvidia-pytriton`, and the files and environment it needs on this machine.

The wheel brings the server and the python backend. The stub (the process that runs a model's Python) embeds CPython, so
it must be built for the running version and must find that version's libpython.
"""

from __future__ import annotations

import ctypes.util
import importlib.util
import os
import platform
import shutil
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from conch_server._arguments import ENVIRONMENT
from conch_server._errors import InstallationError, ServingError

GLIBC = (2, 35)
ELSEWHERE = "run Triton elsewhere (docker compose) and give `conch serve --triton-url HOST:PORT`"
INSTALL = "install it with `pip install 'conch[server]'`"
ONNXRUNTIME_BACKEND = Path(__file__).parent / "backends" / "onnxruntime"


@dataclass(frozen=True)
class Wheel:
    """Absolute paths into the installed wheel."""

    tritonserver: Path
    python_backend: Path
    stub: Path
    libraries: tuple[Path, ...]
    packages: tuple[Path, ...]

    def environment(self) -> dict[str, str]:
        """Return variables for tritonserver, which override those of this process."""
        libraries = [*map(str, self.libraries), *filter(None, [os.environ.get("LD_LIBRARY_PATH")])]
        return {
            "LD_LIBRARY_PATH": os.pathsep.join(libraries),
            "PYTHONPATH": os.pathsep.join(map(str, self.packages)),
            # numpy's own threads would be started, unused, in every model instance.
            "OPENBLAS_NUM_THREADS": "1",
            **{name: os.environ.get(name, value) for name, value in ENVIRONMENT.items()},
        }

    def copy_backends(self, folder: Path) -> Path:
        """Copy the python backend, its stub and our onnxruntime backend into the new `folder`, and return their parent.

        Copies, because Triton refuses a backend whose library resolves to a path outside its folder. `folder` appears
        whole or not at all.
        """
        staging = folder.with_name(f".{folder.name}")
        python, onnxruntime = (staging / "backends" / name for name in ("python", "onnxruntime"))
        try:
            python.mkdir(parents=True)
            for source in (*self.python_backend.glob("*.so"), *self.python_backend.glob("*.py"), self.stub):
                shutil.copy(source, python)
            shutil.copytree(ONNXRUNTIME_BACKEND, onnxruntime, ignore=shutil.ignore_patterns("__pycache__"))
            for package in (python, onnxruntime, onnxruntime / "conch_onnx"):
                # A file where Python would make a folder: on a full disk it writes truncated bytecode, which the other
                # model instances then fail to read. The stub's Python ignores PYTHONDONTWRITEBYTECODE.
                (package / "__pycache__").touch()
            staging.rename(folder)
        except OSError as error:
            shutil.rmtree(staging, ignore_errors=True)
            msg = f"cannot write to {folder.parent} ({error.strerror}); set CONCH_RUN_DIRECTORY to a folder you can"
            raise ServingError(msg) from error
        return folder / "backends"


def find_wheel() -> Wheel:
    """Return the installed wheel; raise InstallationError, which names what is missing and how to get it."""
    _check_platform()
    package = _package("pytriton", "nvidia-pytriton")
    root = package / "tritonserver"
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    stub = root / "python_backend_stubs" / version / "triton_python_backend_stub"
    wheel = Wheel(
        tritonserver=root / "bin" / "tritonserver",
        python_backend=root / "backends" / "python",
        stub=stub,
        libraries=(package.parent / "nvidia_pytriton.libs", *_libpython_folder()),
        packages=tuple(dict.fromkeys(_package(name, name).parent for name in ("numpy", "onnxruntime"))),
    )
    if not stub.is_file():
        there = ", ".join(sorted(folder.name for folder in stub.parents[1].glob("*")))
        raise InstallationError(
            f"nvidia-pytriton has no stub for CPython {version}; use one of {there}, or {ELSEWHERE}"
        )
    for path in (wheel.tritonserver, wheel.python_backend, wheel.libraries[0]):
        if not path.exists():
            raise InstallationError(
                f"{path} is missing from nvidia-pytriton; reinstall it: pip install 'conch[server]'"
            )
    return wheel


def _check_platform() -> None:
    if sys.platform != "linux" or platform.machine() != "x86_64":
        raise InstallationError(
            f"the embedded Triton needs Linux on x86-64, this is {sys.platform} on {platform.machine()}; {ELSEWHERE}"
        )
    library, version = platform.libc_ver()
    if library != "glibc" or tuple(int(part) for part in version.split(".")[:2]) < GLIBC:
        raise InstallationError(
            f"the embedded Triton needs glibc 2.35 or newer, this is {library or 'another C library'} {version}; "
            f"use Debian 12, Ubuntu 22.04 or newer, or {ELSEWHERE}"
        )


def _package(name: str, distribution: str) -> Path:
    """Return the folder of an importable package, without importing it."""
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise InstallationError(f"the embedded Triton needs {distribution}; {INSTALL}")
    return Path(next(iter(spec.submodule_search_locations)))


def _libpython_folder() -> tuple[Path, ...]:
    """Return the folder of the running CPython's shared library; empty if the system's loader finds it by itself."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    name = f"libpython{version}.so.1.0"
    for folder in (sysconfig.get_config_var("LIBDIR"), Path(sys.base_prefix, "lib")):
        if folder and Path(folder, name).exists():
            return (Path(folder),)
    if ctypes.util.find_library(f"python{version}"):
        return ()
    raise InstallationError(
        f"the embedded Triton needs {name}, which this Python does not bring; install the system's libpython{version}, "
        f"or a Python built with --enable-shared, or {ELSEWHERE}"
    )
