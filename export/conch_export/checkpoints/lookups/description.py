"""The description of a static model, which has no encoder."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from conch_contract import Task

from conch_export.checkpoints.modules import Modules
from conch_export.checkpoints.usage import known_usage, read_matryoshka, read_prompts, read_similarity
from conch_export.errors import UnsupportedError
from conch_export.model.description import Overrides, Packing, Pooling, StaticModel

if TYPE_CHECKING:
    from conch_export.checkpoints.checkpoint import Checkpoint
    from conch_export.checkpoints.lookups.static import StaticFiles


def describe_static(checkpoint: Checkpoint, files: StaticFiles, overrides: Overrides, **common: Any) -> StaticModel:
    """Read the description of a static model.

    Args:
        checkpoint: its files.
        files: those of its table.
        overrides: facts that the operator states.
        **common: name, source and precision.
    """
    modules, usage = Modules(checkpoint), known_usage(common["source"])
    dense, (vocabulary, hidden) = modules.dense(), files.shape
    width, length = dense[-1].width if dense else hidden, overrides.max_length or files.max_length
    stated = files.normalize if overrides.normalize is None else overrides.normalize
    prompts, default = read_prompts(checkpoint, usage, overrides)
    return StaticModel(
        **common,
        architecture=files.architecture,
        packing=Packing.PACKED,
        hidden=width,
        vocabulary=vocabulary,
        max_length=length,
        max_characters=files.max_characters(length),
        tokenizer_sha256=hashlib.sha256(files.tokenizer).hexdigest(),
        tokenizer_bytes=len(files.tokenizer),
        prompts=prompts,
        default_prompt_name=default,
        pooling=Pooling.MEAN,
        normalize=modules.normalize(stated),
        dense=dense,
        dimension=width,
        matryoshka=read_matryoshka(checkpoint, width, usage, overrides.matryoshka),
        similarity=read_similarity(checkpoint),
    )


def refuse_what_needs_an_encoder(overrides: Overrides, *, late_interaction: bool) -> None:
    """Refuse what the operator asks for and only an encoder can do.

    Raises:
        UnsupportedError: there is something.
    """
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
