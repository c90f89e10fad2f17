"""What sentence-transformers says of a cross-encoder: that it is one, its layers behind the pooling, its activation.

A cross-encoder may be a sequence classifier of transformers, or modules: an encoder, a pooling, and layers the last of
which gives the scores.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from conch_export.errors import UnsupportedError
from conch_export.model.description import ModuleLayer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from conch_export.checkpoints.checkpoint import Checkpoint

_SETTINGS = "config_sentence_transformers.json"
_ACTIVATIONS = ("Sigmoid", "Identity")
_LAYERS = ("Dense", "LayerNorm", "Normalize")
_TANH = "torch.nn.modules.activation.Tanh"
"""What the library's Dense has where its settings name no activation."""


def is_cross_encoder(checkpoint: Checkpoint) -> bool:
    """Whether sentence-transformers saved it as one."""
    return checkpoint.settings(_SETTINGS).get("model_type") == "CrossEncoder"


def refuse_other_activation(checkpoint: Checkpoint) -> None:
    """Refuse scores that are neither logits nor their sigmoid: those are what is served.

    Raises:
        UnsupportedError: the checkpoint states another activation.
    """
    inner = checkpoint.config.get("sentence_transformers") or {}
    stated = (
        checkpoint.settings(_SETTINGS).get("activation_fn")
        or inner.get("activation_fn")
        or checkpoint.config.get("sbert_ce_default_activation_function")
    )
    if stated and not (str(stated).startswith("torch.") and str(stated).rsplit(".", 1)[-1] in _ACTIVATIONS):
        message = f"a cross-encoder whose scores go through {stated} is not built (known: {', '.join(_ACTIVATIONS)})"
        raise UnsupportedError(message)


def read_scoring(checkpoint: Checkpoint, modules: Sequence[tuple[str, str]]) -> tuple[ModuleLayer, ...]:
    """The layers behind the pooling.

    Args:
        checkpoint: of a cross-encoder that has a pooling.
        modules: kinds and folders, in order.

    Raises:
        UnsupportedError: they are not a chain that ends in one score.
    """
    kinds = [kind for kind, _ in modules]
    after = list(modules)[kinds.index("Pooling") + 1 :]
    layers = tuple(
        _layer(checkpoint, kind, folder, last=index == len(after) - 1) for index, (kind, folder) in enumerate(after)
    )
    if not layers or layers[-1].kind != "Dense":
        message = f"a cross-encoder whose modules are {', '.join(kinds)} is not built: a Dense has to give its scores"
        raise UnsupportedError(message)
    return layers


def _layer(checkpoint: Checkpoint, kind: str, folder: str, *, last: bool) -> ModuleLayer:
    if kind not in _LAYERS:
        message = f"a cross-encoder with {kind} behind its pooling is not built (known: {', '.join(_LAYERS)})"
        raise UnsupportedError(message)
    if kind != "Dense":
        return ModuleLayer(kind, folder)
    stated = checkpoint.settings(f"{folder}/config.json")
    source = stated.get("module_input_name") or "sentence_embedding"
    target = stated.get("module_output_name") or source
    activation = str(stated.get("activation_function") or _TANH)
    wanted = ("sentence_embedding", "scores" if last else "sentence_embedding")
    if (source, target) != wanted or not activation.startswith("torch.") or (last and stated.get("out_features") != 1):
        message = f"{folder}/config.json describes a Dense module that is not built into a cross-encoder"
        raise UnsupportedError(message)
    name = activation.rsplit(".", 1)[-1].lower()
    if last and name != "identity":
        message = f"{folder}/config.json puts {activation} before the scores: only logits are built (Identity)"
        raise UnsupportedError(message)
    return ModuleLayer(kind, folder, name)
