"""Writes the version of a release wherever one stands, and gives the changelog's unreleased entries that version.

make release VERSION=0.5.0
"""

from __future__ import annotations

import datetime
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
CHANGELOG = "CHANGELOG.md"
UNRELEASED = "## [Unreleased]\n"
VERSIONS = {
    "pyproject.toml": r'^version = "',
    "web/package.json": r'"name": "conch-web",\s+"version": "',
    "web/package-lock.json": r'"name": "conch-web",\s+"version": "',
}
"""Files that state the version, and what stands before it there."""


class ReleaseError(Exception):
    """There is nothing to release under this version; the message says why."""


def released(changelog: str, version: str, date: datetime.date) -> str:
    """Return the changelog with its unreleased entries under a version and a date.

    Raises:
        ReleaseError: the version is none or released already, or there are no entries.
    """
    if not re.fullmatch(r"\d+\.\d+\.\d+", version):
        raise ReleaseError(f"{version!r} is no version; write three numbers: make release VERSION=0.5.0")
    if f"\n## [{version}]" in changelog:
        raise ReleaseError(f"{version} is released already; take a greater one")
    before, _, after = changelog.partition(UNRELEASED)
    if not after.partition("\n## [")[0].strip():
        raise ReleaseError(f"{CHANGELOG} has nothing under *Unreleased*; write there what users notice")
    return f"{before}{UNRELEASED}\n## [{version}] - {date:%Y-%m-%d}\n{after}"


def write(version: str, date: datetime.date) -> None:
    """Write the version into all files, or into none."""
    changelog = released((ROOT / CHANGELOG).read_text(encoding="utf-8"), version, date)
    for name, before in VERSIONS.items():
        stated = (ROOT / name).read_text(encoding="utf-8")
        written = re.sub(rf'({before})[^"]+', rf"\g<1>{version}", stated, flags=re.MULTILINE)
        (ROOT / name).write_text(written, encoding="utf-8")
    (ROOT / CHANGELOG).write_text(changelog, encoding="utf-8")


if __name__ == "__main__":
    try:
        write(sys.argv[1] if len(sys.argv) > 1 else "", datetime.datetime.now(datetime.timezone.utc).date())
    except ReleaseError as error:
        sys.exit(f"error: {error}")
