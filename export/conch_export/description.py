"""What a model is and how it is meant to be used, as its checkpoint says; what it does not say is asked for.

This is the one description that graphs, configurations and reports are made from.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any

from conch_export.errors import UndecidedError, UnsupportedError
from conch_export.families import family_of
from conch_export.graphs.heads import Pooling

if TYPE_CHECKING:
    from conch_export.checkpoint import Checkpoint
    from conch_export.sources import Source


class Task(str, Enum):
    """What a served model answers."""

    EMBEDDING = "embedding"
    LATE_INTERACTION = "late-interaction"
    CROSS_ENCODER = "cross-encoder"


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
    """What the operator settles by hand; None takes what the checkpoint says."""

    pooling: Pooling | None = None
    normalize: bool | None = None
    max_length: int | None = None


@dataclass(frozen=True)
class Description:
    """A model to be served.

    Attributes:
        name: of the public Triton model.
        task: embedding or cross-encoder (a late-interaction reranker is served beside an embedding model).
        source: the checkpoint.
        architecture: transformers' `model_type`.
        precision: of the encoder's matrix products.
        packing: packed where a family builds the architecture, else row by row.
        hidden: width of a token's vector.
        max_length: tokens at which the author truncates, special tokens included.
        segments: whether the graph takes `token_type_ids`.
        pooling: embedding only.
        normalize: embedding only; whether vectors leave with length 1.
        prompts: embedding only; name to text put before the input.
        default_prompt_name: the prompt used when none is asked for; empty for none.
        tokenizer_sha256: of tokenizer.json.
        tokenizer_bytes: its size.
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
    pooling: Pooling | None = None
    normalize: bool = False
    prompts: dict[str, str] = field(default_factory=dict)
    default_prompt_name: str = ""


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
    _refuse_lower_casing(checkpoint)
    family = family_of(checkpoint.config)
    positions = family.position_count(config) if family else int(_config(checkpoint, "max_position_embeddings"))
    common: dict[str, Any] = {
        "name": name,
        "source": source,
        "architecture": checkpoint.model_type,
        "precision": precision,
        "packing": Packing.PACKED if family else Packing.ROW_BY_ROW,
        "hidden": int(_config(checkpoint, "hidden_size")),
        "max_length": _max_length(checkpoint, positions, overrides.max_length),
        "tokenizer_sha256": hashlib.sha256(checkpoint.tokenizer).hexdigest(),
        "tokenizer_bytes": len(checkpoint.tokenizer),
    }
    if _is_classifier(config):
        segments = family is not None and family.has_segments(config)
        return Description(task=Task.CROSS_ENCODER, segments=segments, **common)
    prompts, default_prompt_name = _prompts(checkpoint)
    return Description(
        task=Task.EMBEDDING,
        segments=False,
        pooling=_pooling(checkpoint, overrides.pooling),
        normalize=_normalize(checkpoint, overrides.normalize),
        prompts=prompts,
        default_prompt_name=default_prompt_name,
        **common,
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


def _refuse_lower_casing(checkpoint: Checkpoint) -> None:
    # sentence-transformers lower-cases before it tokenises; clients have the tokenizer alone.
    stated = checkpoint.settings("sentence_bert_config.json").get("do_lower_case")
    if stated and not _lower_cases(checkpoint.settings("tokenizer.json").get("normalizer") or {}):
        message = "do_lower_case is set, but tokenizer.json does not lower-case: add a Lowercase normalizer to it"
        raise UnsupportedError(message)


def _lower_cases(normalizer: dict[str, Any]) -> bool:
    if normalizer.get("type") == "Lowercase" or normalizer.get("lowercase"):
        return True
    return any(map(_lower_cases, normalizer.get("normalizers") or ()))


def _is_classifier(config: dict[str, Any]) -> bool:
    if not any(name.endswith("ForSequenceClassification") for name in config.get("architectures") or ()):
        return False
    labels = len(config.get("id2label") or {0: "", 1: ""})
    if labels != 1:
        message = f"a sequence classifier with {labels} labels is no reranker: exactly one label is needed"
        raise UnsupportedError(message)
    return True


def _max_length(checkpoint: Checkpoint, positions: int, asked: int | None) -> int:
    if asked is not None:
        if not 2 < asked <= positions:
            message = f"--max-length {asked} is outside 3 to {positions}, what the model has positions for"
            raise UnsupportedError(message)
        return asked
    stated = checkpoint.settings("sentence_bert_config.json").get("max_seq_length")
    stated = stated or checkpoint.settings("tokenizer_config.json").get("model_max_length")
    return min(positions, int(stated)) if stated else positions


def _modules(checkpoint: Checkpoint) -> list[tuple[str, str]]:
    modules = checkpoint.json("modules.json") or []
    return [(str(module["type"]).rsplit(".", 1)[-1], str(module["path"])) for module in modules]


_POOLINGS = {"mean": Pooling.MEAN, "cls": Pooling.CLS, "max": Pooling.MAX, "lasttoken": Pooling.LAST}
"""By the name that sentence-transformers gives them."""


def _pooling(checkpoint: Checkpoint, asked: Pooling | None) -> Pooling:
    if asked is not None:
        return asked
    paths = [path for kind, path in _modules(checkpoint) if kind == "Pooling"]
    stated = checkpoint.settings(f"{paths[0]}/config.json") if paths else {}
    if not stated:
        message = "the checkpoint does not say how to pool: state its authors' choice with --pooling mean|cls|max|last"
        raise UndecidedError(message)
    if stated.get("include_prompt") is False:
        message = "the checkpoint leaves prompts out of the pooling (include_prompt), which is not built"
        raise UnsupportedError(message)
    modes = _pooling_modes(stated)
    if len(modes) != 1 or modes[0] not in _POOLINGS:
        message = f"pooling {' + '.join(modes) or 'nothing'} is not built (known: {', '.join(_POOLINGS)})"
        raise UnsupportedError(message)
    return _POOLINGS[modes[0]]


def _pooling_modes(stated: dict[str, Any]) -> list[str]:
    """Names of what is joined: `pooling_mode` since sentence-transformers 5.7, one flag for each before."""
    named = stated.get("pooling_mode")
    if named is not None:
        return [named] if isinstance(named, str) else list(named)
    flags = (key.removeprefix("pooling_mode_") for key, value in stated.items() if value is True)
    return [flag.removesuffix("_tokens").removesuffix("_token") for flag in flags if flag != "include_prompt"]


def _normalize(checkpoint: Checkpoint, asked: bool | None) -> bool:  # noqa: FBT001 - mirrors the override
    modules = _modules(checkpoint)
    unknown = [kind for kind, _ in modules if kind not in ("Transformer", "Pooling", "Normalize")]
    if unknown:
        message = f"the checkpoint ends in {', '.join(unknown)}, which is not built"
        raise UnsupportedError(message)
    if asked is not None:
        return asked
    if not modules:
        message = (
            "the checkpoint does not say whether vectors are normalised: state it with --normalize or --no-normalize"
        )
        raise UndecidedError(message)
    return any(kind == "Normalize" for kind, _ in modules)


def _prompts(checkpoint: Checkpoint) -> tuple[dict[str, str], str]:
    stated = checkpoint.settings("config_sentence_transformers.json")
    prompts = {str(name): str(text) for name, text in (stated.get("prompts") or {}).items()}
    default = str(stated.get("default_prompt_name") or "")
    if default and default not in prompts:
        message = f"the default prompt {default!r} is not among the checkpoint's prompts {sorted(prompts)}"
        raise UnsupportedError(message)
    return prompts, default
