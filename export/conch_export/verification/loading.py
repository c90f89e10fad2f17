"""What loading a checkpoint with its authors' libraries has in common, whatever the kind of model."""

from __future__ import annotations

import logging
import warnings
from contextlib import contextmanager
from functools import wraps
from typing import TYPE_CHECKING, Any

import torch
import transformers

from conch_export.errors import VerificationError, reason_of

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def loading(name: str, library: str) -> Iterator[None]:
    """Without warnings of libraries; what keeps one of them from loading a checkpoint becomes a VerificationError.

    Args:
        name: of the model.
        library: that loads its checkpoint.
    """
    for each in ("transformers", "sentence_transformers"):
        logging.getLogger(each).setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except (OSError, ValueError, KeyError, TypeError, AttributeError, ImportError, RuntimeError) as error:
            msg = (
                f"{name} is not published: {library}, which it is compared with, cannot load the checkpoint "
                f"({reason_of(error)})"
            )
            raise VerificationError(msg) from error


def processor_of(tokenizer: Any) -> Any:
    """Return the processor of texts for a model that reads more than text.

    Unlike a tokenizer, it adds special tokens around a conversation. Of its parts only the
    tokenizer is there, as the others need packages for images and are not needed for texts.
    """
    parts = {"attributes": ["tokenizer"], "tokenizer_class": "AutoTokenizer"}
    kind: Any = type("TextProcessor", (transformers.ProcessorMixin,), parts)
    return kind(tokenizer, chat_template=tokenizer.chat_template)


def see_both_ways(model: Any) -> None:
    """Give a decoder a mask that hides no later tokens where its config.json says `is_causal = false`.

    transformers honours that since 5.2 and ignores it before; a mask with four axes is taken as it is by both.
    """
    if getattr(model.config, "is_causal", None) is not False:
        return
    forward, window = model.base_model.forward, getattr(model.config, "sliding_window", None)

    @wraps(forward)
    def both_ways(input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None, **named: Any) -> Any:
        places = torch.arange(input_ids.shape[1])
        hidden = torch.zeros(len(places), len(places), dtype=torch.bool)
        if window is not None:
            hidden |= (places[:, None] - places).abs() > window
        if attention_mask is not None:
            hidden |= attention_mask[0] == 0
        return forward(input_ids, torch.where(hidden, -torch.inf, 0.0)[None, None], **named)

    # Not a hook, because sentence-transformers calls `forward` by its name, past all hooks.
    model.base_model.forward = both_ways
