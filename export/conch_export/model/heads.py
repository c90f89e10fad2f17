"""Heads, which follow the encoder, as data. `checkpoints.heads` reads them, `onnx.heads` builds their graphs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from conch_export.errors import UnsupportedError
from conch_export.model.network import Linear, Norm

if TYPE_CHECKING:
    from conch_export.model.arrays import Array
    from conch_export.model.description import Pooling

ACTIVATIONS = ("identity", "tanh", "relu", "sigmoid", "gelu", "silu")
"""By the names that transformers gives them."""


@dataclass(frozen=True)
class Dense:
    """activation(x @ weight + bias), plus x through `residual` where there is one.

    Attributes:
        linear: the weight and the bias.
        activation: a name of `ACTIVATIONS`.
        residual: to the same width, for what is added after the activation; the identity adds x itself.

    Raises:
        UnsupportedError: the activation is not among them.
    """

    linear: Linear
    activation: str = "identity"
    residual: Linear | None = None

    def __post_init__(self) -> None:
        if self.activation not in ACTIVATIONS:
            msg = f"activation {self.activation!r} is not built into heads (known: {', '.join(ACTIVATIONS)})"
            raise UnsupportedError(msg)


@dataclass(frozen=True)
class Unit:
    """Division by the Euclidean length."""


@dataclass(frozen=True)
class LogOdds:
    """log(p / (1 - p)) of the probability p that the softmax of the logits gives one label.

    It is the label's logit less the logarithm of the sum of the others' exponentials.

    Attributes:
        label: number of the label.
        labels: how many there are.
    """

    label: int
    labels: int


@dataclass(frozen=True)
class Sum:
    """The sum of what several stacks of layers give for the same vector.

    Attributes:
        branches: the stacks, which give vectors of one length.
    """

    branches: tuple[tuple[HeadLayer, ...], ...]


HeadLayer = Dense | Norm | Unit | LogOdds | Sum
"""A layer of a head; `Norm` is a layer norm."""


@dataclass(frozen=True)
class Pooled:
    """Pooling, then layers: embeddings, and scores of cross-encoders.

    Attributes:
        pooling: of the token embeddings.
        layers: after it.
        pools_prompt: whether the tokens of a prompt, whose mask is 3, are pooled too.
    """

    pooling: Pooling
    layers: tuple[HeadLayer, ...] = ()
    pools_prompt: bool = True


@dataclass(frozen=True)
class Projection:
    """Layers over every token embedding; vectors of length 1 come out.

    Attributes:
        layers: before the division by the length.
        skips_first: whether late interaction leaves out the first token of every text.
    """

    layers: tuple[HeadLayer, ...] = ()
    skips_first: bool = False

    @property
    def whole(self) -> tuple[HeadLayer, ...]:
        """The layers, and the division by the length."""
        return (*self.layers, Unit())


@dataclass(frozen=True)
class Vocabulary:
    """A masked language model's head: layers, then one logit for each token of the vocabulary (Formal et al. 2021).

    Attributes:
        layers: before the logits.
        decoder: to the logits.
        logarithms: how often log(1 + x) is taken of a token's largest positive logit.
    """

    layers: tuple[HeadLayer, ...]
    decoder: Linear
    logarithms: int = 1

    @property
    def size(self) -> int:
        """Tokens of the vocabulary."""
        return int(self.decoder.weight.shape[1])


@dataclass(frozen=True)
class Lexical:
    """One weight for each token of the text; a token that occurs twice keeps the larger (Chen et al. 2024, BGE-M3).

    Attributes:
        output: to that weight.
        size: tokens of the vocabulary.
        skipped: ids that weigh nothing: of tokens that frame a text, fill it up or stand for unknown words.
    """

    output: Linear
    size: int
    skipped: tuple[int, ...]


Head = Pooled | Projection | Vocabulary | Lexical


@dataclass(frozen=True)
class Static:
    """The mean of the vectors of a text's tokens, then layers: a whole embedding model, without an encoder.

    Attributes:
        table: [vocabulary, width].
        max_length: most tokens of a text.
        unknown: the token that does not count; None for none.
        layers: after the mean.
    """

    table: Array
    max_length: int
    unknown: int | None = None
    layers: tuple[HeadLayer, ...] = ()
