"""A server for tests of programs that use the client: real gRPC on loopback, no Triton, no weights, ready at once.

    from conch_client import Client
    from conch_client.testing import FakeServer

    with FakeServer() as server, Client(server.url) as client:
        assert client.embed(["a text"]).shape == (1, server.models["fake"].dimension)

Texts that share letters get similar vectors and high scores, always the same ones.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
from conch_contract import FORMAT, FORMAT_PARAMETER, Task, encoder_name, tokenizer_name
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from tritonclient.grpc import model_config_pb2, service_pb2, service_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from numpy.typing import NDArray
    from typing_extensions import Self

_SPECIAL_TOKENS = ("[PAD]", "[CLS]", "[SEP]")


@lru_cache
def fake_tokenizer_json(special_tokens: tuple[str, ...] = _SPECIAL_TOKENS) -> bytes:
    """A ``tokenizer.json`` with one token for each byte, and BERT's template around texts and pairs."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate([*special_tokens, *letters])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.add_special_tokens(list(special_tokens))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", vocabulary["[SEP]"]), ("[CLS]", vocabulary["[CLS]"]))
    tokenizer.decoder = decoders.ByteLevel()
    return str(tokenizer.to_str()).encode()


_ENCODER = encoder_name("")


@dataclass
class FakeModel:
    """A model of a ``FakeServer``.

    Attributes:
        task: ``embedding``, ``multi-vector``, ``late-chunking``, ``sparse``, ``classification``,
            ``late-interaction`` or ``cross-encoder``.
        max_rows: Most rows in a request.
        dimension: Length of a vector.
        parameters: Parameters of its configuration beyond (or instead of) the usual ones.
        inputs: Names of its tensors.
        ready: Whether it is loaded.
        refused_token: A token id that counts as outside its vocabulary.
        tokenizer_json: Its tokenizer's file.
        bias: Added to the logits of a cross-encoder.
        instances: Instances of its encoder, in the configuration.
    """

    task: str = Task.EMBEDDING
    max_rows: int = 4
    dimension: int = 8
    parameters: dict[str, str] = field(default_factory=dict)
    inputs: tuple[str, ...] = ("input_ids", "attention_mask")
    ready: bool = True
    refused_token: int | None = None
    tokenizer_json: bytes = field(default_factory=fake_tokenizer_json)
    bias: float = 0.0
    instances: int = 2

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of its outputs."""
        named: dict[str, tuple[str, ...]] = {
            Task.EMBEDDING: ("embedding",),
            Task.MULTI_VECTOR: ("token_embeddings",),
            Task.SPARSE: ("indices", "weights"),
            Task.CLASSIFICATION: ("logits",),
            Task.LATE_CHUNKING: ("embeddings",),
        }
        return named.get(self.task, ("score",))

    def config(self, name: str) -> model_config_pb2.ModelConfig:
        """The configuration of the Triton model of that name."""
        config = model_config_pb2.ModelConfig(name=name, max_batch_size=self.max_rows)
        config.input.extend(model_config_pb2.ModelInput(name=tensor) for tensor in self.inputs)
        config.output.extend(model_config_pb2.ModelOutput(name=tensor) for tensor in self.outputs)
        config.ensemble_scheduling.step.add(model_name=encoder_name(name))
        for key, value in {**self._usual_parameters(name), **self.parameters}.items():
            config.parameters[key].string_value = value
        return config

    def encoder_config(self, name: str) -> model_config_pb2.ModelConfig:
        """The Triton configuration of its encoder, which the fake has in name only."""
        config = model_config_pb2.ModelConfig(name=name, max_batch_size=self.max_rows)
        config.instance_group.add(count=self.instances)
        return config

    def compute(self, tensors: dict[str, NDArray[np.int64]]) -> dict[str, NDArray[Any]]:
        """The outputs of the model by name, row by row as real models have them; NaN in rows with an unknown token."""
        ids, mask = tensors["input_ids"], tensors["attention_mask"]
        counts = np.stack([self._counts(row[real > 0]) for row, real in zip(ids, mask, strict=True)])
        if self.task == Task.LATE_CHUNKING:
            output = {"embeddings": self._chunks(ids, tensors["chunk_ends"])}
        else:
            output = self._outputs(ids, mask, counts)
        spoilt = (((ids >= counts.shape[1]) | (ids == self.refused_token)) & (mask > 0)).any(axis=1)
        output[self.outputs[-1]][spoilt] = np.nan
        return output

    def _outputs(
        self, ids: NDArray[np.int64], mask: NDArray[np.int64], counts: NDArray[np.float32]
    ) -> dict[str, NDArray[Any]]:
        if self.task == Task.SPARSE:
            found = np.flatnonzero(counts.any(axis=0)).astype(np.int32)
            return {"indices": np.tile(found, (len(ids), 1)), "weights": counts[:, found]}
        if self.task == Task.MULTI_VECTOR:
            return {"token_embeddings": self._token_vectors(ids) * mask[..., None].astype(np.float32)}
        rows: dict[str, Callable[[NDArray[np.float32]], NDArray[np.float32]]] = {
            Task.EMBEDDING: self._vectors,
            Task.LATE_INTERACTION: self._overlaps,
            Task.CROSS_ENCODER: self._logits,
            Task.CLASSIFICATION: lambda counts: np.concatenate([self._logits(counts), counts[:, 3:6]], axis=1),
        }
        return {self.outputs[0]: rows[self.task](counts)}

    def _counts(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        size = _vocabulary_size(self.tokenizer_json)
        return np.bincount(ids % size, minlength=size).astype(np.float32)

    def _token_vectors(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        size = _vocabulary_size(self.tokenizer_json)
        return self._scaled(_table(size, self.dimension)[ids % size])

    def _chunks(self, ids: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.float32]:
        rows = [np.split(row, own[:-1]) for row, own in zip(ids, ends, strict=True)]
        return np.stack([self._vectors(np.stack([self._counts(chunk) for chunk in row])) for row in rows])

    def _vectors(self, counts: NDArray[np.float32]) -> NDArray[np.float32]:
        return self._scaled(counts @ _table(counts.shape[1], self.dimension))

    def _scaled(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        if self.parameters.get("normalize", "true") == "true":
            vectors /= np.linalg.norm(vectors, axis=-1, keepdims=True)
        return vectors

    @staticmethod
    def _overlaps(counts: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray(np.minimum(counts, counts[:1]).sum(axis=1, keepdims=True) / counts[:1].sum())

    def _logits(self, counts: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray((counts[:, 3:] > 1).sum(axis=1, keepdims=True).astype(np.float32) - 1.0 + self.bias)

    def _usual_parameters(self, name: str) -> dict[str, str]:
        return {
            FORMAT_PARAMETER: FORMAT,
            "task": self.task,
            "max_length": "64",
            "tokenizer": tokenizer_name(name),
            "tokenizer_sha256": hashlib.sha256(self.tokenizer_json).hexdigest(),
            "tokenizer_bytes": str(len(self.tokenizer_json)),
            "pooling": "mean",
            "normalize": "true",
            "dimension": str(self.dimension),
            "prompts": json.dumps({}),
            "labels": json.dumps(["repeats", "!", '"', "#"]),
            "activation": "softmax",
        }


class FakeServer(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
    """Serves fake models until the ``with`` block ends.

    Attributes:
        models: The models by name; may be changed at any time.
        failures: Status and message of the next inferences, which fail with them instead.
        received: Every inference request, those for tokenizers included.
        gate: Inferences wait while it is cleared.
        pulse: Everything waits while it is cleared, as at a process that was stopped.
        ready: What it says of itself.
        url: What to pass to a client.
    """

    def __init__(self, models: dict[str, FakeModel] | None = None, url: str = "127.0.0.1:0") -> None:
        self.models = {"fake": FakeModel()} if models is None else models
        self.failures: deque[tuple[grpc.StatusCode, str]] = deque()
        self.received: list[service_pb2.ModelInferRequest] = []
        self.gate = threading.Event()
        self.gate.set()
        self.pulse = threading.Event()
        self.pulse.set()
        self.ready = True
        self.url = url
        self.start()

    def start(self) -> None:
        """Starts, or starts again at the same address."""
        self._server = grpc.server(ThreadPoolExecutor(16, "fake-server"), options=[("grpc.so_reuseport", 0)])
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(self, self._server)
        self.url = f"{self.url.rpartition(':')[0]}:{self._server.add_insecure_port(self.url)}"
        self._server.start()

    def stop(self) -> None:
        """Stops at once, as a killed server does."""
        self._server.stop(grace=0).wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.gate.set()
        self.pulse.set()
        self.stop()

    def ServerReady(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: ARG002, N802, D102
        self.pulse.wait()
        return service_pb2.ServerReadyResponse(ready=self.ready)

    def RepositoryIndex(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: ARG002, N802, D102
        self.pulse.wait()
        return service_pb2.RepositoryIndexResponse(
            models=[
                service_pb2.RepositoryIndexResponse.ModelIndex(
                    name=name, state="READY" if fake.ready else "UNAVAILABLE"
                )
                for model, fake in self.models.items()
                for name in (model, tokenizer_name(model), encoder_name(model))
            ]
        )

    def ModelConfig(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802, D102
        model = self._model(request.name.removesuffix(_ENCODER), context)
        describe = model.encoder_config if request.name.endswith(_ENCODER) else model.config
        return service_pb2.ModelConfigResponse(config=describe(request.name))

    def ModelInfer(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802, D102
        self.received.append(request)
        self.gate.wait()
        self.pulse.wait()
        if self.failures:
            context.abort(*self.failures.popleft())
        model = self._model(request.model_name.removesuffix(tokenizer_name("")), context)
        tensors = {
            tensor.name: np.frombuffer(content, "<i8").reshape(tuple(tensor.shape))
            for tensor, content in zip(request.inputs, request.raw_input_contents, strict=True)
        }
        if "range" in tensors:
            begin, end = tensors["range"].tolist()
            return _response(content=np.frombuffer(model.tokenizer_json[begin:end], np.uint8))
        if len(tensors["input_ids"]) > model.max_rows:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"inference request batch-size must be <= {model.max_rows}")
        return _response(**model.compute(tensors))

    def _model(self, name: str, context: grpc.ServicerContext) -> FakeModel:
        if name not in self.models:
            context.abort(grpc.StatusCode.NOT_FOUND, f"Request for unknown model: '{name}' is not found")
        return self.models[name]


@lru_cache
def _vocabulary_size(tokenizer_json: bytes) -> int:
    return int(Tokenizer.from_str(tokenizer_json.decode()).get_vocab_size())


@lru_cache
def _table(size: int, dimension: int) -> NDArray[np.float32]:
    return np.random.default_rng(0).normal(size=(size, dimension)).astype(np.float32)


def _response(**tensors: NDArray[Any]) -> service_pb2.ModelInferResponse:
    datatypes = {"f": "FP32", "i": "INT32", "u": "UINT8"}
    response = service_pb2.ModelInferResponse(raw_output_contents=[array.tobytes() for array in tensors.values()])
    for name, array in tensors.items():
        response.outputs.add(name=name, datatype=datatypes[array.dtype.kind], shape=array.shape)
    return response
