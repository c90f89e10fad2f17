"""Cores that a process may use, in file systems as Linux shows them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from conch_contract import usable_cores

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine of 64 cores."""
    (tmp_path / "proc" / "self").mkdir(parents=True)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    return tmp_path


def group(root: Path, path: str, **files: str) -> None:
    folder = root / "sys" / "fs" / "cgroup" / path
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name.replace("_", ".", 1)).write_text(content)


def test_without_groups_they_are_those_it_may_run_on(root: Path) -> None:
    assert usable_cores(root) == 64
    (root / "proc" / "self" / "cgroup").write_text("0::/\n")
    assert usable_cores(root) == 64


@pytest.mark.parametrize(
    ("quota", "cores"),
    [
        pytest.param("200000 100000", 2, id="two"),
        pytest.param("150000 100000", 2, id="one and a half"),
        pytest.param("1000 100000", 1, id="a hundredth"),
        pytest.param("6400000 50000", 64, id="more than there are"),
        pytest.param("max 100000", 64, id="no quota"),
    ],
)
def test_a_containers_quota_holds(root: Path, quota: str, cores: int) -> None:
    (root / "proc" / "self" / "cgroup").write_text("0::/\n")
    group(root, "", cpu_max=quota)
    assert usable_cores(root) == cores


def test_the_narrowest_quota_around_the_process_holds(root: Path) -> None:
    (root / "proc" / "self" / "cgroup").write_text("0::/pod/container\n")
    group(root, "pod/container", cpu_max="max 100000")
    group(root, "pod", cpu_max="300000 100000")
    group(root, "", cpu_max="800000 100000")
    assert usable_cores(root) == 3


@pytest.mark.parametrize(("quota", "cores"), [("250000", 3), ("-1", 64)])
def test_the_quota_of_the_older_kind_of_groups_holds_too(root: Path, quota: str, cores: int) -> None:
    # As a container sees it: the path is the one outside of it, and its own group is mounted at the top.
    (root / "proc" / "self" / "cgroup").write_text("4:memory:/docker/1\n3:cpu,cpuacct:/docker/1\n0::/\n")
    group(root, "cpu", cpu_cfs_quota_us=quota, cpu_cfs_period_us="100000")
    assert usable_cores(root) == cores
