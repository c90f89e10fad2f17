"""Imports go on without garbage collection, which goes on after them."""

from __future__ import annotations

import gc

import pytest
from conch.importing import importing


def test_nothing_is_collected_until_the_imports_are_done() -> None:
    with importing():
        assert not gc.isenabled()
    assert gc.isenabled()


def test_it_is_collected_again_where_an_import_fails() -> None:
    with pytest.raises(ModuleNotFoundError), importing():
        raise ModuleNotFoundError
    assert gc.isenabled()
