"""What a model is and how it is meant to be used, as its checkpoint says; what it does not say is asked for.

This is the one description that graphs, configurations and reports are made from.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any

from conch_export.colbert import is_colbert, read_interaction
from conch_export.errors import UnsupportedError
from conch_export.extras import COLBERT, extra_width, has_lexical
from conch_export.families import family_of
from conch_export.modules import DenseModule, Modules
from conch_export.usage import known_usage, read_matryoshka, read_max_length, read_prompts, refuse_lower_casing

if TYPE_CHECKING:
    from collections.abc import Mapping

    from conch_export.catalog import Usage
    from conch_export.checkpoint import Checkpoint
    from conch_export.colbert import Interaction
    from conch_export.graphs.heads import Pooling
    from conch_export.sources import Source


class Task(str, Enum):
    """What a served model answers."""

    EMBEDDING = "embedding"
    LATE_INTERACTION = "late-interaction"
    CROSS_ENCODER = "cross-encoder"
    MULTI_VECTOR = "multi-vector"
    SPARSE = "sparse"


class Precision(str, Enum):
    """Number format of the encoder's matrix products."""

    FP32 = "fp32"
    FP16 = "fp16"
    INT8 = "int8"


class Packing(str, Enum):
    """How texts that are merged share the encoder's work."""

    PACKED = "packed"
    ROW_BY_ROW = "row by row"


@dataclass(frozen=True)
class Overrides:
    """What the operator settles by hand; None takes what the checkpoint says.

    Attributes:
        pooling: how its authors pool.
        normalize: whether vectors leave with length 1.
        max_length: tokens at which texts are truncated.
        task: what kind of model it is.
        prompts: by name, instead of the checkpoint's.
        default_prompt: name of the one used when none is asked for.
        matryoshka: lengths that vectors may be cut to.
        lexical: whether the weights of a text's words are served beside it.
        score_tokens: the words for yes and no of a reranker that answers in words.
        pair_template: how such a reranker reads a pair, with `{query}` and `{document}`.
    """

    pooling: Pooling | None = None
    normalize: bool | None = None
    max_length: int | None = None
    task: Task | None = None
    prompts: Mapping[str, str] | None = None
    default_prompt: str | None = None
    matryoshka: tuple[int, ...] | None = None
    lexical: bool | None = None
    score_tokens: tuple[str, str] | None = None
    pair_template: str | None = None


@dataclass(frozen=True)
class Description:
    """A model to be served.

    Attributes:
        name: of the public Triton model.
        task: what it answers itself (models derived from it are served beside it, see `parts`).
        source: the checkpoint.
        architecture: transformers' `model_type`.
        precision: of the encoder's matrix products.
        packing: packed where a family builds the architecture, else row by row.
        hidden: width of a token's vector.
        max_length: tokens at which the author truncates, special tokens included.
        segments: whether the graph takes `token_type_ids`.
        tokenizer_sha256: of tokenizer.json.
        tokenizer_bytes: its size.
        dimension: length of a vector as it leaves; 0 for a cross-encoder.
        pooling: embedding only.
        dense: layers after the pooling, or over every token's vector of a multi-vector model.
        normalize: embedding only; whether vectors leave with length 1.
        matryoshka: embedding only; lengths that vectors may be cut to, empty for none.
        prompts: name to text put before the input.
        default_prompt_name: the prompt used when none is asked for; empty for none.
        score_tokens: of a cross-encoder that answers in words, those for yes and no; empty for a classifier.
        pair_template: how such a cross-encoder reads a pair; empty for one whose tokenizer joins pairs.
        logarithms: sparse only; see `graphs.heads`.
        vocabulary: ids are below it.
        interaction: multi-vector only; how queries and documents are written, None for alike and as they are.
        late_interaction: whether a MaxSim reranker is served beside it.
        projected: length of the vectors that late interaction compares, where a layer makes them; 0 for none.
        lexical: whether the weights of a text's words are served beside it.
    """

    name: str
    task: Task
    source: Source
    architecture: str
    precision: Precision
    packing: Packing
    hidden: int
    max_length: int
    segments: bool
    tokenizer_sha256: str
    tokenizer_bytes: int
    dimension: int = 0
    pooling: Pooling | None = None
    dense: tuple[DenseModule, ...] = ()
    normalize: bool = False
    matryoshka: tuple[int, ...] = ()
    prompts: Mapping[str, str] = field(default_factory=dict)
    default_prompt_name: str = ""
    score_tokens: tuple[str, ...] = ()
    pair_template: str = ""
    logarithms: int = 1
    vocabulary: int = 0
    interaction: Interaction | None = None
    late_interaction: bool = False
    projected: int = 0
    lexical: bool = False


def describe(
    checkpoint: Checkpoint, source: Source, name: str, precision: Precision, overrides: Overrides
) -> Description:
    """Read the description of a checkpoint.

    Raises:
        UndecidedError: something is missing that must not be guessed.
        UnsupportedError: the checkpoint asks for something that is not built.
        SourceError: the checkpoint is damaged.
    """
    config = checkpoint.config
    refuse_lower_casing(checkpoint)
    family = family_of(config)
    positions = family.position_count(config) if family else int(_config(checkpoint, "max_position_embeddings"))
    modules, usage = Modules(checkpoint), known_usage(source)
    task = overrides.task or _task(checkpoint, modules, usage, overrides)
    common: dict[str, Any] = {
        "name": name,
        "task": task,
        "source": source,
        "architecture": checkpoint.model_type,
        "precision": precision,
        "packing": Packing.PACKED if family else Packing.ROW_BY_ROW,
        "hidden": int(_config(checkpoint, "hidden_size")),
        "max_length": read_max_length(checkpoint, positions, overrides.max_length),
        "segments": False,
        "tokenizer_sha256": hashlib.sha256(checkpoint.tokenizer).hexdigest(),
        "tokenizer_bytes": len(checkpoint.tokenizer),
        "vocabulary": vocabulary_size(checkpoint),
    }
    if task is Task.CROSS_ENCODER:
        score_tokens = tuple(overrides.score_tokens or usage.score_tokens)
        segments = not score_tokens and family is not None and family.has_segments(config)
        template = _pair_template(overrides.pair_template or usage.pair_template, needed=bool(score_tokens))
        return Description(**{**common, "segments": segments}, score_tokens=score_tokens, pair_template=template)
    prompts, default_prompt_name = read_prompts(checkpoint, usage, overrides)
    common |= {"prompts": prompts, "default_prompt_name": default_prompt_name}
    if task is Task.SPARSE:
        return Description(**common, dimension=common["vocabulary"], logarithms=modules.logarithms())
    if task is Task.MULTI_VECTOR:
        return _multi_vector(checkpoint, modules, common, positions)
    dense = modules.dense()
    common |= {"dense": dense, "dimension": dense[-1].width if dense else common["hidden"]}
    return Description(
        **common,
        pooling=modules.pooling(overrides.pooling),
        normalize=modules.normalize(overrides.normalize),
        matryoshka=read_matryoshka(common["dimension"], usage, overrides.matryoshka),
        projected=extra_width(checkpoint, COLBERT),
        lexical=has_lexical(checkpoint, overrides.lexical),
    )


def vocabulary_size(checkpoint: Checkpoint) -> int:
    """How many token ids the encoder knows."""
    return int(_config(checkpoint, "vocab_size"))


def _config(checkpoint: Checkpoint, key: str) -> Any:
    """A value of config.json under the name that most architectures give it."""
    synonyms = {"hidden_size": ("dim", "d_model", "n_embd"), "max_position_embeddings": ("n_positions",)}
    for name in (key, *synonyms.get(key, ())):
        if name in checkpoint.config:
            return checkpoint.config[name]
    message = f"config.json of architecture {checkpoint.model_type!r} does not say {key}: it is not built"
    raise UnsupportedError(message)


def _task(checkpoint: Checkpoint, modules: Modules, usage: Usage, overrides: Overrides) -> Task:
    if overrides.score_tokens or usage.score_tokens or _is_classifier(checkpoint.config):
        return Task.CROSS_ENCODER
    if "SpladePooling" in modules.kinds:
        return Task.SPARSE
    projects = "Dense" in modules.kinds and "Pooling" not in modules.kinds
    return Task.MULTI_VECTOR if projects or is_colbert(checkpoint) else Task.EMBEDDING


def _multi_vector(checkpoint: Checkpoint, modules: Modules, common: dict[str, Any], positions: int) -> Description:
    rules, dense = read_interaction(checkpoint, positions), modules.dense()
    if rules is not None:
        if rules.has_unseen and common["packing"] is Packing.ROW_BY_ROW:
            message = f"queries whose fillers are not attended to are not built for {checkpoint.model_type!r}"
            raise UnsupportedError(message)
        common |= {
            "interaction": rules,
            "max_length": max(rules.query_length, rules.document_length),
            "prompts": {"query": "", "document": ""},
            "default_prompt_name": "document",
        }
    width = dense[-1].width if dense else len(checkpoint.weights.array("linear.weight"))
    return Description(**common, dense=dense, dimension=width, normalize=True)


def _is_classifier(config: dict[str, Any]) -> bool:
    if not any(name.endswith("ForSequenceClassification") for name in config.get("architectures") or ()):
        return False
    labels = len(config.get("id2label") or {0: "", 1: ""})
    if labels != 1:
        message = f"a sequence classifier with {labels} labels is no reranker: exactly one label is needed"
        raise UnsupportedError(message)
    return True


def _pair_template(template: str, *, needed: bool) -> str:
    if needed and not all(template.count(place) == 1 for place in ("{query}", "{document}")):
        message = "a reranker that answers in words needs --pair-template with {query} and {document} in it, once each"
        raise UnsupportedError(message)
    return template
