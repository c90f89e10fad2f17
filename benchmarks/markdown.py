"""Tables in Markdown, for the pages that are generated."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: bool = False) -> Iterator[str]:
    """Yield the lines of a table; with `numbers`, all columns but the first are aligned to the right."""
    for cells in (head, ("---", *["---:" if numbers else "---"] * (len(head) - 1)), *rows):
        escaped = (cell.replace("|", r"\|") for cell in cells)
        yield f"| {' | '.join(escaped)} |"
