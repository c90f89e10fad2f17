"""Text of a verification's measurements, for tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conch_export import Verification


def measured(found: Verification) -> str:
    """Return one public model's agreement with its reference, a line per measure."""
    return "\n".join(_lines(found))


def _lines(found: Verification) -> Iterator[str]:
    yield f"{found.texts} texts, {found.tokens} tokens: largest difference {found.max_difference:.1e}"
    if found.mean_cosine is not None:
        yield f"cosine mean {found.mean_cosine:.5f}, worst {found.min_cosine:.5f}"
    if found.centred_cosine is not None:
        yield f"after the common mean is subtracted: cosine {found.centred_cosine:.5f}"
    if found.rank_correlation is not None:
        yield f"rank correlation {found.rank_correlation:.4f}, scores off by {found.score_error:.3f} of their spread"
    yield f"merged against alone: {found.max_merged_difference:.1e}"
