"""Names that a public model cannot have."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from conch_export import Options, UnsupportedError
from conch_export.options import public_name

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("ending", ["encoder", "tokenizer", "pooling", "classifier", "projection", "sparse", "maxsim"])
def test_names_of_what_is_behind_a_model_are_no_names(tmp_path: Path, ending: str) -> None:
    with pytest.raises(UnsupportedError, match=f"'a.{ending}' is what the {ending} of a model is called"):
        public_name(Options("x", tmp_path, name=f"a.{ending}"))
    assert public_name(Options("x", tmp_path, name=f"a.{ending}-2")) == f"a.{ending}-2"
