"""Refuses options of an export that its task, its pooling or a static model cannot use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from conch_contract import Task

from conch_export.errors import UnsupportedError
from conch_export.model.description import Pooling

if TYPE_CHECKING:
    from conch_export.model.description import Overrides


def refuse_unfit(task: Task, overrides: Overrides, *, late_interaction: bool | None) -> None:
    """Refuse options that mean nothing for a task."""
    if late_interaction and task not in (Task.EMBEDDING, Task.MULTI_VECTOR):
        raise UnsupportedError(f"late interaction needs token vectors: leave --late-interaction out for {task.value}")
    of_rerankers = {
        "--label": overrides.label,
        "--score-tokens": overrides.score_tokens,
        "--pair-template": overrides.pair_template,
        "--default-instruction": overrides.default_instruction,
    }
    of_embedding_models = {
        "--pooling": overrides.pooling,
        "--normalize": overrides.normalize,
        "--matryoshka": overrides.matryoshka,
        "--matryoshka-centred": overrides.matryoshka_centred,
        "--lexical": overrides.lexical or None,
        "--late-chunking": overrides.late_chunking or None,
    }
    for only, models, options in (
        (Task.CROSS_ENCODER, "rerankers", of_rerankers),
        (Task.EMBEDDING, "embedding models", of_embedding_models),
    ):
        if task is not only and (unfit := [option for option, stated in options.items() if stated is not None]):
            raise UnsupportedError(f"{unfit[0]} is for {models}: leave it out for {task.value}")


def refuse_unfit_pooling(pooling: Pooling, *, late_chunking: bool, pools_prompt: bool) -> None:
    """Refuse what is defined by the mean of tokens for a model that pools otherwise."""
    if late_chunking and pooling is not Pooling.MEAN:
        msg = f"--late-chunking needs a model that pools by the mean, and this one pools by {pooling.value}"
        raise UnsupportedError(f"{msg}: leave it out")
    if not pools_prompt and pooling is not Pooling.MEAN:
        msg = f"prompts left out of the pooling (include_prompt) are built for the mean, not for {pooling.value}"
        raise UnsupportedError(msg)
    if not pools_prompt and late_chunking:
        msg = "--late-chunking is not built for a model that leaves prompts out of its pooling: leave it out"
        raise UnsupportedError(msg)


def refuse_what_needs_an_encoder(overrides: Overrides, *, late_interaction: bool) -> None:
    """Raise UnsupportedError for what the operator asks for and only an encoder can do."""
    asked = {
        "another task than embedding": overrides.task not in (None, Task.EMBEDDING),
        "another pooling than the mean": overrides.pooling not in (None, Pooling.MEAN),
        "late interaction": late_interaction,
        "lexical weights": bool(overrides.lexical),
        "late chunking": bool(overrides.late_chunking),
    }
    if wanted := [what for what, is_asked in asked.items() if is_asked]:
        msg = f"a static model has a vector for each token and no encoder: {', '.join(wanted)} is not built for it"
        raise UnsupportedError(msg)
