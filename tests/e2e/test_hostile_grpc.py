"""Hostile gRPC requests, to public and inner models, harm nobody: no process ends, no good answer changes.

`CONCH_HOSTILE_REQUESTS` is how many. `make fuzz` sends 10,000 and keeps what came of them in `CONCH_HOSTILE_RESULT`.
"""

from __future__ import annotations

import json
import os
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import date
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from benchmarks.machine import machine, revision, versions
from tests.hostile.grpc_requests import hostile_requests

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from tests.serving import Serving

REQUESTS = int(os.environ.get("CONCH_HOSTILE_REQUESTS", "400"))
RESULT = os.environ.get("CONCH_HOSTILE_RESULT")
SEED, AT_ONCE, TIMEOUT_S = 1, 16, 60
PATIENCE_S = 15
"""For a request without rows, which Triton neither refuses nor computes where it goes to an inner model."""
# In int8 a vector is the same to the last bit, whatever was merged with it.
EXACT, INEXACT = "all-minilm-l6-v2-int8", "all-minilm-l6-v2"
WITHOUT_ROWS = "without rows, left waiting"
# RESOURCE_EXHAUSTED: the refusal repeats a request id that is longer than gRPC takes.
EXPECTED = {"OK", "INVALID_ARGUMENT", "NOT_FOUND", "UNIMPLEMENTED", "RESOURCE_EXHAUSTED", WITHOUT_ROWS}


@pytest.fixture
def stub(triton: Serving) -> Iterator[Any]:
    with grpc.insecure_channel(triton.grpc_url, [("grpc.max_receive_message_length", -1)]) as channel:
        yield service_pb2_grpc.GRPCInferenceServiceStub(channel)


def outcome(stub: Any, request: pb.ModelInferRequest) -> tuple[str, str]:
    """Name of the status, and the message."""
    no_rows = all(list(tensor.shape[:1]) == [0] for tensor in request.inputs)
    try:
        stub.ModelInfer(request, timeout=PATIENCE_S if no_rows else TIMEOUT_S)
    except grpc.RpcError as error:
        if no_rows and error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
            return WITHOUT_ROWS, ""
        return error.code().name, str(error.details())
    return "OK", ""


def ask(client: triton_grpc.InferenceServerClient, model: str, ids: NDArray[np.int64]) -> NDArray[np.float32]:
    inputs = []
    for name, values in (("input_ids", ids), ("attention_mask", np.ones_like(ids))):
        inputs.append(triton_grpc.InferInput(name, values.shape, "INT64"))
        inputs[-1].set_data_from_numpy(values)
    vectors: NDArray[np.float32] = client.infer(model, inputs, client_timeout=TIMEOUT_S).as_numpy("embedding")
    return vectors


@contextmanager
def checked_neighbours(url: str) -> Iterator[Counter[str]]:
    """Good requests that go on meanwhile; every answer is compared with the one from before."""
    random = np.random.default_rng(3)
    texts = [random.integers(1000, 20000, (rows, length)) for rows, length in ((1, 5), (2, 9), (1, 64), (8, 3), (1, 1))]
    answered: Counter[str] = Counter()
    over = threading.Event()

    def go_on(model: str, expected: list[NDArray[np.float32]]) -> None:
        with triton_grpc.InferenceServerClient(url) as client:
            while not over.is_set():
                for ids, vectors in zip(texts, expected, strict=True):
                    found = ask(client, model, ids)
                    if model == EXACT:
                        np.testing.assert_array_equal(found, vectors)
                    np.testing.assert_allclose(found, vectors, rtol=0, atol=1e-5)
                    answered[model] += 1

    with triton_grpc.InferenceServerClient(url) as client, ThreadPoolExecutor(2) as pool:
        streams = [pool.submit(go_on, m, [ask(client, m, ids) for ids in texts]) for m in (EXACT, INEXACT)]
        try:
            yield answered
        finally:
            over.set()
        for stream in streams:
            stream.result()


def test_they_end_no_process_and_change_no_good_answer(triton: Serving, stub: Any) -> None:
    index = stub.RepositoryIndex(pb.RepositoryIndexRequest())
    configs = [stub.ModelConfig(pb.ModelConfigRequest(name=model.name)).config for model in index.models]
    processes = [triton.triton, *triton.stubs]
    requests = islice(hostile_requests(configs, SEED), REQUESTS)

    with checked_neighbours(triton.grpc_url) as answered, ThreadPoolExecutor(AT_ONCE) as pool:
        outcomes = list(pool.map(lambda request: outcome(stub, request), requests))

    counts = Counter(status for status, _ in outcomes)
    assert sum(counts.values()) == REQUESTS
    assert not [each for each in outcomes if each[0] not in EXPECTED]
    assert counts["INVALID_ARGUMENT"] > counts["OK"] > 0
    assert [triton.triton, *triton.stubs] == processes
    assert all(process.is_running() for process in processes)
    assert min(answered[EXACT], answered[INEXACT]) > 0
    if RESULT:
        keep(Path(RESULT), counts, answered)


def keep(path: Path, counts: Counter[str], answered: Counter[str]) -> None:
    """Write down what came of the requests."""
    told = {
        "command": "make fuzz",
        "date": date.today().isoformat(),
        **revision(),
        "machine": machine(),
        "versions": versions(),
        "seed": SEED,
        "requests": REQUESTS,
        "statuses": dict(counts.most_common()),
        "checked_answers_beside": dict(answered),
        "wrong_answers_beside": 0,
        "ended_processes": 0,
    }
    path.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
