"""Reading a checkpoint's description: what the operator settles, else what it says, else what is known of its authors.

What none of them says is asked for, never guessed.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from conch_export.checkpoints.architecture import defaults, label_count
from conch_export.checkpoints.colbert import is_colbert, read_interaction
from conch_export.checkpoints.description import Description, Overrides, Packing, Precision, Task
from conch_export.checkpoints.extras import COLBERT, extra_width, has_lexical
from conch_export.checkpoints.known_settings import (
    SENTENCE_TRANSFORMERS,
    refuse_unknown,
    refuse_unread,
    refuse_wrong_types,
)
from conch_export.checkpoints.modules import Modules
from conch_export.checkpoints.scoring import is_cross_encoder, refuse_other_activation
from conch_export.checkpoints.usage import (
    is_centred,
    known_usage,
    read_matryoshka,
    read_max_length,
    read_prompts,
    read_similarity,
)
from conch_export.errors import UnsupportedError
from conch_export.families import family_of
from conch_export.heads import refuse_unknown_classifier

if TYPE_CHECKING:
    from conch_export.checkpoints.checkpoint import Checkpoint
    from conch_export.checkpoints.settings import Settings
    from conch_export.sources import Source


def describe(
    checkpoint: Checkpoint, source: Source, name: str, precision: Precision, overrides: Overrides
) -> Description:
    """Read the description of a checkpoint.

    Raises:
        UndecidedError: something is missing that must not be guessed.
        UnsupportedError: the checkpoint asks for something that is not built.
        SourceError: the checkpoint is damaged.
    """
    refuse_unknown(checkpoint.settings("config_sentence_transformers.json"), SENTENCE_TRANSFORMERS)
    facts = _Facts(checkpoint, source, overrides)
    if source.code_sha256:
        facts.refuse_other_heads()
    return Description(name=name, source=source, precision=precision, **{**facts.of_any_task(), **facts.of_its_task()})


class _Facts:
    """A description's fields, most of which depend on the task."""

    def __init__(self, checkpoint: Checkpoint, source: Source, overrides: Overrides) -> None:
        self._checkpoint = checkpoint
        self._overrides = overrides
        self._modules = Modules(checkpoint)
        self._usage = known_usage(source)
        self._family = family_of(checkpoint.config)
        if not source.code_sha256:  # whose code reads what it likes
            refuse_unread(checkpoint.stated_config, defaults(checkpoint.model_type), family=self._family is not None)
        if self._family is not None:
            refuse_wrong_types(checkpoint.stated_config)
        self._score_tokens = tuple(overrides.score_tokens or self._modules.score_tokens() or self._usage.score_tokens)
        self._task = overrides.task or self._stated_task()

    def of_any_task(self) -> dict[str, Any]:
        """What every model has."""
        checkpoint = self._checkpoint
        return {
            "task": self._task,
            "architecture": checkpoint.model_type,
            "packing": Packing.PACKED if self._family else Packing.ROW_BY_ROW,
            "hidden": _config(checkpoint, "hidden_size"),
            "max_length": read_max_length(checkpoint, self._positions, self._overrides.max_length),
            "segments": False,
            "tokenizer_sha256": hashlib.sha256(checkpoint.tokenizer).hexdigest(),
            "tokenizer_bytes": len(checkpoint.tokenizer),
            "vocabulary": _config(checkpoint, "vocab_size"),
        }

    def of_its_task(self) -> dict[str, Any]:
        """What models of its kind have."""
        if self._task is Task.CROSS_ENCODER:
            return self._of_cross_encoder()
        prompts, default_prompt_name = read_prompts(self._checkpoint, self._usage, self._overrides)
        said = {"prompts": prompts, "default_prompt_name": default_prompt_name}
        if self._task is Task.SPARSE:
            size = _config(self._checkpoint, "vocab_size")
            return said | {"dimension": size, "logarithms": self._modules.logarithms()}
        return said | (self._of_multi_vector() if self._task is Task.MULTI_VECTOR else self._of_embedding())

    def refuse_other_heads(self) -> None:
        """Refuse tasks whose heads a checkpoint's own code would have to compute."""
        if self._task in (Task.CROSS_ENCODER, Task.SPARSE):
            message = f"a {self._task.value} by a checkpoint's own code is not built, only embeddings and token vectors"
            raise UnsupportedError(message)

    @property
    def _positions(self) -> int:
        if self._family is None:
            return _config(self._checkpoint, "max_position_embeddings")
        return self._family.position_count(self._checkpoint.config)

    def _stated_task(self) -> Task:
        if self._score_tokens or is_cross_encoder(self._checkpoint):
            return Task.CROSS_ENCODER
        if _is_classifier(self._checkpoint.stated_config) and "Pooling" not in self._modules.kinds:
            _refuse_other_labels(self._checkpoint.stated_config)
            return Task.CROSS_ENCODER
        if "SpladePooling" in self._modules.kinds:
            return Task.SPARSE
        projects = "Dense" in self._modules.kinds and "Pooling" not in self._modules.kinds
        return Task.MULTI_VECTOR if projects or is_colbert(self._checkpoint) else Task.EMBEDDING

    def _of_cross_encoder(self) -> dict[str, Any]:
        if not self._score_tokens:
            return self._of_classifier()
        template = self._overrides.pair_template or self._usage.pair_template
        if not all(template.count(place) == 1 for place in ("{query}", "{document}")):
            message = (
                "a reranker that answers in words needs --pair-template with {query} and {document} in it, once each"
            )
            raise UnsupportedError(message)
        return {"score_tokens": self._score_tokens, "pair_template": template}

    def _of_classifier(self) -> dict[str, Any]:
        checkpoint, config, family = self._checkpoint, self._checkpoint.config, self._family
        segments = family.has_segments(config) if family else config.of("type_vocab_size", int, 0) > 1
        refuse_other_activation(checkpoint)
        prompts, default_prompt_name = read_prompts(checkpoint, self._usage, self._overrides)
        facts = {
            "segments": segments and checkpoint.served_tokenizer.segments,
            "prompts": prompts,
            "default_prompt_name": default_prompt_name,
        }
        if "Pooling" in self._modules.kinds:
            return facts | {"pooling": self._modules.pooling(None), "scoring": self._modules.scoring()}
        refuse_unknown_classifier(checkpoint.model_type)
        return facts

    def _of_multi_vector(self) -> dict[str, Any]:
        rules, dense = read_interaction(self._checkpoint, self._positions), self._modules.dense()
        width = dense[-1].width if dense else len(self._checkpoint.weights.array("linear.weight"))
        vectors = {"dense": dense, "dimension": width, "normalize": True}
        if rules is None:
            return vectors
        if rules.has_unseen and self._family is None:
            message = f"queries whose fillers are not attended to are not built for {self._checkpoint.model_type!r}"
            raise UnsupportedError(message)
        return vectors | {
            "interaction": rules,
            "max_length": max(rules.query_length, rules.document_length),
            "prompts": {"query": "", "document": ""},
            "default_prompt_name": "document",
        }

    def _of_embedding(self) -> dict[str, Any]:
        modules, overrides, dense = self._modules, self._overrides, self._modules.dense()
        width = dense[-1].width if dense else _config(self._checkpoint, "hidden_size")
        return {
            "pooling": modules.pooling(overrides.pooling),
            "dense": dense,
            "dimension": width,
            "normalize": modules.normalize(overrides.normalize),
            "matryoshka": read_matryoshka(width, self._usage, overrides.matryoshka),
            "matryoshka_centred": is_centred(self._usage, overrides.matryoshka_centred),
            "similarity": read_similarity(self._checkpoint),
            "projected": extra_width(self._checkpoint, COLBERT),
            "lexical": has_lexical(self._checkpoint, overrides.lexical),
        }


def _config(checkpoint: Checkpoint, key: str) -> int:
    """A size in config.json under the name that most architectures give it."""
    synonyms = {"hidden_size": ("dim", "d_model", "n_embd"), "max_position_embeddings": ("n_positions",)}
    for name in (key, *synonyms.get(key, ())):
        if name in checkpoint.config:
            return checkpoint.config.of(name, int, 0)
    message = f"config.json of architecture {checkpoint.model_type!r} does not say {key}: it is not built"
    raise UnsupportedError(message)


def _is_classifier(config: Settings) -> bool:
    return any(name.endswith("ForSequenceClassification") for name in config.texts("architectures"))


def _refuse_other_labels(config: Settings) -> None:
    labels = label_count(config)
    if labels != 1:
        message = f"a sequence classifier with {labels} labels is no reranker: exactly one label is needed"
        raise UnsupportedError(message)
