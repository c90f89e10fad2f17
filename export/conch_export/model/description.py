"""Description of a model and of how it is meant to be used, which graphs, configurations and reports share.

`Description` holds what every model has; each task has a class of its own with the rest.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, ClassVar

from conch_contract import Activation, Interaction, Task

if TYPE_CHECKING:
    from collections.abc import Mapping

    from conch_export.sources.source import Source


class Precision(str, Enum):
    """Number format of the encoder's matrix products."""

    FP32 = "fp32"
    FP16 = "fp16"
    INT8 = "int8"


class Target(str, Enum):
    """Hardware that the encoder is to run on; heads always run on the CPU."""

    CPU = "cpu"
    CUDA = "cuda"


class Packing(str, Enum):
    """How texts that are merged share the encoder's work."""

    PACKED = "packed"
    ROW_BY_ROW = "row by row"


class Pooling(str, Enum):
    """How a text's token embeddings become the text's vector."""

    MEAN = "mean"
    CLS = "cls"
    MAX = "max"
    LAST = "last"
    WEIGHTED_MEAN = "weighted-mean"
    """The i-th token counts i times."""
    MEAN_SQRT_LENGTH = "mean-sqrt-length"
    """The sum divided by the square root of the number of tokens."""


@dataclass(frozen=True)
class ModuleLayer:
    """A layer that sentence-transformers keeps in a folder of its own.

    Attributes:
        kind: `Dense`, `LayerNorm` or `Normalize`.
        folder: in the checkpoint, of its weights.
        activation: of a Dense; a name of `model.heads.ACTIVATIONS`.
        width: length of the vectors that a Dense gives; 0 for other kinds.
        residual: whether a Dense adds what comes in to what it gives.
    """

    kind: str
    folder: str
    activation: str = "identity"
    width: int = 0
    residual: bool = False


@dataclass(frozen=True, kw_only=True)
class Description:
    """The facts that every model to be served has.

    Attributes:
        task: what it answers (models derived from it are served beside it, see `public_models`).
        name: of the public Triton model.
        source: the checkpoint.
        architecture: transformers' `model_type`.
        precision: of the encoder's matrix products.
        packing: packed where a family builds the architecture, else row by row.
        hidden: width of a token embedding.
        vocabulary: number of token ids.
        max_length: tokens at which the author truncates, special tokens included.
        tokenizer_sha256: of tokenizer.json.
        tokenizer_bytes: its size.
        segments: whether the graph takes `token_type_ids`.
        prompts: texts put before the input, by name.
        default_prompt_name: the prompt of requests that name none; empty for none.
    """

    task: ClassVar[Task]
    name: str
    source: Source
    architecture: str
    precision: Precision
    packing: Packing
    hidden: int
    vocabulary: int
    max_length: int
    tokenizer_sha256: str
    tokenizer_bytes: int
    segments: bool = False
    prompts: Mapping[str, str] = field(default_factory=dict)
    default_prompt_name: str = ""

    @property
    def default_prompt(self) -> str:
        """The text put before the input of requests that name no prompt."""
        return self.prompts.get(self.default_prompt_name, "")


@dataclass(frozen=True, kw_only=True)
class VectorModel(Description):
    """A model whose vectors can be compared token by token.

    Attributes:
        dimension: length of a vector that it gives.
        dense: layers after the pooling, or over every token embedding where there is none.
        late_interaction: whether a MaxSim reranker is served beside it.
    """

    dimension: int
    dense: tuple[ModuleLayer, ...] = ()
    late_interaction: bool = False


@dataclass(frozen=True, kw_only=True)
class EmbeddingModel(VectorModel):
    """One vector for each text.

    Attributes:
        pooling: of the token embeddings.
        normalize: whether vectors leave with length 1.
        pools_prompt: whether the tokens of a prompt are pooled with those of the text.
        matryoshka: lengths that vectors may be cut to, longest first; empty for none.
        matryoshka_centred: whether the mean of a vector's numbers is taken from them before it is cut.
        similarity: how its authors compare vectors ("cosine", "dot"), empty where they do not state it.
        projected: length of the token vectors that late interaction compares, where the checkpoint has a layer that
            makes them; 0 for none.
        lexical: whether lexical weights of the text's own tokens are served beside it.
        late_chunking: whether vectors of chunks of a text that is read as a whole are served beside it.
    """

    task = Task.EMBEDDING
    pooling: Pooling
    normalize: bool
    pools_prompt: bool = True
    matryoshka: tuple[int, ...] = ()
    matryoshka_centred: bool = False
    similarity: str = ""
    projected: int = 0
    lexical: bool = False
    late_chunking: bool = False

    @property
    def skips_first(self) -> bool:
        """Whether late interaction leaves out the first token, as it does with BGE-M3's layer (Chen et al. 2024)."""
        return self.projected > 0


@dataclass(frozen=True, kw_only=True)
class StaticModel(EmbeddingModel):
    """An embedding model without an encoder: the mean of its tokens' vectors, which a table holds.

    Attributes:
        max_characters: characters of a text that its authors read; None for all.
    """

    max_characters: int | None = None


@dataclass(frozen=True, kw_only=True)
class MultiVectorModel(VectorModel):
    """One vector of length 1 for each token.

    Attributes:
        interaction: how queries and documents are written; None for alike and as they are.
    """

    task = Task.MULTI_VECTOR
    interaction: Interaction | None = None


@dataclass(frozen=True, kw_only=True)
class SparseModel(Description):
    """Weights over the whole vocabulary (SPLADE, Formal et al. 2021).

    Attributes:
        logarithms: how often log(1 + x) is taken of a token's largest positive logit.
        looks_up_queries: whether queries have one weight a token from a table, and need no encoder (Geng et al. 2024).
    """

    task = Task.SPARSE
    logarithms: int = 1
    looks_up_queries: bool = False


@dataclass(frozen=True, kw_only=True)
class Classifier(Description):
    """A score for each label, by the head of a sequence classifier.

    Attributes:
        labels: in the order of the logits.
        activation: how logits become scores.
    """

    task = Task.CLASSIFICATION
    labels: tuple[str, ...]
    activation: Activation


@dataclass(frozen=True, kw_only=True)
class CrossEncoder(Description):
    """A score for a query and a document that are read together, by the head of a sequence classifier.

    Attributes:
        label: number of the label whose log-odds are the score, where the classifier has several; None where it has
            one, whose logit is the score. Not read back from a model repository.
        exclusive: whether the labels exclude each other.
    """

    task = Task.CROSS_ENCODER
    label: int | None = None
    exclusive: bool = True


@dataclass(frozen=True, kw_only=True)
class ModularCrossEncoder(CrossEncoder):
    """A cross-encoder made of modules: pooling, then layers, the last of which gives the score.

    Attributes:
        pooling: of the token embeddings.
        layers: after the pooling.
    """

    pooling: Pooling
    layers: tuple[ModuleLayer, ...]


@dataclass(frozen=True, kw_only=True)
class GenerativeReranker(CrossEncoder):
    """A causal language model that is asked about the pair and scored by its next token: logit(yes) - logit(no).

    Attributes:
        pair_template: the text that it reads, with `{query}` and `{document}` in it.
        default_instruction: what stands for `{instruction}` in it where a request states none; empty without a place.
        score_tokens: the tokens for yes and no; empty where the description was read from a model repository.
    """

    pair_template: str
    default_instruction: str = ""
    score_tokens: tuple[str, ...] = ()


def interaction_of(description: Description) -> Interaction | None:
    """How a model's queries and documents are written for late interaction; None for alike and as they are."""
    return description.interaction if isinstance(description, MultiVectorModel) else None


@dataclass(frozen=True)
class Overrides:
    """Facts that the operator states; None takes the checkpoint's own.

    Attributes:
        pooling: of an embedding model.
        normalize: whether vectors leave with length 1.
        max_length: tokens at which texts are truncated.
        task: what kind of model it is.
        prompts: by name, instead of the checkpoint's.
        default_prompt: name of the prompt of requests that name none.
        matryoshka: lengths that vectors may be cut to.
        matryoshka_centred: whether the mean of a vector's numbers is taken from them before it is cut.
        lexical: whether lexical weights are served beside an embedding model.
        late_chunking: whether vectors of chunks are.
        score_tokens: the tokens for yes and no of a generative reranker.
        pair_template: how a generative reranker reads a pair, with `{query}` and `{document}`.
        default_instruction: for `{instruction}` in that.
        label: the label of a classifier by which a reranker scores.
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
    late_chunking: bool | None = None
    score_tokens: tuple[str, str] | None = None
    pair_template: str | None = None
    default_instruction: str | None = None
    label: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain values of what is stated, for JSON."""
        values = {name: value for name, value in asdict(self).items() if value is not None}
        return {name: value.value if isinstance(value, Enum) else value for name, value in values.items()}

    @classmethod
    def of(cls, stated: Mapping[str, Any]) -> Overrides:
        """The overrides that `as_dict` gave, read from JSON."""
        kinds = {"pooling": Pooling, "task": Task, "matryoshka": tuple, "score_tokens": tuple}
        return cls(**{name: kinds.get(name, lambda value: value)(value) for name, value in stated.items()})
