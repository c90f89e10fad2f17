"""What sentence-transformers' authors put behind the transformer. Hides its files and how their form changed."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from conch_export.checkpoints.known_settings import MODEL_ARGUMENTS_WITHOUT_EFFECT, MODULE, MODULES, refuse_unknown
from conch_export.checkpoints.scoring import is_cross_encoder, read_scoring
from conch_export.checkpoints.settings import Settings
from conch_export.errors import SourceError, UndecidedError, UnsupportedError
from conch_export.model.description import ModuleLayer, Pooling

if TYPE_CHECKING:
    from conch_export.checkpoints.checkpoint import Checkpoint

TRANSFORMERS = ("Transformer", "MLMTransformer")
_KNOWN = (*TRANSFORMERS, "Pooling", "Dense", "Normalize", "SpladePooling", "LogitScore", "Dropout")
_BUILT: dict[str, tuple[Any, ...]] = {
    "processing_kwargs": ({},),
    "tokenizer_name_or_path": (),
    "transformer_task": ("feature-extraction", "fill-mask", "sequence-classification", "text-generation"),
}
"""What sentence-transformers' settings of the encoder may say."""
_ORDER = {"Pooling": 1, "Dense": 2, "Normalize": 3}


class Modules:
    """The modules of a checkpoint, in order.

    Raises:
        UnsupportedError: one is not built, or they come in an order that is not.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint
        modules = [_module(stated) for stated in checkpoint.modules]
        self._folders = [(kind, folder) for kind, folder in modules if kind != "Dropout"]
        self._refuse_unknown()
        if self._folders:
            self._refuse_strange_encoder()

    @property
    def kinds(self) -> list[str]:
        """Their names; empty where the checkpoint does not list them."""
        return [kind for kind, _ in self._folders]

    def settings(self, kind: str) -> Settings:
        """The configuration of the module of that kind, empty where there is none."""
        folders = [folder for name, folder in self._folders if name == kind]
        return self._settings(kind, folders[0]) if folders else Settings(kind, {})

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
        if not stated.of("include_prompt", bool, default=True):
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

    def dense(self) -> tuple[ModuleLayer, ...]:
        """Layers after the pooling."""
        return tuple(self._dense(folder) for kind, folder in self._folders if kind == "Dense")

    def logarithms(self) -> int:
        """How often SPLADE's pooling takes log(1 + x)."""
        stated = self.settings("SpladePooling")
        pooling = stated.of("pooling_strategy", str, "max")
        activation = stated.of("activation_function", str, "relu")
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
        answers = {answer: stated.of(f"{answer}_token_id", int, -1) for answer in ("true", "false")}
        if min(answers.values()) < 0:
            message = "a reranker that scores by one word's logit is not built: it needs a word for yes and one for no"
            raise UnsupportedError(message)
        return tuple(map(self._checkpoint.token, answers.values()))

    def _dense(self, folder: str) -> ModuleLayer:
        stated = self._settings("Dense", folder)
        if not stated.of("out_features", int, 0) > 0 or stated.of("use_residual", bool, default=False):
            message = f"{stated.place} describes a Dense module that is not built"
            raise UnsupportedError(message)
        vectors = "sentence_embedding" if "Pooling" in self.kinds else "token_embeddings"
        for key in ("module_input_name", "module_output_name"):
            if stated.of(key, str, vectors) != vectors:
                message = f"{stated.place} states {key} = {stated[key]!r}, which is not built (known: {vectors!r})"
                raise UnsupportedError(message)
        # sentence-transformers' own default is Tanh; it writes "Identity" for none.
        activation = stated.of("activation_function", str, "torch.nn.modules.activation.Tanh")
        if not activation.startswith("torch."):
            message = (
                f"{stated.place} states activation_function = {activation!r}, code of the checkpoint's own, which "
                "is not run (known: those of torch.nn)"
            )
            raise UnsupportedError(message)
        return ModuleLayer("Dense", folder, activation.rsplit(".", 1)[-1].lower(), stated["out_features"])

    def _settings(self, kind: str, folder: str) -> Settings:
        stated = self._checkpoint.settings(f"{folder}/config.json")
        refuse_unknown(stated, MODULES.get(kind, ()))
        return stated

    def _refuse_strange_encoder(self) -> None:
        """Refuse ways to run the encoder, or to prepare its texts, that are not built."""
        stated = self._checkpoint.transformer_settings
        for key in ("model_args", "model_kwargs"):
            refuse_unknown(stated.inner(key), MODEL_ARGUMENTS_WITHOUT_EFFECT)
        for key, built in _BUILT.items():
            if key in stated and stated[key] not in (None, *built):
                message = f"{stated.place} states {key} = {stated[key]!r}, which is not built" + (
                    f" (known: {', '.join(map(repr, built))})" if built else ""
                )
                raise UnsupportedError(message)
        if "message" in stated.inner("modality_config"):
            message = f"{stated.place}: texts that go through a chat template (modality_config, message) are not built"
            raise UnsupportedError(message)

    def scoring(self) -> tuple[ModuleLayer, ...]:
        """The layers behind the pooling of a cross-encoder."""
        return read_scoring(self._checkpoint, self._folders)

    def _refuse_unknown(self) -> None:
        if is_cross_encoder(self._checkpoint):  # whose layers may come in any order
            return
        unknown = [kind for kind in self.kinds if kind not in _KNOWN]
        folders = [folder for kind, folder in self._folders if kind in TRANSFORMERS]
        unknown += [f"{folder}/" for folder in folders if self._checkpoint.transformer.name != folder and folder]
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


def _module(stated: Settings) -> tuple[str, str]:
    """Kind and folder of a module.

    Raises:
        SourceError: it states neither, or a folder that is elsewhere.
        UnsupportedError: it states a key that is not known here, or takes arguments of its own from callers.
    """
    refuse_unknown(stated, MODULE)
    if stated.of("kwargs", list[Any], []):
        message = f"{stated.place} takes arguments from its callers (kwargs = {stated['kwargs']!r}), which is not built"
        raise UnsupportedError(message)
    for key in ("type", "path"):
        if not isinstance(stated.get(key), str):
            message = f"{stated.place} should state {key!r}, a text: fetch the checkpoint again"
            raise SourceError(message)
    if not re.fullmatch(r"(\w[\w.-]*)?", stated["path"]):
        raise stated.wrong("path", "the name of a folder of the checkpoint")
    return stated["type"].rsplit(".", 1)[-1], stated["path"]


def _pooling_modes(stated: Settings) -> list[str]:
    """Names of what is joined: `pooling_mode` since sentence-transformers 5.7, one flag for each before."""
    named = stated.get("pooling_mode")
    if named is None:
        flags = (key.removeprefix("pooling_mode_") for key, value in stated.items() if value is True)
        named = [flag for flag in flags if flag != "include_prompt"]
    modes = [named] if isinstance(named, str) else named
    if not isinstance(modes, list) or not all(isinstance(mode, str) for mode in modes):
        raise stated.wrong("pooling_mode", "a text or a list of texts")
    return [mode.removesuffix("_tokens").removesuffix("_token") for mode in modes]
