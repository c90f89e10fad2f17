"""A release has one version everywhere, and its entries in the changelog."""

from __future__ import annotations

import datetime
import re

import pytest

from deploy.release import CHANGELOG, VERSIONS, ReleaseError, released
from tests.declared import PROJECT, ROOT

DAY = datetime.date(2026, 12, 24)
OLD = "## [0.1.0] - 2026-11-20\n\n### Added\n\n- All.\n"
NEW = "### Added\n\n- Snow.\n"


def test_all_packages_and_the_changelog_have_the_same_version() -> None:
    texts = {name: (ROOT / name).read_text(encoding="utf-8") for name in (*VERSIONS, CHANGELOG)}
    found = [re.findall(rf'{before}([^"]+)', texts[name], re.MULTILINE) for name, before in VERSIONS.items()]
    assert [len(versions) for versions in found] == [1, 1, 2]
    newest = re.findall(r"^## \[(\d[^\]]*)\] - \d{4}-\d\d-\d\d$", texts[CHANGELOG], re.MULTILINE)[0]
    assert {newest, *(version for versions in found for version in versions)} == {PROJECT["version"]}


def test_what_is_unreleased_gets_the_version_and_the_date() -> None:
    changelog = f"# Changelog\n\n## [Unreleased]\n\n{NEW}\n{OLD}"
    expected = f"# Changelog\n\n## [Unreleased]\n\n## [0.2.0] - 2026-12-24\n\n{NEW}\n{OLD}"
    assert released(changelog, "0.2.0", DAY) == expected


@pytest.mark.parametrize(
    ("version", "entries", "said"),
    [("0.1.0", NEW, "released already"), ("", NEW, "no version"), ("1.0", NEW, "no version"), ("0.2.0", "", "nothing")],
    ids=["again", "none", "two numbers", "without entries"],
)
def test_a_release_that_is_none_is_refused(version: str, entries: str, said: str) -> None:
    with pytest.raises(ReleaseError, match=said):
        released(f"# Changelog\n\n## [Unreleased]\n\n{entries}\n{OLD}", version, DAY)
