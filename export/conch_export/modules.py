"""What sentence-transformers' authors put behind the transformer. Hides its files and how their form changed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from conch_export.errors import UndecidedError, UnsupportedError
from conch_export.graphs.heads import Pooling

if TYPE_CHECKING:
    from conch_export.checkpoint import Checkpoint

TRANSFORMERS = ("Transformer", "MLMTransformer")
_KNOWN = (*TRANSFORMERS, "Pooling", "Dense", "Normalize", "SpladePooling", "LogitScore", "Dropout")
_ORDER = {"Pooling": 1, "Dense": 2, "Normalize": 3}


@dataclass(frozen=True)
class DenseModule:
    """A layer after the pooling, or over each token's vector where there is none.

    Attributes:
        folder: in the checkpoint, of its weights.
        width: of what it gives.
        activation: see `graphs.heads`.
    """

    folder: str
    width: int
    activation: str


class Modules:
    """The modules of a checkpoint, in order.

    Raises:
        UnsupportedError: one is not built, or they come in an order that is not.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint
        stated = checkpoint.json("modules.json") or []
        modules = [(str(module["type"]).rsplit(".", 1)[-1], str(module["path"])) for module in stated]
        self._folders = [(kind, folder) for kind, folder in modules if kind != "Dropout"]
        self._refuse_unknown()

    @property
    def kinds(self) -> list[str]:
        """Their names; empty where the checkpoint does not list them."""
        return [kind for kind, _ in self._folders]

    def settings(self, kind: str) -> dict[str, Any]:
        """The configuration of the module of that kind, empty where there is none."""
        folders = [folder for name, folder in self._folders if name == kind]
        return self._checkpoint.settings(f"{folders[0]}/config.json") if folders else {}

    def pooling(self, asked: Pooling | None) -> Pooling:
        """How token vectors become one.

        Raises:
            UndecidedError: neither the checkpoint nor the operator says.
            UnsupportedError: it asks for something that is not built.
        """
        if asked is not None:
            return asked
        stated = self.settings("Pooling")
        if not stated:
            message = f"the checkpoint does not say how to pool: state its authors' choice with --pooling {_OPTIONS}"
            raise UndecidedError(message)
        if stated.get("include_prompt") is False:
            message = (
                "the checkpoint leaves prompts out of the pooling (include_prompt), which is not built: what arrives "
                "here are tokens, and they do not say where the prompt ends"
            )
            raise UnsupportedError(message)
        modes = _pooling_modes(stated)
        if len(modes) != 1 or modes[0] not in _POOLINGS:
            message = f"pooling {' + '.join(modes) or 'nothing'} is not built (known: {', '.join(_POOLINGS)})"
            raise UnsupportedError(message)
        return _POOLINGS[modes[0]]

    def normalize(self, asked: bool | None) -> bool:  # noqa: FBT001 - mirrors the override
        """Whether vectors leave with length 1; raises UndecidedError where nothing says."""
        if asked is not None:
            return asked
        if not self.kinds:
            message = (
                "the checkpoint does not say whether vectors are normalised: state it with --normalize or "
                "--no-normalize"
            )
            raise UndecidedError(message)
        return "Normalize" in self.kinds

    def dense(self) -> tuple[DenseModule, ...]:
        """Layers after the pooling."""
        return tuple(self._dense(folder) for kind, folder in self._folders if kind == "Dense")

    def logarithms(self) -> int:
        """How often SPLADE's pooling takes log(1 + x)."""
        stated = self.settings("SpladePooling")
        pooling, activation = stated.get("pooling_strategy", "max"), stated.get("activation_function", "relu")
        if pooling != "max" or activation not in _LOGARITHMS:
            known = ", ".join(map(repr, _LOGARITHMS))
            message = (
                f"SPLADE with pooling {pooling!r} and activation {activation!r} is not built (known: 'max', {known})"
            )
            raise UnsupportedError(message)
        return _LOGARITHMS[activation]

    def score_tokens(self) -> tuple[str, ...]:
        """The words for yes and no, of a reranker that answers in them; empty for others.

        Raises:
            UnsupportedError: there is a word for yes only.
        """
        stated = self.settings("LogitScore")
        if not stated:
            return ()
        if stated.get("false_token_id") is None:
            message = "a reranker that scores by one word's logit is not built: it needs a word for yes and one for no"
            raise UnsupportedError(message)
        return tuple(self._checkpoint.token(int(stated[f"{answer}_token_id"])) for answer in ("true", "false"))

    def _dense(self, folder: str) -> DenseModule:
        stated = self._checkpoint.settings(f"{folder}/config.json")
        if "out_features" not in stated or stated.get("use_residual"):
            message = f"{folder}/config.json describes a Dense module that is not built"
            raise UnsupportedError(message)
        activation = str(stated.get("activation_function") or "Identity").rsplit(".", 1)[-1].lower()
        return DenseModule(folder, int(stated["out_features"]), activation)

    def _refuse_unknown(self) -> None:
        unknown = [kind for kind in self.kinds if kind not in _KNOWN]
        order = [_ORDER[kind] for kind in self.kinds if kind in _ORDER]
        if unknown or order != sorted(order):
            message = f"the checkpoint ends in {', '.join(unknown or self.kinds[1:])}, which is not built"
            raise UnsupportedError(message)


_POOLINGS = {
    "mean": Pooling.MEAN,
    "cls": Pooling.CLS,
    "max": Pooling.MAX,
    "lasttoken": Pooling.LAST,
    "weightedmean": Pooling.WEIGHTED_MEAN,
    "mean_sqrt_len": Pooling.MEAN_SQRT_LENGTH,
}
"""By the name that sentence-transformers gives them."""
_LOGARITHMS = {"relu": 1, "log1p_relu": 2}
_OPTIONS = "|".join(pooling.value for pooling in Pooling)


def _pooling_modes(stated: dict[str, Any]) -> list[str]:
    """Names of what is joined: `pooling_mode` since sentence-transformers 5.7, one flag for each before."""
    named = stated.get("pooling_mode")
    if named is None:
        flags = (key.removeprefix("pooling_mode_") for key, value in stated.items() if value is True)
        named = [flag for flag in flags if flag != "include_prompt"]
    modes = [named] if isinstance(named, str) else named
    return [mode.removesuffix("_tokens").removesuffix("_token") for mode in modes]
