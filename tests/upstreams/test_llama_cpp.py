"""Models of llama.cpp, which llama-cpp-python serves, behind a gateway: asked by OpenAI's SDK, compared with our own.

`make test-upstreams` does this, not `make test`: llama.cpp is built first, which takes minutes.
"""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import openai
import pytest
from conch_export import Options, Precision, plan

from tests.exports import export_once
from tests.serving import Serving
from tests.upstreams.llama_server import CONTEXT, NAME, LlamaServer, write_gguf
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

OURS, DIMENSION, SHORTER = "all-minilm-l6-v2", 384, 64
TEXTS = ["A cat sat on the mat.", "Wie spät ist es?", "größer, 日本語 and 🐚!", "def embed(texts): ...", "a " * 200]


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[LlamaServer]]:
    folder = tmp_path_factory.mktemp("llama")
    write_gguf(folder / "minilm.gguf")
    servers = [LlamaServer(folder / "minilm.gguf", folder / f"{number}.log").start() for number in range(2)]
    yield servers
    for server in servers:
        server.kill()


@pytest.fixture(scope="module")
def gateway(servers: list[LlamaServer], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A gateway that has our own model in fp32, and llama.cpp's under four names."""
    folder = tmp_path_factory.mktemp("gateway")
    export_once(Options(OURS, folder / "models", precision=Precision.FP32, plan=plan(cores=1)))
    one, other = (server.url for server in servers)
    (folder / "models.toml").write_text(
        f'[one]\nurl = "{one}"\nmodel = "{NAME}"\ncalls = 2\n'
        f'[both]\nurl = ["{one}", "{other}"]\nmodel = "{NAME}"\ndimension = {DIMENSION}\nmax_rows = 2\n'
        f'[other]\nurl = "{one}"\nmodel = "another"\ndimension = 768\n'
        f'[shorter]\nurl = "{one}"\nmodel = "{NAME}"\ndimension = {DIMENSION}\nmatryoshka_dimensions = [{SHORTER}]\n',
        encoding="utf-8",
    )
    with Serving(folder / "models", folder, CONCH_MODELS_FILE=str(folder / "models.toml")) as serving:
        yield serving


@pytest.fixture(scope="module")
def sdk(gateway: Serving) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="x", max_retries=0) as client:
        yield client


def embedded(sdk: openai.OpenAI, model: str, texts: list[str], **options: Any) -> NDArray[np.float64]:
    return np.array([item.embedding for item in sdk.embeddings.create(model=model, input=texts, **options).data])


def least_cosine(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return float(((one * other).sum(axis=1) / lengths).min())


def states(gateway: Serving) -> list[str]:
    page = httpx.get(f"{gateway.url}/metrics").text
    return re.findall(r'replica_state\{backend="both",replica="[^"]+",state="([\w-]+)"\} 1\.0', page)


@pytest.mark.parametrize("model", ["one", "both"])
def test_vectors_are_those_of_our_own_model(sdk: openai.OpenAI, model: str) -> None:
    assert least_cosine(embedded(sdk, model, TEXTS), embedded(sdk, OURS, TEXTS)) > 0.9999


def test_base64_which_the_sdk_asks_for_and_numbers_agree(sdk: openai.OpenAI) -> None:
    numbers = embedded(sdk, "one", TEXTS, encoding_format="float")
    np.testing.assert_allclose(embedded(sdk, "one", TEXTS), numbers, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(numbers, axis=1), 1, atol=1e-6)


def test_tokens_are_counted_as_by_the_server(sdk: openai.OpenAI) -> None:
    used = [sdk.embeddings.create(model=model, input="how are they counted").usage for model in ("one", OURS)]
    assert used[0].total_tokens == used[1].total_tokens == 6


def test_vectors_are_shortened_to_declared_lengths_only(sdk: openai.OpenAI) -> None:
    whole = embedded(sdk, "shorter", TEXTS)[:, :SHORTER]
    given = embedded(sdk, "shorter", TEXTS, dimensions=SHORTER)
    np.testing.assert_allclose(given, whole / np.linalg.norm(whole, axis=1, keepdims=True), atol=1e-6)
    with pytest.raises(openai.BadRequestError, match="does not shorten vectors"):
        embedded(sdk, "one", ["x"], dimensions=SHORTER)


def test_another_model_than_was_declared_is_noticed(sdk: openai.OpenAI) -> None:
    with pytest.raises(openai.InternalServerError, match="384 numbers instead of 768"):
        embedded(sdk, "other", ["x"])


def test_an_empty_text_is_refused_as_everywhere(sdk: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="item 1 is empty"):
        embedded(sdk, "one", ["x", ""])


def test_a_text_that_is_too_long_is_cut_by_the_server(sdk: openai.OpenAI) -> None:
    answer = sdk.embeddings.create(model="one", input="word " * 3 * CONTEXT)
    assert answer.usage.total_tokens == CONTEXT


def test_one_of_two_that_is_killed_fails_no_request_and_comes_back(
    gateway: Serving, sdk: openai.OpenAI, servers: list[LlamaServer]
) -> None:
    texts = [f"text number {number}" for number in range(40)]
    expected = embedded(sdk, OURS, texts)

    with ThreadPoolExecutor(8) as threads:
        asked = [threads.submit(embedded, sdk, "both", [text]) for text in texts]
        asked[4].result()
        servers[1].kill()
        given = np.concatenate([each.result() for each in asked])
    assert least_cosine(given, expected) > 0.9999
    long_list = embedded(sdk, "both", texts)
    servers[1].start()
    until(lambda: embedded(sdk, "both", texts[:4]).any() and states(gateway) == ["serving", "serving"])
    assert least_cosine(embedded(sdk, "both", texts), long_list) > 0.9999


def test_the_only_one_that_is_killed_is_a_bad_gateway_until_it_is_back(
    sdk: openai.OpenAI, servers: list[LlamaServer]
) -> None:
    before = embedded(sdk, "one", TEXTS)
    servers[0].kill()
    with pytest.raises(openai.InternalServerError, match="cannot be reached") as failed:
        embedded(sdk, "one", ["x"])
    assert failed.value.status_code == 502
    assert embedded(sdk, OURS, ["x"]).shape == (1, DIMENSION)
    servers[0].start()
    assert least_cosine(embedded(sdk, "one", TEXTS), before) > 0.9999
