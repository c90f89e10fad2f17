"""What every question must be answered.

A known value comes from two places that share nothing: transformers, in process, on the checkpoint; and one plain
KServe request with one row while nothing else runs. The second must agree with the first within the precision of the
export. After that it is what every answer is compared with, whatever that was merged with and whichever way it took.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import AutoModel, AutoModelForMaskedLM, AutoModelForSequenceClassification, PreTrainedTokenizerFast

from tests.soak import models, plain
from tests.soak.known import Known, WrongAnswerError, same
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
