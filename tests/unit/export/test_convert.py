"""Architectures that optimum cannot convert are refused with what it says of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from conch_export import UnsupportedError, convert

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (NotImplementedError(), "NotImplementedError"),
        (ValueError("\nno configuration\nfor it"), "no configuration"),
        (OSError("no file named model.safetensors"), "no file named model.safetensors"),
    ],
    ids=repr,
)
def test_what_optimum_says_is_told_in_one_line(
    error: Exception, said: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(convert, "_quietly_export", refuse)
    told = rf"optimum cannot convert it \({said}\): choose a model of a family"
    with pytest.raises(UnsupportedError, match=told), convert.converted(tmp_path, "abacus"):
        pytest.fail("nothing was converted")
