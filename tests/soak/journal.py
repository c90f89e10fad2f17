"""What an operator reads: warnings and errors of a gateway's log, without what differs from run to run."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

LINE = re.compile(r"^\d{4}-\d\d-\d\d [\d:,]+ (WARNING|ERROR|CRITICAL) (.*)|^(error: .*)")
LONGEST = 240


class Journal:
    """Reads what is added to a file."""

    def __init__(self, path: Path, folder: Path) -> None:
        self._path = path
        self._folder = str(folder)
        self._begin = 0

    def news(self) -> list[str]:
        """Return the different lines that were written since the last call; numbers that vary are left out."""
        if not self._path.exists():
            return []
        with self._path.open("rb") as file:
            file.seek(self._begin)
            written = file.read().decode(errors="replace")
            self._begin = file.tell()
        found = (LINE.match(line) for line in written.splitlines())
        return list(dict.fromkeys(self._plain(match) for match in found if match))

    def _plain(self, match: re.Match[str]) -> str:
        line = match.group(3) or f"{match.group(1)} {match.group(2)}"
        begin, found, event = line.partition("{")
        if found:  # an object for each request that failed
            fields = json.loads(found + event)
            line = f"{begin}{fields['event']}, status {fields['status']}, code {fields['code']}"
        line = line.replace(self._folder, "…")
        return re.sub(r"(?<=conch-)\d+-[0-9a-f]{8}", "…", line)[:LONGEST]
