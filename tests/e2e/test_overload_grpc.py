"""More requests by direct gRPC than can be computed: those beyond the queue are refused at once, memory stays."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import pytest
import tritonclient.grpc as triton_grpc
from conch_client import Client, OverloadedError
from conch_export import Queue, plan
from tritonclient.utils import InferenceServerException

from tests.exports import export_once, options_of
from tests.serving import Serving

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from tests.checkpoints import Checkpoints

QUEUE = 4
ROWS, LENGTH = 8, 128
MOST_GROWTH = 300_000_000
"""Bytes. A thousand requests whose token vectors all waited would take more than a gigabyte."""


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory, checkpoints: Checkpoints) -> Iterator[Serving]:
    folder = tmp_path_factory.mktemp("overload")
    queues = {"short-queue": Queue(requests=QUEUE), "short-wait": Queue(requests=100_000, timeout_s=1)}
    for name, queue in queues.items():
        chosen = plan(cores=1, queue=queue)
        export_once(options_of(checkpoints, "bert", folder / "models", name=name, plan=chosen, late_interaction=False))
    with Serving(folder / "models", folder) as serving:
        yield serving


def text() -> NDArray[np.int64]:
    return np.random.default_rng(0).integers(1000, 20000, (ROWS, LENGTH))


def ask(client: triton_grpc.InferenceServerClient, model: str, deadline_s: float | None = None) -> str:
    """Status of one request for rows that take a while."""
    ids = text()
    inputs = []
    for name, values in (("input_ids", ids), ("attention_mask", np.ones_like(ids))):
        inputs.append(triton_grpc.InferInput(name, values.shape, "INT64"))
        inputs[-1].set_data_from_numpy(values)
    try:
        vectors: Any = client.infer(model, inputs, client_timeout=deadline_s).as_numpy("embedding")
    except InferenceServerException as error:
        return f"{error.status()}: {error.message()}"
    assert np.isfinite(vectors).all()
    return "OK"


def overload(serving: Serving, model: str, count: int, at_once: int) -> list[str]:
    with triton_grpc.InferenceServerClient(serving.grpc_url) as client, ThreadPoolExecutor(at_once) as pool:
        return list(pool.map(lambda _: ask(client, model), range(count)))


def resident(serving: Serving) -> int:
    """Bytes of tritonserver and its stubs."""
    return sum(process.memory_info().rss for process in [serving.triton, *serving.stubs])


def kinds(answers: list[str]) -> Counter[str]:
    known = ("Exceeds maximum queue size", "Request timeout expired")
    return Counter(next((text for text in known if text in answer), answer) for answer in answers)


def test_what_the_queue_has_no_room_for_is_refused_with_unavailable(serving: Serving) -> None:
    overload(serving, "short-queue", count=100, at_once=2)
    before, processes = resident(serving), [serving.triton, *serving.stubs]
    answers = overload(serving, "short-queue", count=1000, at_once=64)
    assert set(kinds(answers)) == {"OK", "Exceeds maximum queue size"}
    assert all("UNAVAILABLE" in answer for answer in answers if answer != "OK")
    assert resident(serving) - before < MOST_GROWTH
    assert [serving.triton, *serving.stubs] == processes
    assert all(process.status() != psutil.STATUS_ZOMBIE for process in processes)
    assert overload(serving, "short-queue", count=3, at_once=1) == ["OK"] * 3


def test_what_waits_too_long_is_refused_with_unavailable(serving: Serving) -> None:
    answers = overload(serving, "short-wait", count=600, at_once=300)
    assert set(kinds(answers)) == {"OK", "Request timeout expired"}
    assert all("UNAVAILABLE" in answer for answer in answers if answer != "OK")
    assert overload(serving, "short-wait", count=3, at_once=1) == ["OK"] * 3


def test_the_client_says_that_the_server_is_overloaded(serving: Serving) -> None:
    ids = text().tolist()

    def embed(_: int) -> str:
        try:
            client.embed(ids, model="short-queue")
        except OverloadedError as error:
            return str(error)
        return "OK"

    with Client(serving.grpc_url) as client, ThreadPoolExecutor(48) as pool:
        answers = set(pool.map(embed, range(200)))
    assert "OK" in answers
    assert len(answers) > 1
    assert all("queue is full" in answer for answer in answers - {"OK"})
