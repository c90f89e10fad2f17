"""Search the text files of a folder by meaning.

    python examples/search_folder.py docs "how is a model published?"

Every paragraph is embedded once; the answer is those with the largest dot product (vectors have length 1).
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from conch_client import Client

if TYPE_CHECKING:
    from collections.abc import Iterator

SUFFIXES = {".md", ".rst", ".txt"}


class Paragraph(NamedTuple):
    """A paragraph of a file, and the line it begins on."""

    path: Path
    line: int
    text: str


def paragraphs(folder: Path) -> list[Paragraph]:
    """Return the paragraphs of all text files below the folder."""
    files = sorted(path for path in folder.rglob("*") if path.suffix in SUFFIXES)
    return [paragraph for path in files for paragraph in paragraphs_of(path)]


def paragraphs_of(path: Path) -> Iterator[Paragraph]:
    """Return the paragraphs of one file, which empty lines separate."""
    content = path.read_text(encoding="utf-8", errors="replace")
    for match in re.finditer(r"\S(?:.|\n(?!\s*\n))*", content):
        yield Paragraph(path, content.count("\n", 0, match.start()) + 1, match.group())


def main() -> None:
    """Embed, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("query")
    parser.add_argument("--url", default="127.0.0.1:8001", help="Triton's gRPC endpoint (default: %(default)s)")
    parser.add_argument("--top", type=int, default=3)
    options = parser.parse_args()
    found = paragraphs(options.folder)
    if not found:
        parser.error(f"{options.folder} has no {', '.join(sorted(SUFFIXES))} with text in it")
    with Client(options.url, timeout_s=600) as client:
        # Where the model has prompts for the two, embed with prompt_name="document" and prompt_name="query".
        vectors = client.embed([paragraph.text for paragraph in found])
        scores = vectors @ client.embed([options.query])[0]
    for index in np.argsort(-scores)[: options.top]:
        path, line, text = found[index]
        print(f"{scores[index]:.3f}  {path}:{line}  {' '.join(text.split())[:90]}")


if __name__ == "__main__":
    main()
