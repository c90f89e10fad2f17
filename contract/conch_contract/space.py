"""The identity of a vector space: a short name that two vectors share only if they can be compared.

It is the hash of all that gives vectors their meaning: the checkpoint's weights and settings, its tokenizer, what was
merged into it, pooling, normalisation, prompts, and the dimension. It does not depend on the model's name, nor on the
precision, which moves vectors a little within one space; that is stated beside it.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from conch_contract.errors import SpaceError
from conch_contract.tasks import Task

if TYPE_CHECKING:
    from conch_contract.model_info import ModelInfo

_LETTERS = 16  # 64 bits: two of a billion spaces share an id with a probability of 3 %
_SHORT, _UNIT = "/{}", "/unit"


def space_id(info: ModelInfo) -> str | None:
    """The space of a model's vectors as they are served: 16 hexadecimal digits.

    None for models without vectors, and for those whose export or upstream does not say what they were made from. The
    rule never changes for vectors that stay the same: indexes are recorded under it.
    """
    if info.dimension is None or info.checkpoint_sha256 is None:
        return None
    dense = info.task in (Task.EMBEDDING, Task.LATE_CHUNKING)  # chunks are compared with queries of the other
    meaning = {
        "kind": "dense" if dense else str(info.task),
        "checkpoint": info.checkpoint_sha256,
        "code": info.code_sha256 or "",
        "adapter": info.adapter or "",
        "tokenizer": info.tokenizer_sha256,
        "pooling": info.pooling or "",
        "pools_prompt": info.pools_prompt,
        "normalized": info.normalized,
        "centred": info.matryoshka_centred,
        "prompts": dict(info.prompts),
        "default_prompt": info.default_prompt_name or "",
        "interaction": info.interaction.to_parameter() if info.interaction else "",
        "dimension": info.dimension,
    }
    text = json.dumps(meaning, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:_LETTERS]


def space_of(info: ModelInfo, dimensions: int | None = None, *, normalize: bool = True) -> str | None:
    """The space of vectors that a call changes: ``ID/256`` where they are cut to 256 numbers.

    ``ID/unit`` where a model whose vectors have any length is asked for vectors of length 1.

    Args:
        info: The model.
        dimensions: Length that dense vectors are cut to; None for their own.
        normalize: Whether the call asks for length 1.
    """
    space = info.space_id
    if space is None or info.task is Task.SPARSE:
        return space
    if dimensions is not None and dimensions != info.dimension:
        space += _SHORT.format(dimensions)
    return space + _UNIT if normalize and not info.normalized else space


def check_space(expected: str | None, actual: str | None, model: str) -> None:
    """Refuse to answer from another space than the caller's vectors are in.

    Args:
        expected: The caller's; None for any.
        actual: That of the answer; None where it is not known, or there are no vectors.
        model: Its name, for the message.

    Raises:
        SpaceError: They differ.
    """
    if expected is None or expected == actual:
        return
    space = f"answers in the vector space {actual!r}" if actual else "states no vector space"
    raise SpaceError(
        f"expect_space is {expected!r}, and {model} {space}; vectors of different spaces cannot be compared: ask the "
        "model that made yours, or embed your texts again"
    )
