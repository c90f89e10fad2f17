"""Texts of users for `--texts`: lines of a file, JSONL, or paragraphs of the files of a folder."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_TEXT_FILES = (".txt", ".md", ".rst")
_BLANK_LINES = re.compile(r"\n\s*\n")


def text_of(path: Path) -> str:
    """Return the text of a file; raises ValueError if it is not in UTF-8."""
    content = path.read_bytes()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"{path} is not in UTF-8 (line {line}); convert it, as with iconv -f WINDOWS-1252 -t UTF-8 OLD > NEW"
        ) from error


def read_texts(path: Path) -> list[str]:
    """Return the texts of a file or a folder, without blank ones.

    Raises:
        ValueError: There are none, or a file is malformed or cannot be read.
    """
    read = _paragraphs if path.is_dir() else _records if path.suffix == ".jsonl" else _lines
    try:
        texts = read(path)
    except OSError as error:
        raise ValueError(f"{error.filename} cannot be read ({error.strerror}); give another file or folder") from error
    if not texts:
        raise ValueError(f"{path} has no text; give a file with one in every line, or a folder of text files")
    return texts


def read_sample(path: Path, most: int) -> list[str]:
    """Return up to `most` different texts of a file or a folder, evenly chosen; raises ValueError as `read_texts`."""
    return _evenly(list(dict.fromkeys(read_texts(path))), most)


def _lines(path: Path) -> list[str]:
    return [line.strip() for line in text_of(path).split("\n") if line.strip()]


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
            raise ValueError(f"{path}:{number} is not JSON: {error}; write a text in quotes, or an object") from error
        text = record.get("text") if isinstance(record, dict) else record
        if not isinstance(text, str):
            raise ValueError(f'{path}:{number} has no text; write a string, or an object such as {{"text": "…"}}')
        texts.append(text)
    return texts


def _evenly(texts: Sequence[str], most: int) -> list[str]:
    step = max(1.0, len(texts) / most)
    return [texts[int(place * step)] for place in range(min(most, len(texts)))]
