"""What a model is and how it is meant to be used: the one description that graphs, configurations and reports share."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any

from conch_export.onnx.heads import Pooling

if TYPE_CHECKING:
    from collections.abc import Mapping

    from conch_export.checkpoints.colbert import Interaction
    from conch_export.checkpoints.modules import DenseModule
    from conch_export.checkpoints.scoring import ScoringLayer
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
        matryoshka_centred: whether the mean of a vector's numbers is taken from them before it is cut.
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
    matryoshka_centred: bool | None = None
    lexical: bool | None = None
    score_tokens: tuple[str, str] | None = None
    pair_template: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain values of what is settled, for JSON."""
        values = {name: value for name, value in asdict(self).items() if value is not None}
        return {name: value.value if isinstance(value, Enum) else value for name, value in values.items()}

    @classmethod
    def of(cls, stated: Mapping[str, Any]) -> Overrides:
        """What `as_dict` gave, read from JSON."""
        kinds = {"pooling": Pooling, "task": Task, "matryoshka": tuple, "score_tokens": tuple}
        return cls(**{name: kinds.get(name, lambda value: value)(value) for name, value in stated.items()})


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
        pooling: of an embedding model, and of a cross-encoder that is made of modules.
        dense: layers after the pooling, or over every token's vector of a multi-vector model.
        scoring: layers after the pooling of a cross-encoder that is made of modules.
        normalize: embedding only; whether vectors leave with length 1.
        matryoshka: embedding only; lengths that vectors may be cut to, empty for none.
        matryoshka_centred: embedding only; whether the mean of a vector's numbers is taken from them before it is cut.
        similarity: embedding only; how its authors compare vectors ("cosine", "dot"), empty where they do not say.
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
    scoring: tuple[ScoringLayer, ...] = ()
    normalize: bool = False
    matryoshka: tuple[int, ...] = ()
    matryoshka_centred: bool = False
    similarity: str = ""
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
