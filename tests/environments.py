"""Virtual environments of tests, made by uv: unlike pip it unpacks what several of them share once."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

from filelock import FileLock

ROOT = Path(__file__).parents[1]
OF_CLIENTS = ROOT / ".venv-clients"


def of_clients(name: str) -> Path:
    """The interpreter of the environment of `clients/requirements/NAME.txt`, made when it is first needed."""
    folder, requirements = OF_CLIENTS / name, ROOT / "tests" / "clients" / "requirements" / f"{name}.txt"
    stamp, wanted = folder / ".installed", hashlib.sha256(requirements.read_bytes()).hexdigest()
    OF_CLIENTS.mkdir(exist_ok=True)
    with FileLock(folder.with_suffix(".lock")):  # another process of the tests may be making it
        if not stamp.exists() or stamp.read_text(encoding="ascii") != wanted:
            made(folder, requirements.read_text(encoding="utf-8"))
            stamp.write_text(wanted, encoding="ascii")
    return folder / "bin" / "python"


def made(folder: Path, requirements: str) -> Path:
    """The interpreter of a new environment with these versions and nothing else.

    They are all pinned, and some contradict declared requirements and work all the same.
    """
    interpreter = folder / "bin" / "python"
    uv("venv", "--clear", str(folder))
    install = ["pip", "install", "--no-deps", "--requirement", "-", "--python", str(interpreter)]
    uv(*install, given=requirements)
    return interpreter


def uv(*arguments: str, given: str | None = None) -> str:
    """What uv prints, run for the Python of this process where the arguments name no other."""
    python = [] if "--python" in arguments else ["--python", sys.executable]
    return run(Path(sys.executable).with_name("uv"), "--quiet", *arguments, *python, given=given)


def run(program: Path, *arguments: str, given: str | None = None) -> str:
    """What a program prints, which must end well."""
    done = subprocess.run([program, *arguments], cwd=ROOT, input=given, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
