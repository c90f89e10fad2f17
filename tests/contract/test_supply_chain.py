"""The bill of materials and the audit of `make check`."""

from __future__ import annotations

import json
import re

import pytest

from deploy import supply_chain
from deploy.supply_chain import read_audit


def test_the_bill_names_what_is_installed_and_from_nowhere_in_particular() -> None:
    supply_chain.write_bill()
    written = supply_chain.BILL.read_text(encoding="utf-8")

    assert 'xmlns="http://cyclonedx.org/schema/bom/' in written
    names = set(re.findall(r"<name>(.*?)</name>", written))
    assert {"conch", "fastapi", "uvicorn", "httptools", "tokenizers", "nvidia-pytriton"} <= names
    assert [purl for purl in re.findall(r"<purl>(.*?)</purl>", written) if "?" in purl] == []


def test_what_is_known_is_told_with_its_fix() -> None:
    vulnerabilities = [{"id": "PYSEC-1", "fix_versions": ["2.0"]}, {"id": "PYSEC-2", "fix_versions": []}]
    printed = {
        "dependencies": [
            {"name": "good", "version": "1.0", "vulns": []},
            {"name": "bad", "version": "1.1", "vulns": vulnerabilities},
            {"name": "ours", "skip_reason": "not found on PyPI"},
        ]
    }

    assert str(read_audit(json.dumps(printed), "")).splitlines() == [
        "audit: 2 known in 2 packages, 1 could not be looked up",
        "  bad 1.1: PYSEC-1, fixed in 2.0",
        "  bad 1.1: PYSEC-2, not fixed yet",
    ]


@pytest.mark.parametrize("said", ["", "Traceback\nERROR: cannot connect to the service"])
def test_without_a_network_it_says_so_in_one_line(said: str) -> None:
    told = str(read_audit("", said))

    assert told.startswith("audit: not done")
    assert "\n" not in told
