"""What every question must be answered.

A known value comes from two places that share nothing: transformers, in process, on the checkpoint; and one plain
KServe request with one row while nothing else runs. The second must agree with the first within the precision of the
export. After that it is what every answer is compared with, whatever that was merged with and whichever way it took.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import AutoModel, AutoModelForMaskedLM, AutoModelForSequenceClassification, PreTrainedTokenizerFast

from tests.soak import models, plain
from tests.soak.texts import SHORT_TEXTS, texts

if TYPE_CHECKING:
    from pathlib import Path

    import tritonclient.grpc.aio as triton_aio
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

MAX_LENGTH = 256  # tokens of the default model
# Least cosine of a vector in int8 to transformers' in float32; some texts here are none that calibration foresees.
INT8_COSINE, INT8_TOKEN_COSINE = 0.99, 0.95
FP32_DIFFERENCE = 1e-4  # largest difference of a number in float32 to transformers'
# Largest difference of the same number between two answers: sums of float32 depend on how many rows are multiplied.
ANSWER_DIFFERENCE = 1e-5


class WrongAnswerError(Exception):
    """An answer is not the known value."""


@dataclass(frozen=True)
class Known:
    """The known values of all texts, by their place.

    Attributes:
        ids: token ids of each text, special tokens included, cut to the model's limit.
        dense: vectors of length 1, [texts, 384].
        tokens: vectors of the tokens of each text as Triton gives them, [length, 384].
        sparse: weights above zero by term, of the short texts.
        pairs: raw scores of the cross-encoder for each short text with each short text, [texts, texts].
        pair_tokens: token ids and segments of these pairs.
    """

    texts: list[str]
    ids: list[list[int]]
    dense: Floats
    tokens: list[Floats]
    sparse: list[dict[int, float]]
    pairs: Floats
    pair_tokens: dict[tuple[int, int], tuple[list[int], list[int]]]

    def late(self, place: int) -> Floats:
        """Vectors of the tokens of a text, each of length 1."""
        vectors = self.tokens[place]
        unit: Floats = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return unit

    def late_score(self, query: int, document: int) -> float:
        """The mean, over the query's tokens, of the best cosine to any token of the document."""
        return float((self.late(query) @ self.late(document).T).max(axis=1).mean())


def same(found: Any, expected: Any, what: str, tolerance: float = ANSWER_DIFFERENCE) -> None:
    """Check numbers of any shape.

    Raises:
        WrongAnswerError: another shape, a difference above the tolerance, or NaN.
    """
    found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    if found.shape != expected.shape:
        raise WrongAnswerError(f"{what}: shape {found.shape} instead of {expected.shape}")
    difference = float(np.abs(found - expected).max(initial=0.0))
    if not difference <= tolerance:
        raise WrongAnswerError(f"{what}: differs by {difference:.3g}")


def agree(found: Any, expected: Any, what: str) -> None:
    """Check what has to be equal; raises WrongAnswerError."""
    if found != expected:
        raise WrongAnswerError(f"{what}: {found!r} instead of {expected!r}")


async def learn(made: models.Models, client: triton_aio.InferenceServerClient, queries: range) -> Known:
    """Compute the known values and have the quiet Triton confirm them.

    Args:
        made: repository and checkpoints.
        client: of a Triton that nobody else asks.
        queries: places of the texts that are queries of pairs.

    Raises:
        WrongAnswerError: Triton and transformers differ.
    """
    tokenizer = _tokenizer(made.dense)
    known = texts()
    ids: list[list[int]] = tokenizer(known, truncation=True, max_length=MAX_LENGTH)["input_ids"]
    dense, tokens = await _dense(made.dense, client, ids)
    sparse = await _sparse(made.sparse, client, ids)
    pair_tokens = {}
    for query in queries:
        for document in SHORT_TEXTS:
            pair = tokenizer(known[query], known[document])
            pair_tokens[query, document] = (pair["input_ids"], pair["token_type_ids"])
    pairs = await _pairs(made.pairs, client, pair_tokens)
    return Known(known, ids, dense, tokens, sparse, pairs, pair_tokens)


def _tokenizer(checkpoint: Path) -> Any:
    file = str(checkpoint / "tokenizer.json")
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_file=file, pad_token="[PAD]", model_input_names=["input_ids", "token_type_ids"]
    )


async def _dense(checkpoint: Path, client: Any, ids: list[list[int]]) -> tuple[Floats, list[Floats]]:
    model = AutoModel.from_pretrained(checkpoint, dtype=torch.float32).eval()
    vectors, tokens = [], []
    for place, row in enumerate(ids):
        hidden = _computed(model, input_ids=[row]).last_hidden_state[0].numpy()
        (vector,) = await plain.infer(client, models.DENSE, [row], ["embedding"])
        (of_tokens,) = await plain.infer(client, models.TOKENS, [row], ["token_embeddings"])
        _close(_cosines(vector[0], hidden.mean(axis=0)), INT8_COSINE, f"vector of text {place}")
        _close(_cosines(of_tokens[0], hidden), INT8_TOKEN_COSINE, f"token vectors of text {place}")
        vectors.append(vector[0])
        tokens.append(of_tokens[0])
    return np.array(vectors), tokens


async def _sparse(checkpoint: Path, client: Any, ids: list[list[int]]) -> list[dict[int, float]]:
    model = AutoModelForMaskedLM.from_pretrained(checkpoint).eval()
    weights = []
    for place in SHORT_TEXTS:
        logits = _computed(model, input_ids=[ids[place]]).logits[0]
        expected = torch.log1p(torch.relu(logits)).amax(0).numpy()
        terms, values = await plain.infer(client, models.SPARSE, [ids[place]], ["indices", "weights"])
        found = np.zeros_like(expected)
        np.maximum.at(found, terms[0], values[0])
        same(found, expected, f"terms of text {place}", FP32_DIFFERENCE)
        weights.append({int(term): float(found[term]) for term in np.flatnonzero(found)})
    return weights


async def _pairs(checkpoint: Path, client: Any, pair_tokens: dict[tuple[int, int], Any]) -> NDArray[np.float32]:
    model = AutoModelForSequenceClassification.from_pretrained(checkpoint).eval()
    scores = np.full((len(SHORT_TEXTS), len(SHORT_TEXTS)), np.nan, np.float32)
    for place, (ids, segments) in pair_tokens.items():
        expected = _computed(model, input_ids=[ids], token_type_ids=[segments]).logits[0, 0]
        (score,) = await plain.infer(client, models.PAIRS, [ids], ["score"], segments=[segments])
        same(score[0, 0], float(expected), f"score of pair {place}", FP32_DIFFERENCE)
        scores[place] = score[0, 0]
    return scores


@torch.inference_mode()
def _computed(model: Any, **rows: list[list[int]]) -> Any:
    """What a model of transformers gives for rows of one length."""
    return model(**{name: torch.tensor(values) for name, values in rows.items()})


def _cosines(one: Floats, other: Floats) -> float:
    """The least cosine of any row of one to that row of the other."""
    products = (one * other).sum(axis=-1)
    return float((products / np.linalg.norm(one, axis=-1) / np.linalg.norm(other, axis=-1)).min())


def _close(cosine: float, least: float, what: str) -> None:
    if not cosine >= least:
        raise WrongAnswerError(f"{what}: cosine {cosine:.4f} to transformers, at least {least} is expected")
