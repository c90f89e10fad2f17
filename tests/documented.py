"""Keys that `docs/json.md` promises of the JSON that a command prints."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "json.md"


def keys_of(command: str) -> set[str]:
    """Return the keys in the first column of the table of a command, such as `conch plan --web`."""
    _, _, section = PAGE.read_text(encoding="utf-8").partition(f"\n## `{command}`\n")
    rows = re.findall(r"^\| (`.*?) \|", section.partition("\n## ")[0], re.MULTILINE)
    return set(re.findall(r"`(\w+)`", " ".join(rows)))
