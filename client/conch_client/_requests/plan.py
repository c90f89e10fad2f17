"""Micro-batches: how a list of any length becomes requests of a bounded size.

Rows of similar length travel together, so that little is padded, and the longest go first, so that none is left to
finish alone at the end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_TOKENS = 1024
"""Cells of one request's ``input_ids``, padding included. On a CPU larger requests were no faster than this; where they
are, Triton merges several."""


def plan_batches(
    lengths: NDArray[np.int64], *, max_rows: int, max_tokens: int = MAX_TOKENS, lead: int = 0
) -> list[NDArray[np.intp]]:
    """Splits rows into micro-batches, longest first.

    Args:
        lengths: Tokens of each row, int64 [n].
        max_rows: Most rows in a batch, its leading row included.
        max_tokens: Most cells (rows times longest row) of a batch; a row longer than that gets a batch of its own.
        lead: Tokens of a row that the caller puts before every batch (a reranker's query); 0 for none.

    Returns:
        Row numbers of each batch; every row is in exactly one.
    """
    order = np.argsort(-lengths, kind="stable")
    led = int(lead > 0)
    batches = []
    start = 0
    while start < len(order):
        width = max(int(lengths[order[start]]), lead, 1)
        rows = max(1, min(max_rows, max_tokens // width) - led)
        batches.append(order[start : start + rows])
        start += rows
    return batches
