"""Reading a checkpoint's description: from the operator, else from its files, else from the catalog.

A fact that none of them states is an error that names the option for it; nothing is guessed.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from conch_contract import Task, is_pair_template, splits_texts, takes_instruction

from conch_export.checkpoints.adapters.own import refuse_unchosen
from conch_export.checkpoints.architecture import refuse_unread, refuse_wrong_types
from conch_export.checkpoints.chat import refuse_undecided_template
from conch_export.checkpoints.classifiers import Labels
from conch_export.checkpoints.colbert import is_colbert, read_interaction, refuse_other_rules
from conch_export.checkpoints.heads import COLBERT, extra_width, has_lexical, refuse_unfit_classifier
from conch_export.checkpoints.known_keys import SENTENCE_TRANSFORMERS
from conch_export.checkpoints.modules import Modules
from conch_export.checkpoints.usage import (
    known_task,
    known_usage,
    read_matryoshka,
    read_max_length,
    read_prompts,
    read_similarity,
    refuse_cut_vectors,
)
from conch_export.errors import UndecidedError, UnsupportedError
from conch_export.families import family_of
from conch_export.model.description import (
    Classifier,
    CrossEncoder,
    Description,
    EmbeddingModel,
    GenerativeReranker,
    ModularCrossEncoder,
    MultiVectorModel,
    Overrides,
    Packing,
    Pooling,
    Precision,
    SparseModel,
    StaticModel,
)
from conch_export.model.unfit import refuse_unfit, refuse_unfit_pooling, refuse_what_needs_an_encoder
from conch_export.sources.files import ADAPTER_CONFIG, ADAPTER_WEIGHTS

if TYPE_CHECKING:
    from conch_export.checkpoints.checkpoint import Checkpoint
    from conch_export.checkpoints.lookups.static import StaticFiles
    from conch_export.sources.catalog import Usage
    from conch_export.sources.source import Source


OF_CHECKPOINTS = (Task.EMBEDDING, Task.CROSS_ENCODER, Task.CLASSIFICATION, Task.MULTI_VECTOR, Task.SPARSE)
"""Tasks that a checkpoint may have; the others are of derived models and of the gateway's upstreams."""


def describe(
    checkpoint: Checkpoint,
    source: Source,
    name: str,
    precision: Precision,
    overrides: Overrides,
    *,
    late_interaction: bool | None = None,
) -> Description:
    """Read the description of a checkpoint.

    Args:
        checkpoint: its files.
        source: where it came from.
        name: of the public model.
        precision: of the encoder's matrix products.
        overrides: facts that the operator states.
        late_interaction: whether a MaxSim reranker is served beside it; None for one beside a multi-vector model.

    Raises:
        UndecidedError: a fact is missing that must not be guessed.
        UnsupportedError: the checkpoint needs something that is not built.
        SourceError: the checkpoint is damaged.
    """
    stated = checkpoint.settings("config_sentence_transformers.json")
    stated.refuse_unknown(SENTENCE_TRANSFORMERS)
    refuse_cut_vectors(stated)
    _refuse_unmerged_adapter(checkpoint, source)
    common: dict[str, Any] = {"name": name, "source": checkpoint.identified(source), "precision": precision}
    if checkpoint.static is not None:
        refuse_what_needs_an_encoder(overrides, late_interaction=bool(late_interaction))
        refuse_unfit(Task.EMBEDDING, overrides, late_interaction=late_interaction)
        return _static(checkpoint, checkpoint.static, overrides, **common)
    reader = _Reader(checkpoint, source, overrides)
    task = overrides.task or reader.stated_task()
    if source.code_sha256 and task in (Task.CROSS_ENCODER, Task.CLASSIFICATION, Task.SPARSE):
        msg = f"{task.value} by a checkpoint's own code is not built, only embeddings and token vectors"
        raise UnsupportedError(msg)
    refuse_unfit(task, overrides, late_interaction=late_interaction)
    reader.refuse_unfit(task, late_interaction=bool(late_interaction))
    common |= reader.common(task)
    match task:
        case Task.CROSS_ENCODER:
            return reader.cross_encoder(common)
        case Task.CLASSIFICATION:
            return reader.classifier(common)
        case Task.SPARSE:
            return reader.sparse(common)
        case Task.MULTI_VECTOR:
            return reader.multi_vector(common, late_interaction=late_interaction is not False)
        case Task.EMBEDDING:
            return reader.embedding(common, late_interaction=bool(late_interaction))
        case _:
            msg = f"no checkpoint has the task {task.value!r}: state one of {', '.join(OF_CHECKPOINTS)}"
            raise UnsupportedError(msg)


def _refuse_unmerged_adapter(checkpoint: Checkpoint, source: Source) -> None:
    """Refuse a PEFT adapter in the checkpoint's folder that is not merged into its weights as they are read."""
    if not checkpoint.has_peft_adapter:
        return
    if not source.parts:
        msg = (
            f"{checkpoint.transformer} has {ADAPTER_CONFIG} beside the weights, but no {ADAPTER_WEIGHTS} that is read: "
            "merge the adapter with PEFT, or export a copy of the folder without that file"
        )
        raise UnsupportedError(msg)
    if checkpoint.static is not None or family_of(checkpoint.config) is None:
        msg = f"the adapter {source.adapter} of a checkpoint without a family here is not built: merge it with PEFT"
        raise UnsupportedError(msg)


def _static(checkpoint: Checkpoint, files: StaticFiles, overrides: Overrides, **common: Any) -> StaticModel:
    """Read the description of a static model.

    Args:
        checkpoint: its files.
        files: those of its table.
        overrides: facts that the operator states.
        **common: name, source and precision.
    """
    modules, usage = Modules(checkpoint), known_usage(common["source"])
    dense, (vocabulary, hidden) = modules.dense(), files.shape
    width, length = dense[-1].width if dense else hidden, overrides.max_length
    if length is not None and length < 1:
        raise UnsupportedError(f"--max-length {length} leaves no room for text: give 1 or more")
    length = length or files.max_length
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
        **_comparison(checkpoint, width, usage, overrides),
    )


def _comparison(checkpoint: Checkpoint, width: int, usage: Usage, overrides: Overrides) -> dict[str, Any]:
    """The fields of how vectors of an embedding model are cut and compared."""
    centred = overrides.matryoshka_centred
    return {
        "matryoshka": read_matryoshka(checkpoint, width, usage, overrides.matryoshka),
        "matryoshka_centred": usage.matryoshka_centred if centred is None else centred,
        "similarity": read_similarity(checkpoint),
    }


class _Reader:
    """The parts of a description, read from one checkpoint.

    Attributes:
        modules: of sentence-transformers.
    """

    def __init__(self, checkpoint: Checkpoint, source: Source, overrides: Overrides) -> None:
        self._checkpoint = checkpoint
        self._overrides = overrides
        self.modules = Modules(checkpoint)
        self._known_task = known_task(source)
        self._labels = Labels(checkpoint.stated_config)
        self._usage = known_usage(source)
        self._family = family_of(checkpoint.config)
        refuse_unchosen(checkpoint.stated_config, checkpoint.adapter)
        keys = self._family.keys if self._family else None
        if not source.code_sha256:  # a checkpoint's own code reads what it likes
            refuse_unread(checkpoint.stated_config, self._family.known_keys if self._family else None)
        if keys is not None:
            refuse_wrong_types(checkpoint.stated_config, keys)
        self._score_tokens = tuple(overrides.score_tokens or self.modules.score_tokens() or self._usage.score_tokens)

    def stated_task(self) -> Task:
        """What kind of model the checkpoint's files say it is, else the catalog."""
        kinds, labels = self.modules.kinds, self._labels
        if self.modules.is_multi_vector:
            return Task.MULTI_VECTOR
        if labels.are_of_a_head and not self._score_tokens and "Pooling" not in kinds:
            # One label says how well two texts fit; which of several does is for the operator to say.
            is_reranker = len(labels.names) == 1 or self._overrides.label is not None
            return Task.CROSS_ENCODER if is_reranker else Task.CLASSIFICATION
        if self._score_tokens or self.modules.is_cross_encoder:
            return Task.CROSS_ENCODER
        if not kinds:
            labels.refuse_other_heads()
        if "SpladePooling" in kinds:
            return Task.SPARSE
        if is_colbert(self._checkpoint) or ("Dense" in kinds and "Pooling" not in kinds):
            return Task.MULTI_VECTOR
        return Task.EMBEDDING if kinds or self._known_task is None else Task(self._known_task)

    def refuse_unfit(self, task: Task, *, late_interaction: bool) -> None:
        """Raise an ExportError for a task that the checkpoint's head is not for, or not its chat template."""
        if task in (Task.CROSS_ENCODER, Task.CLASSIFICATION) and not self.modules.kinds and not self._score_tokens:
            self._labels.refuse_other_heads()
            refuse_undecided_template(self._checkpoint.transformer)
        reads = task is Task.EMBEDDING or (task is Task.CROSS_ENCODER and self._score_tokens)
        if self._checkpoint.chat is not None and (not reads or late_interaction):
            msg = (
                "texts that go through a chat template (modality_config, message) are built for vectors of whole texts"
            )
            raise UnsupportedError(f"{msg} and for rerankers that answer in words only")

    def common(self, task: Task) -> dict[str, Any]:
        """The fields that every description has, prompts aside."""
        checkpoint, family = self._checkpoint, self._family
        # Multi-vector models mostly state other lengths, which hold then.
        endless = family is not None and task is not Task.MULTI_VECTOR and family.outlasts_positions(checkpoint.config)
        return {
            "architecture": checkpoint.model_type,
            "packing": Packing.PACKED if family else Packing.ROW_BY_ROW,
            "hidden": _config(checkpoint, "hidden_size"),
            "vocabulary": _config(checkpoint, "vocab_size"),
            "max_length": read_max_length(
                checkpoint,
                self._positions,
                self._overrides.max_length,
                needed=family is not None and not family.ends_rows,
                endless=endless,
            ),
            "tokenizer_sha256": hashlib.sha256(checkpoint.tokenizer).hexdigest(),
            "tokenizer_bytes": len(checkpoint.tokenizer),
        }

    def prompts(self) -> dict[str, Any]:
        """The fields of prompts."""
        prompts, default = read_prompts(self._checkpoint, self._usage, self._overrides)
        if (chat := self._checkpoint.chat) is not None:
            prompts, default = chat.prompts(prompts, default)
        return {"prompts": prompts, "default_prompt_name": default}

    def cross_encoder(self, common: dict[str, Any]) -> CrossEncoder:
        """The description of a generative reranker, of modules or of a sequence classifier."""
        overrides, layered = self._overrides, "Pooling" in self.modules.kinds
        label = overrides.label
        if label is not None and (self._score_tokens or layered):
            raise UnsupportedError("--label is for sequence classifiers with several labels: leave it out")
        asked = {"--default-instruction": overrides.default_instruction, "--pair-template": overrides.pair_template}
        if not self._score_tokens and (unfit := [option for option, stated in asked.items() if stated is not None]):
            raise UnsupportedError(f"{unfit[0]} is for rerankers that answer in words: leave it out")
        one = layered or self._score_tokens
        activation = self.modules.activation_of_scores(1 if one else len(self._labels.names))
        if self._score_tokens:
            return GenerativeReranker(**common, **self._template(), score_tokens=self._score_tokens)
        common |= self.prompts() | self._segments()
        if layered:
            pooling, layers = self.modules.pooling(), self.modules.scoring()
            if not self.modules.pools_prompt:
                raise UnsupportedError("prompts left out of a cross-encoder's pooling (include_prompt) are not built")
            return ModularCrossEncoder(**common, pooling=pooling, layers=layers)
        refuse_unfit_classifier(self._checkpoint)
        number = self._labels.number(label)
        return CrossEncoder(**common, label=number, exclusive=self._labels.activation(activation) == "softmax")

    def classifier(self, common: dict[str, Any]) -> Classifier:
        """The description of a sequence classifier."""
        refuse_unfit_classifier(self._checkpoint)
        activation = self._labels.activation(self.modules.activation_of_scores(len(self._labels.names)))
        common |= self.prompts() | self._segments()
        return Classifier(**common, labels=self._labels.names, activation=activation)

    def sparse(self, common: dict[str, Any]) -> SparseModel:
        """The description of a SPLADE model, whose queries may be looked up."""
        prompts, looks_up = self.prompts(), self.modules.looks_up_queries
        if looks_up and (routes := self._checkpoint.routes) is not None:
            self._checkpoint.refuse_other_query_tokenizer()
            sides = {"query": "", "document": "", **prompts["prompts"]}
            prompts = {"prompts": sides, "default_prompt_name": prompts["default_prompt_name"] or routes.default}
        return SparseModel(**common, **prompts, logarithms=self.modules.logarithms(), looks_up_queries=looks_up)

    def multi_vector(self, common: dict[str, Any], *, late_interaction: bool) -> MultiVectorModel:
        """The description of a model that gives a vector for each token."""
        skipped = self.modules.skip_list() if self.modules.is_multi_vector else None
        rules = read_interaction(self._checkpoint, self._positions, skipped)
        dense, width = self.modules.dense(), common["hidden"]
        if dense:
            width = dense[-1].width
        elif not self.modules.is_multi_vector:
            width = len(self._checkpoint.weights.array("linear.weight"))
        common |= {"dimension": width, "dense": dense, "late_interaction": late_interaction}
        prompts = self.prompts()
        if rules is None:
            return MultiVectorModel(**common, **prompts)
        refuse_other_rules(self._checkpoint, self._overrides, markers=self.modules.is_multi_vector)
        if rules.masks_augmentation and self._family is None:
            msg = f"queries whose augmentation is not attended to are not built for {self._checkpoint.model_type!r}"
            raise UnsupportedError(msg)
        common["max_length"] = max(rules.query_length, rules.document_length)
        prompts = {"prompts": {"query": "", "document": ""}, "default_prompt_name": "document"}
        return MultiVectorModel(**common, **prompts, interaction=rules)

    def embedding(self, common: dict[str, Any], *, late_interaction: bool) -> EmbeddingModel:
        """The description of a model that gives one vector for a text."""
        overrides, dense = self._overrides, self.modules.dense()
        width, pooling = dense[-1].width if dense else common["hidden"], self.modules.pooling(overrides.pooling)
        # The authors' library does not know where the instruction of a conversation ends, and pools all of it.
        pools_prompt = self._checkpoint.chat is not None or (self.modules.pools_prompt and self._usage.pools_prompt)
        refuse_unfit_pooling(pooling, late_chunking=bool(overrides.late_chunking), pools_prompt=pools_prompt)
        return EmbeddingModel(
            **common,
            **self.prompts(),
            pooling=pooling,
            dense=dense,
            dimension=width,
            normalize=self.modules.normalize(overrides.normalize),
            pools_prompt=pools_prompt,
            **_comparison(self._checkpoint, width, self._usage, overrides),
            late_interaction=late_interaction,
            projected=extra_width(self._checkpoint, COLBERT),
            lexical=has_lexical(self._checkpoint, overrides.lexical),
            late_chunking=bool(overrides.late_chunking),
        )

    def _template(self) -> dict[str, Any]:
        """The text that a generative reranker reads, and the instruction in it of requests that state none."""
        overrides, usage = self._overrides, self._usage
        template, known = overrides.pair_template, ""
        chat = self._checkpoint.chat if template is None else None
        if chat is None and (overrides.prompts, overrides.default_prompt) != (None, None):
            raise UnsupportedError("a pair template has no place for --prompts and --default-prompt: leave them out")
        if chat is not None:
            prompts, default = read_prompts(self._checkpoint, usage, overrides)
            known = overrides.default_instruction or prompts.get(default, "")
            template = chat.pair_template(known)
        elif template is None:
            template, known = usage.pair_template, usage.default_instruction
        instruction = known if overrides.default_instruction is None else overrides.default_instruction
        if not is_pair_template(template):
            msg = "a generative reranker needs --pair-template with {query} and {document} in it, once each"
            raise UnsupportedError(msg)
        if splits_texts(template) and self._checkpoint.adds_special_tokens:
            msg = "the pair template has {split} in it, which is not built for a tokenizer that adds special tokens"
            raise UnsupportedError(f"{msg}: leave it out")
        if takes_instruction(template) and not instruction:
            msg = "the pair template has {instruction} in it: state that of requests without one, --default-instruction"
            raise UndecidedError(msg)
        if instruction and not takes_instruction(template):
            raise UnsupportedError("--default-instruction needs {instruction} in the pair template: leave it out")
        return {"pair_template": template, "default_instruction": instruction}

    def _segments(self) -> dict[str, Any]:
        """Whether the encoder tells a pair's first text from its second."""
        checkpoint, config, family = self._checkpoint, self._checkpoint.config, self._family
        segments = family.has_segments(config) if family else config.of("type_vocab_size", int, 0) > 1
        return {"segments": segments and checkpoint.served_tokenizer.segments}

    @property
    def _positions(self) -> int:
        if self._family is None:
            return _config(self._checkpoint, "max_position_embeddings")
        return self._family.position_count(self._checkpoint.config)


def _config(checkpoint: Checkpoint, key: str) -> int:
    """A size in config.json under the name that most architectures give it."""
    synonyms = {"hidden_size": ("dim", "d_model", "n_embd"), "max_position_embeddings": ("n_positions",)}
    for name in (key, *synonyms.get(key, ())):
        if name in checkpoint.config:
            return checkpoint.config.of(name, int, 0)
    if "text_config" in checkpoint.config:
        msg = (
            f"{checkpoint.model_type!r} reads more than text (config.json, text_config), which is not built: export a "
            "text model of the same authors"
        )
        raise UnsupportedError(msg)
    raise UnsupportedError(f"config.json of architecture {checkpoint.model_type!r} does not say {key}: it is not built")
