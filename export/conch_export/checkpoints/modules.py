"""The modules that sentence-transformers puts behind the transformer. Hides its files and how their form changed.

A cross-encoder may have modules too: an encoder, a pooling, and layers, the last of which gives the scores.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from conch_export.checkpoints.known_keys import MODEL_ARGUMENTS_WITHOUT_EFFECT, MODEL_TYPES, MODULE, MODULES, kind_of
from conch_export.checkpoints.settings import Settings
from conch_export.errors import SourceError, UndecidedPoolingError, UnsupportedError
from conch_export.model.description import ModuleLayer, Pooling
from conch_export.sources.files import weight_files

if TYPE_CHECKING:
    from conch_contract import Activation

    from conch_export.checkpoints.checkpoint import Checkpoint

_SETTINGS = "config_sentence_transformers.json"
_FIRST = ("Transformer", "MLMTransformer", "StaticEmbedding")
_KNOWN = (
    *_FIRST, "Pooling", "Dense", "Normalize", "SpladePooling", "LogitScore", "Dropout", "MultiVectorMask",
)  # fmt: skip
_ORDER = {"Pooling": 1, "Dense": 2, "Normalize": 3}
_SCORING = ("Dense", "LayerNorm", "Normalize")
"""Kinds of layers behind the pooling of a cross-encoder, in any order."""
_LOGITS = "logits"
_GIVEN_BY = {
    "feature-extraction": ("last_hidden_state", "token_embeddings"),
    "fill-mask": (_LOGITS, "token_embeddings"),
    "sequence-classification": (_LOGITS, "scores"),
    "text-generation": (_LOGITS, "causal_logits"),
    "any-to-any": (_LOGITS, "causal_logits"),
}
"""By `transformer_task`: transformers' name of what the encoder gives, and sentence-transformers' name of it."""
_OF_LATE_INTERACTION = ("document_length", "query_expansion", "query_length")
"""Settings of an encoder that treat queries and documents apart."""
_POOLINGS = {
    "mean": Pooling.MEAN,
    "cls": Pooling.CLS,
    "max": Pooling.MAX,
    "lasttoken": Pooling.LAST,
    "weightedmean": Pooling.WEIGHTED_MEAN,
    "mean_sqrt_len": Pooling.MEAN_SQRT_LENGTH,
}
"""By sentence-transformers' names."""
_LOGARITHMS = {"relu": 1, "log1p_relu": 2}
_VECTOR, _TOKENS, _SCORES = "sentence_embedding", "token_embeddings", "scores"
"""sentence-transformers' names of a text's vector, of those of its tokens and of a cross-encoder's scores."""
_SKIPPING = ["document"]
"""Kinds of texts that the skip list applies to."""
_TANH, _IDENTITY = "torch.nn.modules.activation.Tanh", "torch.nn.modules.linear.Identity"
"""Of a Dense whose settings name no activation: sentence-transformers' default, which writes Identity for none, and
PyLate's."""
_ACTIVATIONS_OF_SCORES: dict[str, Activation] = {"Sigmoid": "sigmoid", "Identity": "identity", "Softmax": "softmax"}


class Modules:
    """The modules of a checkpoint, in order.

    Attributes:
        is_cross_encoder: whether sentence-transformers saved the checkpoint as one.
        looks_up_queries: whether queries are looked up in a table of weights, and documents alone pass the encoder.
        is_multi_vector: whether it saved the checkpoint as a model of late interaction, as it does since version 6.

    Raises:
        UnsupportedError: a module is not built, or not in this order.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint
        settings = checkpoint.settings(_SETTINGS)
        settings.refuse_others("model_type", *MODEL_TYPES)
        saved_as = settings.get("model_type")
        self.is_cross_encoder, self.is_multi_vector = saved_as == "CrossEncoder", saved_as == "MultiVectorEncoder"
        # Which of a checkpoint's own adapters is taken, callers say by `task`; here each is a model of its own.
        arguments = ["task"] if checkpoint.own_adapters else []
        modules = [_kind_and_folder(stated, arguments) for stated in checkpoint.modules]
        self._folders = [(kind, folder) for kind, folder in modules if kind != "Dropout"]
        self._of_pylate = {str(each["path"]) for each in checkpoint.modules if str(each["type"]).startswith("pylate.")}
        self.looks_up_queries = self._looks_up_queries()
        self._refuse_unknown()
        if self._folders:
            self._refuse_strange_encoder()
            self._refuse_strange_normalize()

    @property
    def kinds(self) -> list[str]:
        """Kinds of the modules; empty where the checkpoint does not list them."""
        return [kind for kind, _ in self._folders]

    def pooling(self, asked: Pooling | None = None) -> Pooling:
        """How token embeddings become a text's vector.

        Raises:
            UndecidedPoolingError: neither the checkpoint nor the operator states it.
            UnsupportedError: the checkpoint states something that is not built.
        """
        if asked is not None:
            return asked
        stated = self._settings("Pooling")
        if not stated:
            options = "|".join(pooling.value for pooling in Pooling)
            msg = f"the checkpoint does not say how to pool: state its authors' choice with --pooling {options}"
            raise UndecidedPoolingError(msg)
        modes = _pooling_modes(stated)
        if len(modes) != 1 or modes[0] not in _POOLINGS:
            msg = f"pooling {' + '.join(modes) or 'nothing'} is not built (known: {', '.join(_POOLINGS)})"
            raise UnsupportedError(msg)
        return _POOLINGS[modes[0]]

    @property
    def pools_prompt(self) -> bool:
        """Whether the tokens of a prompt are pooled with those of the text."""
        return self._settings("Pooling").of("include_prompt", bool, default=True)

    def normalize(self, asked: bool | None) -> bool:  # noqa: FBT001 - mirrors the override
        """Whether vectors leave with length 1; raises UndecidedPoolingError where nothing states it."""
        if asked is not None:
            return asked
        if not self.kinds:
            option = "state it with --normalize or --no-normalize"
            raise UndecidedPoolingError(f"the checkpoint does not say whether vectors are normalised: {option}")
        return "Normalize" in self.kinds

    def dense(self) -> tuple[ModuleLayer, ...]:
        """The Dense layers after the pooling, or over every token embedding where there is none."""
        return tuple(
            self._dense(folder, self._vectors, self._vectors) for kind, folder in self._folders if kind == "Dense"
        )

    def scoring(self) -> tuple[ModuleLayer, ...]:
        """The layers behind the pooling of a cross-encoder.

        Raises:
            UnsupportedError: they are not a chain that ends in one score.
        """
        after = self._folders[self.kinds.index("Pooling") + 1 :]
        if unknown := [kind for kind, _ in after if kind not in _SCORING]:
            msg = f"a cross-encoder with {unknown[0]} behind its pooling is not built (known: {', '.join(_SCORING)})"
            raise UnsupportedError(msg)
        last = len(after) - 1
        layers = tuple(
            self._dense(folder, _VECTOR, _SCORES if index == last else _VECTOR)
            if kind == "Dense"
            else ModuleLayer(kind, folder)
            for index, (kind, folder) in enumerate(after)
        )
        if not layers or layers[-1].kind != "Dense":
            kinds = ", ".join(self.kinds)
            msg = f"a cross-encoder whose modules are {kinds} is not built: a Dense has to give its scores"
            raise UnsupportedError(msg)
        return layers

    def logarithms(self) -> int:
        """Return how many times SPLADE's pooling takes log(1 + x).

        Raises:
            UnsupportedError: it is of another kind, or further modules change the weights.
        """
        if self.kinds and self.kinds[1:] != ["SpladePooling"]:
            raise UnsupportedError(f"a sparse model whose modules are {', '.join(self.kinds)} is not built")
        stated = self._settings("SpladePooling")
        pooling = stated.of("pooling_strategy", str, "max")
        activation = stated.of("activation_function", str, "relu")
        if pooling != "max" or activation not in _LOGARITHMS:
            known = f"known: 'max', {', '.join(map(repr, _LOGARITHMS))}"
            raise UnsupportedError(
                f"SPLADE with pooling {pooling!r} and activation {activation!r} is not built ({known})"
            )
        return _LOGARITHMS[activation]

    def skip_list(self) -> list[str]:
        """Tokens of documents that late interaction does not compare.

        Raises:
            UnsupportedError: other tokens than those are left out too, or vectors are not of length 1.
        """
        if "Normalize" not in self.kinds:
            msg = "late interaction without Normalize is not built: vectors of length 1 are compared"
            raise UnsupportedError(msg)
        stated = self._settings("MultiVectorMask")
        for key, built in (("skiplist_tasks", (None, _SKIPPING)), ("keep_only_token_ids", (None, []))):
            if stated.get(key) not in built:
                msg = f"{stated.place} states {key} = {stated[key]!r}, which is not built (known: {built[-1]})"
                raise UnsupportedError(msg)
        return stated.texts("skiplist_words")

    def score_tokens(self) -> tuple[str, ...]:
        """The tokens for yes and no of a generative reranker; empty for other models.

        Raises:
            UnsupportedError: there is a token for yes only, or further modules.
        """
        stated = self._settings("LogitScore")
        if not stated:
            return ()
        stated.refuse_others("module_input_name", "causal_logits")
        if self.kinds[1:] != ["LogitScore"]:
            raise UnsupportedError(f"a reranker whose modules are {', '.join(self.kinds)} is not built")
        answers = {answer: stated.of(f"{answer}_token_id", int, -1) for answer in ("true", "false")}
        if min(answers.values()) < 0:
            msg = "a reranker that scores by one word's logit is not built: it needs a word for yes and one for no"
            raise UnsupportedError(msg)
        return tuple(map(self._checkpoint.token, answers.values()))

    def activation_of_scores(self, labels: int) -> Activation | None:
        """What a cross-encoder's logits go through in its library; None where the checkpoint does not state it.

        Args:
            labels: how many logits there are; the softmax of one is 1 whatever the text says.

        Raises:
            UnsupportedError: the checkpoint states another activation.
        """
        config = self._checkpoint.config
        stated = (
            self._checkpoint.settings(_SETTINGS).get("activation_fn")
            or config.inner("sentence_transformers").get("activation_fn")
            or config.get("sbert_ce_default_activation_function")
        )
        if not stated:
            return None
        known = [name for name in _ACTIVATIONS_OF_SCORES if labels > 1 or name != "Softmax"]
        name = str(stated).rsplit(".", 1)[-1]
        if not str(stated).startswith("torch.") or name not in known:
            msg = f"a cross-encoder whose scores go through {stated} is not built (known: {', '.join(known)})"
            raise UnsupportedError(msg)
        return _ACTIVATIONS_OF_SCORES[name]

    def _dense(self, folder: str, source: str, target: str) -> ModuleLayer:
        """A Dense layer that has to read and give what sentence-transformers calls `source` and `target`.

        Raises:
            SourceError: its weights are missing.
            UnsupportedError: it is not built.
        """
        stated = self._settings("Dense", folder)
        default = _IDENTITY if folder in self._of_pylate else _TANH
        width, activation = stated.of("out_features", int, 0), stated.of("activation_function", str, default)
        name = activation.rsplit(".", 1)[-1].lower()
        reads = stated.of("module_input_name", str, source)
        gives = stated.of("module_output_name", str, reads)
        refused = f"{stated.place} describes a Dense module that is not built"
        if width <= 0:
            raise UnsupportedError(f"{refused}: out_features = {width} (known: whole numbers from 1)")
        if (reads, gives) != (source, target):
            raise UnsupportedError(f"{refused}: from {reads} to {gives} (known: from {source} to {target})")
        if target == _SCORES and (width, name) != (1, "identity"):
            raise UnsupportedError(f"{refused}: {width} scores through {activation} (known: one logit, Identity)")
        if not activation.startswith("torch."):
            msg = (
                f"{stated.place} states activation_function = {activation!r}, code of the checkpoint's own, which "
                "is not run (known: those of torch.nn)"
            )
            raise UnsupportedError(msg)
        weight_files(self._checkpoint.folder / folder)  # refused before minutes of work, where it is a pickle
        return ModuleLayer("Dense", folder, name, width, stated.of("use_residual", bool, default=False))

    @property
    def _vectors(self) -> str:
        """What the modules behind the first one, or behind the pooling, read and give."""
        return _VECTOR if {"Pooling", "StaticEmbedding"}.intersection(self.kinds) else _TOKENS

    def _settings(self, kind: str, folder: str | None = None) -> Settings:
        """The configuration of the (first) module of that kind, empty where there is none."""
        if folder is None:
            folder = next((each for name, each in self._folders if name == kind), None)
        if folder is None:
            return Settings(kind, {})
        stated = self._checkpoint.settings(f"{folder}/config.json")
        stated.refuse_unknown(MODULES.get(kind, ()))
        return stated

    def _refuse_strange_encoder(self) -> None:
        """Refuse ways to run the encoder, or to prepare its texts, that are not built."""
        stated = self._checkpoint.transformer_settings
        for key in ("model_args", "model_kwargs"):
            stated.inner(key).refuse_unknown(MODEL_ARGUMENTS_WITHOUT_EFFECT)
        stated.refuse_others("tokenizer_name_or_path")
        stated.refuse_others("transformer_task", *_GIVEN_BY)
        output, name = _GIVEN_BY[stated.of("transformer_task", str, "feature-extraction")]
        stated.refuse_others("module_output_name", name)
        modalities = stated.inner("modality_config")
        modalities.inner("text").refuse_others("method", "forward")  # that of messages is read with their template
        for modality in ("message", "text"):
            modalities.inner(modality).refuse_others("method_output_name", output, [output])
        if not self.is_multi_vector:
            for key in _OF_LATE_INTERACTION:
                stated.refuse_others(key)

    def _looks_up_queries(self) -> bool:
        routes = self._checkpoint.routes
        if routes is None or routes.query == routes.document:
            return False
        queries = [_kind_and_folder(stated, [])[0] for stated in routes.query]
        if queries == ["SparseStaticEmbedding"] and self.kinds[-1:] == ["SpladePooling"]:
            return True
        msg = (
            f"queries that go through {', '.join(queries)} beside documents that go through {', '.join(self.kinds)} "
            "are not built into one model (known: a SparseStaticEmbedding for queries of a model that ends in "
            "SpladePooling): save each side as a model of its own, "
            "SentenceTransformer(modules=[*router.sub_modules[side], *others]).save_pretrained(FOLDER), export both, "
            "and give both one name in the gateway's models file (queries)"
        )
        raise UnsupportedError(msg)

    def _refuse_strange_normalize(self) -> None:
        for folder in (folder for kind, folder in self._folders if kind == "Normalize"):
            stated = self._settings("Normalize", folder)
            reads = stated.of("module_input_name", str, self._vectors)
            if (reads, stated.of("module_output_name", str, reads)) != (self._vectors, self._vectors):
                raise UnsupportedError(
                    f"{stated.place}: Normalize of {reads!r} is not built (known: {self._vectors!r})"
                )

    def _refuse_unknown(self) -> None:
        known = (*_KNOWN, *_SCORING) if self.is_cross_encoder else _KNOWN
        unknown = [kind for kind in self.kinds if kind not in known]
        folders = [folder for kind, folder in self._folders if kind in _FIRST]
        unknown += [f"{folder}/" for folder in folders if self._checkpoint.transformer.name != folder and folder]
        order = [_ORDER[kind] for kind in self.kinds if kind in _ORDER and not self.is_cross_encoder]
        if unknown or order != sorted(order):
            ends = ", ".join(unknown or self.kinds[1:])
            raise UnsupportedError(f"the checkpoint ends in {ends}, which is not built")


def _kind_and_folder(stated: Settings, arguments: list[str]) -> tuple[str, str]:
    """Kind and folder of a module, which may take no other arguments than these from callers.

    Raises:
        SourceError: it states neither, or a folder that is elsewhere.
        UnsupportedError: it states a key that is not known here, or takes arguments of its own from callers.
    """
    stated.refuse_unknown(MODULE)
    if stated.of("kwargs", list[Any], []) not in ([], arguments):
        msg = f"{stated.place} takes arguments from its callers (kwargs = {stated['kwargs']!r}), which is not built"
        raise UnsupportedError(msg)
    for key in ("type", "path"):
        if not isinstance(stated.get(key), str):
            raise SourceError(f"{stated.place} should state {key!r}, a text: fetch the checkpoint again")
    path = stated["path"] if stated["path"] != "." else ""  # as Model2Vec writes the checkpoint's own folder
    if not re.fullmatch(r"(\w[\w.-]*)?", path):
        raise stated.wrong("path", "the name of a folder of the checkpoint")
    return kind_of(stated["type"]), path


def _pooling_modes(stated: Settings) -> list[str]:
    """Names of the joined poolings: `pooling_mode` since sentence-transformers 5.7, one flag for each before."""
    named = stated.get("pooling_mode")
    if named is None:
        flags = (key.removeprefix("pooling_mode_") for key, value in stated.items() if value is True)
        named = [flag for flag in flags if flag != "include_prompt"]
    modes = [named] if isinstance(named, str) else named
    if not isinstance(modes, list) or not all(isinstance(mode, str) for mode in modes):
        raise stated.wrong("pooling_mode", "a text or a list of texts")
    return [mode.removesuffix("_tokens").removesuffix("_token") for mode in modes]
