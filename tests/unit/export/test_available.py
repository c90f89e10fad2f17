"""Memory that is left, in file systems as Linux shows them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from conch_export.planning.available import available_bytes

if TYPE_CHECKING:
    from pathlib import Path

GIB = 1 << 30


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A machine with 20 GiB left and 1 GiB of swap."""
    (tmp_path / "proc" / "self").mkdir(parents=True)
    kibibytes = {"MemTotal": 24 << 20, "MemAvailable": 20 << 20, "SwapFree": 1 << 20}
    lines = [f"{name}: {count} kB" for name, count in kibibytes.items()]
    (tmp_path / "proc" / "meminfo").write_text("\n".join([*lines, "HugePages_Total: 0"]))
    return tmp_path


def group(root: Path, path: str, files: dict[str, str]) -> None:
    folder = root / "sys" / "fs" / "cgroup" / path
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_text(content)


def test_without_groups_it_is_what_the_machine_has(root: Path) -> None:
    assert available_bytes(root) == 21 * GIB
    (root / "proc" / "self" / "cgroup").write_text("0::/\n")
    assert available_bytes(root) == 21 * GIB


def test_the_narrowest_limit_around_the_process_holds(root: Path) -> None:
    (root / "proc" / "self" / "cgroup").write_text("0::/pod/container\n")
    stat = f"anon 5\ninactive_file {GIB}\nactive_file {GIB // 2}\n"
    group(root, "pod/container", {"memory.max": "max", "memory.current": str(GIB), "memory.stat": stat})
    limits = {"memory.max": str(8 * GIB), "memory.current": str(6 * GIB), "memory.stat": stat}
    group(root, "pod", limits)
    assert available_bytes(root) == 3 * GIB + GIB // 2


def test_the_limits_of_the_older_kind_of_groups_hold_too(root: Path) -> None:
    (root / "proc" / "self" / "cgroup").write_text("5:cpu:/\n4:memory:/docker/1\n0::/\n")
    files = {
        "memory.limit_in_bytes": str(4 * GIB),
        "memory.usage_in_bytes": str(GIB),
        "memory.stat": f"inactive_file 7\nactive_file 7\ntotal_inactive_file 0\ntotal_active_file {GIB // 2}",
    }
    group(root, "memory/docker/1", files)
    assert available_bytes(root) == 3 * GIB + GIB // 2
