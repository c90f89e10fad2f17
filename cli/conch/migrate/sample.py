"""Reads the texts for `conch migrate`: lines of a file, JSONL, or paragraphs of the files of a folder."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from conch.load.texts import file_texts, text_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_TEXT_FILES = (".txt", ".md", ".rst")
_BLANK_LINES = re.compile(r"\n\s*\n")


def read_sample(path: Path, most: int) -> list[str]:
    """Return up to `most` different texts of a file or a folder, evenly chosen.

    Raises:
        ValueError: There are no texts, or a file is malformed.
        OSError: It cannot be read.
    """
    read = _paragraphs if path.is_dir() else _records if path.suffix == ".jsonl" else file_texts
    texts = list(dict.fromkeys(read(path)))
    if not texts:
        raise ValueError(f"{path} has no text; give a file with one in every line, or a folder of text files")
    return _evenly(texts, most)


def _paragraphs(folder: Path) -> list[str]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix in _TEXT_FILES)
    contents = (text_of(path) for path in paths)
    return [part.strip() for content in contents for part in _BLANK_LINES.split(content) if part.strip()]


def _records(path: Path) -> list[str]:
    texts = []
    for number, line in enumerate(text_of(path).split("\n"), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except ValueError as error:
            raise ValueError(f"{path}:{number} is not JSON: {error}") from error
        text = record.get("text") if isinstance(record, dict) else record
        if not isinstance(text, str):
            raise ValueError(f'{path}:{number} has no text; write a string, or an object such as {{"text": "…"}}')
        texts.append(text)
    return texts


def _evenly(texts: Sequence[str], most: int) -> list[str]:
    step = max(1.0, len(texts) / most)
    return [texts[int(place * step)] for place in range(min(most, len(texts)))]
