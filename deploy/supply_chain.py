"""Bill of materials and audit of all installed packages.

python deploy/supply_chain.py             writes build/sbom.cdx.xml (CycloneDX, validated), prints the audit
python deploy/supply_chain.py --strict    the same; status 1 if a vulnerability is known, or nothing was audited

The audit looks up each package on PyPI. If PyPI cannot be reached, or does not know a package, one line says so.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
BILL = ROOT / "build" / "sbom.cdx.xml"
BIN = Path(sys.executable).parent
TIMEOUT_S = 120


@dataclass(frozen=True, slots=True)
class Audit:
    """Result of an audit.

    Attributes:
        audited: Number of packages that were looked up.
        skipped: Number of packages that could not be.
        known: One line for each known vulnerability.
        failure: Reason why there is no audit at all; empty if there is one.
    """

    audited: int = 0
    skipped: int = 0
    known: tuple[str, ...] = ()
    failure: str = ""

    def __str__(self) -> str:
        """Return the number of vulnerabilities, then a line for each."""
        if self.failure:
            return f"audit: not done, {self.failure}"
        skipped = f", {self.skipped} could not be looked up" if self.skipped else ""
        return "\n  ".join([f"audit: {len(self.known)} known in {self.audited} packages{skipped}", *self.known])


def write_bill() -> str:
    """Write the bill of materials and return a line with its path; XML, because that is validated fastest."""
    BILL.parent.mkdir(exist_ok=True)
    made = ["environment", "--pyproject", "pyproject.toml", "--short-PURLs", "--output-reproducible", "--validate"]
    kept = ["--output-format", "XML", "--output-file", str(BILL), sys.executable]
    subprocess.run([BIN / "cyclonedx-py", *made, *kept], cwd=ROOT, check=True, capture_output=True)
    return f"bill of materials: {BILL.relative_to(ROOT)}"


def audit() -> Audit:
    """Look up all installed packages."""
    options = ["--skip-editable", "--progress-spinner", "off", "--format", "json", "--timeout", "5"]
    try:
        done = subprocess.run(
            [BIN / "pip-audit", *options], cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return Audit(failure=f"PyPI did not answer within {TIMEOUT_S} s")
    return read_audit(done.stdout, done.stderr)


def read_audit(printed: str, said: str) -> Audit:
    """Read the output of pip-audit; if it is empty, its last line of stderr is the failure."""
    try:
        packages: list[dict[str, Any]] = json.loads(printed)["dependencies"]
    except ValueError:
        return Audit(failure=(said.strip().splitlines() or ["pip-audit printed nothing"])[-1])
    looked_up = [package for package in packages if "skip_reason" not in package]
    known = tuple(_line(package, found) for package in looked_up for found in package["vulns"])
    return Audit(len(looked_up), len(packages) - len(looked_up), known)


def _line(package: dict[str, Any], found: dict[str, Any]) -> str:
    fix = f"fixed in {', '.join(found['fix_versions'])}" if found["fix_versions"] else "not fixed yet"
    return f"{package['name']} {package['version']}: {found['id']}, {fix}"


def main() -> int:
    """Print both and return the exit status."""
    print(write_bill())
    found = audit()
    print(found)
    return int("--strict" in sys.argv[1:] and bool(found.known or found.failure or not found.audited))


if __name__ == "__main__":
    sys.exit(main())
