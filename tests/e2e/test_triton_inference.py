"""What any KServe v2 client gets from the embedded Triton, without a line of conch's own client."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
from tritonclient.utils import InferenceServerException

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from tests.serving import Serving

MODEL = "all-minilm-l6-v2"
DIMENSION = 384


@pytest.fixture(scope="module")
def client(triton: Serving) -> Iterator[triton_grpc.InferenceServerClient]:
    with triton_grpc.InferenceServerClient(triton.grpc_url) as connection:
        yield connection


def infer(
    client: triton_grpc.InferenceServerClient, model: str, output: str, **tensors: NDArray[np.int64]
) -> NDArray[Any]:
    inputs = []
    for name, values in tensors.items():
        inputs.append(triton_grpc.InferInput(name, values.shape, "INT64"))
        inputs[-1].set_data_from_numpy(values)
    answer: NDArray[Any] = client.infer(model, inputs).as_numpy(output)
    return answer


def embed(client: triton_grpc.InferenceServerClient, ids: NDArray[np.int64]) -> NDArray[np.float32]:
    return infer(client, MODEL, "embedding", input_ids=ids, attention_mask=np.ones_like(ids))


def texts_of(lengths: range | list[int]) -> list[NDArray[np.int64]]:
    rng = np.random.default_rng(7)
    return [rng.integers(1000, 20000, (1, length)) for length in lengths]


def test_the_ensemble_answers_a_unit_vector_per_row(client: triton_grpc.InferenceServerClient) -> None:
    vectors = embed(client, np.array([[101, 7592, 102], [101, 2088, 102]]))
    assert vectors.shape == (2, DIMENSION)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_padding_changes_nothing(client: triton_grpc.InferenceServerClient) -> None:
    ids = np.array([[101, 7592, 102, 0, 0], [101, 7592, 2088, 999, 102]])
    padded = infer(client, MODEL, "embedding", input_ids=ids, attention_mask=(ids != 0).astype(np.int64))
    np.testing.assert_allclose(padded[0], embed(client, ids[:1, :3])[0], atol=1e-5)


def test_concurrent_texts_of_all_lengths_are_merged_and_equal_each_alone(
    client: triton_grpc.InferenceServerClient,
) -> None:
    texts = texts_of([1, 256, *range(2, 250, 4)])
    alone = [embed(client, ids)[0] for ids in texts]
    before = statistics_of(client, f"{MODEL}.encoder")
    with ThreadPoolExecutor(64) as pool:
        together = [vectors[0] for vectors in pool.map(lambda ids: embed(client, ids), texts)]
    after = statistics_of(client, f"{MODEL}.encoder")

    inferences = after.inference_count - before.inference_count
    assert inferences >= len(texts)  # the gateway, too, may have asked whether the model is there
    assert after.execution_count - before.execution_count < inferences
    np.testing.assert_allclose(together, alone, atol=1e-5)


def statistics_of(client: triton_grpc.InferenceServerClient, model: str) -> Any:
    return client.get_inference_statistics(model).model_stats[0]


def test_merged_reranking_requests_keep_to_their_own_query(client: triton_grpc.InferenceServerClient) -> None:
    requests = [np.concatenate(texts_of([length] * 3)) + shift for shift, length in enumerate([4, 9, 4, 30, 2, 17])]

    def score(ids: NDArray[np.int64]) -> NDArray[np.float32]:
        return infer(client, f"{MODEL}-maxsim", "score", input_ids=ids, attention_mask=np.ones_like(ids))[1:]

    alone = [score(ids) for ids in requests]
    with ThreadPoolExecutor(len(requests)) as pool:
        together = list(pool.map(score, requests))
    np.testing.assert_allclose(together, alone, rtol=1e-4)


PUBLIC = {
    MODEL: "embedding",
    f"{MODEL}-int8": "embedding",
    f"{MODEL}-maxsim": "score",
    f"{MODEL}-tokens": "token_embeddings",
    "tiny-cross-encoder": "score",
}


@pytest.mark.parametrize("model", PUBLIC)
def test_rows_of_no_length_are_nan_and_their_neighbours_are_untouched(
    client: triton_grpc.InferenceServerClient, model: str
) -> None:
    def ask(ids: NDArray[np.int64]) -> NDArray[np.float32]:
        matrices = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
        types = {"token_type_ids": np.zeros_like(ids)} if "cross-encoder" in model else {}
        return infer(client, model, PUBLIC[model], **matrices, **types)

    good = [np.repeat(text, 2, axis=0) for text in texts_of([5, 40, 7, 12, 80, 33, 9, 21])]
    nothing = [np.empty((rows, 0), np.int64) for rows in (1, 2)]
    expected = [ask(ids) for ids in good]
    with ThreadPoolExecutor(16) as pool:
        empty = [pool.submit(ask, ids) for ids in nothing * 8]
        answers = list(pool.map(ask, good * 2))

    for answer, ids in zip(empty, nothing * 8, strict=True):
        found = answer.result()
        assert len(found) == len(ids)
        assert found.shape[1] == 0 if model.endswith("-tokens") else np.isnan(found).all()
    for found, wanted in zip(answers, expected * 2, strict=True):
        if model.endswith("-int8"):
            np.testing.assert_array_equal(found, wanted)  # every bit, whatever it was merged with
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("ids", "mask", "complaint"),
    [
        pytest.param((0, 4), (0, 4), "byte size mismatch", id="no rows"),
        pytest.param((1, 4), (1, 5), "same rows and length", id="a mask longer than its text"),
    ],
)
def test_what_would_spoil_neighbours_is_refused_alone(
    client: triton_grpc.InferenceServerClient, ids: tuple[int, int], mask: tuple[int, int], complaint: str
) -> None:
    good = texts_of([5, 40, 7, 12, 80, 33, 9, 21])
    expected = [embed(client, text) for text in good]

    def bad(_: int) -> str:
        with pytest.raises(InferenceServerException) as caught:
            infer(
                client, MODEL, "embedding",
                input_ids=np.ones(ids, np.int64), attention_mask=np.ones(mask, np.int64),
            )  # fmt: skip
        return str(caught.value)

    with ThreadPoolExecutor(16) as pool:
        complaints = pool.map(bad, range(8))
        answers = list(pool.map(lambda text: embed(client, text), good))
    assert all("INVALID_ARGUMENT" in message and complaint in message for message in complaints)
    for answer, wanted in zip(answers, expected, strict=True):
        np.testing.assert_allclose(answer, wanted, atol=1e-5)


def test_the_tokenizer_is_served_in_slices(client: triton_grpc.InferenceServerClient) -> None:
    parameters = client.get_model_config(MODEL).config.parameters
    size = int(parameters["tokenizer_bytes"].string_value)
    slices = [
        infer(client, f"{MODEL}.tokenizer", "content", range=np.array([begin, begin + 100_000]))
        for begin in range(0, size, 100_000)
    ]
    content = np.concatenate(slices).tobytes()
    assert hashlib.sha256(content).hexdigest() == parameters["tokenizer_sha256"].string_value


def test_models_can_be_listed_but_not_loaded_or_unloaded(client: triton_grpc.InferenceServerClient) -> None:
    assert MODEL in {model.name for model in client.get_model_repository_index().models}
    with pytest.raises(InferenceServerException, match="not allowed"):
        client.load_model(f"{MODEL}.pooling")
    with pytest.raises(InferenceServerException, match="not allowed"):
        client.unload_model(MODEL)


@pytest.mark.parametrize("call", ["get_system_shared_memory_status", "get_trace_settings", "get_log_settings"])
def test_protocols_that_reach_memory_or_files_are_closed(client: triton_grpc.InferenceServerClient, call: str) -> None:
    with pytest.raises(InferenceServerException, match="protocol is restricted"):
        getattr(client, call)()
