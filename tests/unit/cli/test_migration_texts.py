"""The texts that `conch migrate` reads."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from conch.texts import read_sample

if TYPE_CHECKING:
    from pathlib import Path

TEXTS = ["a line\u2028and another", "next\x85line", "form\x0cfeed"]
"""With separators of Unicode, which end no line of a file; JSON strings may have all but the last as they are."""


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
@pytest.mark.parametrize("name", ["texts.jsonl", "texts.txt"])
def test_separators_within_a_text_end_no_line(name: str, line_end: str, tmp_path: Path) -> None:
    lines = [json.dumps({"text": text}, ensure_ascii=False) if name == "texts.jsonl" else text for text in TEXTS]
    path = tmp_path / name
    path.write_text(line_end.join([*lines, ""]), encoding="utf-8", newline="")
    assert read_sample(path, 10) == TEXTS
