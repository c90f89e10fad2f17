"""Virtual environments for peers and others that must not share ours: fully pinned, made when first needed."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import sysconfig
from pathlib import Path

PEERS = Path(__file__).parent / "peers"
INSTALL_TIMEOUT_S = 1200


class InstallError(Exception):
    """A peer cannot be installed here; the message ends with pip's output."""


def python(peer: str, *, sees_ours: bool = False) -> Path:
    """The interpreter of a peer's environment, which is made or brought up to date first; see `made`."""
    return made(PEERS / f".venv-{peer}", PEERS / f"{peer}.txt", sees_ours=sees_ours)


def made(folder: Path, requirements: Path, *, sees_ours: bool = False) -> Path:
    """The interpreter of the environment in a folder, after making it hold what is required and nothing else.

    Args:
        folder: of the environment.
        requirements: what is installed into it.
        sees_ours: whether it finds what is not in it among the packages of this process.

    Raises:
        InstallError: pip failed, or took too long.
    """
    interpreter, stamp = folder / "bin" / "python", folder / ".installed"
    wanted = hashlib.sha256(requirements.read_bytes()).hexdigest()
    if not stamp.exists() or stamp.read_text(encoding="ascii") != wanted:
        _run([sys.executable, "-m", "venv", "--clear", str(folder)])
        # Fully pinned, so pip need not resolve; some pins contradict declared requirements and work all the same.
        pip = [str(interpreter), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
        _run([*pip, "--requirement", str(requirements)])
        if sees_ours:
            (packages,) = folder.glob("lib/python*/site-packages")
            # Python runs such a line at its start; a bare path would be searched without its own .pth files.
            line = f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n"
            (packages / "ours.pth").write_text(line, encoding="utf-8")
        stamp.write_text(wanted, encoding="ascii")
    return interpreter


def versions(peer: str) -> dict[str, str]:
    """What a peer's requirements pin, by distribution."""
    lines = (PEERS / f"{peer}.txt").read_text(encoding="utf-8").split()
    return dict(line.split("==") for line in lines)


def _run(command: list[str]) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=INSTALL_TIMEOUT_S)
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise InstallError(f"{' '.join(command[:4])} failed: {' '.join(said)}") from error
    except subprocess.TimeoutExpired as error:
        raise InstallError(f"{' '.join(command[:4])} took more than {INSTALL_TIMEOUT_S} s") from error
