"""Inference requests that no good client sends: of every wrong type, shape, mask, length, name and content.

Each begins as a good request for one of the server's models, public or inner, and is then spoilt in one to three ways.
The same seed gives the same requests.
"""

from __future__ import annotations

import random
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
from tritonclient.grpc import service_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tritonclient.grpc.model_config_pb2 import ModelConfig

    Mutation = Callable[[random.Random, pb.ModelInferRequest], None]

DATATYPES = ("BOOL", "UINT8", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32", "FP64", "BYTES", "BF16", "", "int64")
EXTREMES = (-(2**63), -(2**31), -1, 0, 1, 2, 30521, 30522, 2**31 - 1, 2**31, 2**62, 2**63 - 1)
LENGTHS = (0, 0, 1, 2, 3, 7, 64, 129, 256, 257, 400)
NAMES = ("", "ids", "input_ids ", "INPUT_IDS", "row_lengths", "attention_mask_lengths", "x" * 4096, "\u0000", "名")


def hostile_requests(configs: Sequence[ModelConfig], seed: int) -> Iterator[pb.ModelInferRequest]:
    """Requests without end for models of these configurations."""
    chance = random.Random(seed)  # noqa: S311
    while True:
        request = good_request(chance, chance.choice(configs))
        for mutate in chance.sample(MUTATIONS, chance.randint(1, 3)):
            mutate(chance, request)
        yield request


def good_request(chance: random.Random, config: ModelConfig) -> pb.ModelInferRequest:
    """What the model takes, in any number of rows of any one length."""
    request = pb.ModelInferRequest(model_name=config.name)
    rows, length = chance.randint(1, max(1, config.max_batch_size)), chance.choice((1, 2, 3, 9, 40))
    for tensor in config.input:
        dims = [length if dim == -1 else dim for dim in tensor.dims]
        shape = [rows, *dims] if config.max_batch_size else dims
        datatype = "FP32" if tensor.name == "token_embeddings" else "INT64"
        request.inputs.add(name=tensor.name, datatype=datatype, shape=shape)
        request.raw_input_contents.append(numbers(chance, tensor.name, datatype, prod(shape)))
    return request


def numbers(chance: random.Random, name: str, datatype: str, count: int) -> bytes:
    """Contents that are plausible for the input."""
    made = np.random.default_rng(chance.getrandbits(32))
    if datatype == "FP32":
        return made.standard_normal(count, np.float32).tobytes()
    highest = {"input_ids": 30_000, "range": 100}.get(name, 2)
    return made.integers(1 if name == "attention_mask" else 0, highest, count).astype("<i8").tobytes()


def _tensors(request: pb.ModelInferRequest) -> range:
    """Numbers of the inputs that still have contents of their own."""
    return range(min(len(request.inputs), len(request.raw_input_contents)))


def _tensor(chance: random.Random, request: pb.ModelInferRequest) -> int:
    """One of them; -1 where there is none."""
    return chance.choice(_tensors(request) or [-1])


def other_type(chance: random.Random, request: pb.ModelInferRequest) -> None:
    for tensor in request.inputs:
        if chance.random() < 0.6:
            tensor.datatype = chance.choice(DATATYPES)


def other_length(chance: random.Random, request: pb.ModelInferRequest) -> None:
    """One input, or all of them, has another length than the others, and the contents that go with it."""
    length, which = chance.choice(LENGTHS), _tensor(chance, request)
    for index in _tensors(request):
        if chance.random() < 0.5 or index == which:
            tensor = request.inputs[index]
            if len(tensor.shape) > 1:
                tensor.shape[1] = length
            refill(chance, request, index)


def refill(chance: random.Random, request: pb.ModelInferRequest, index: int) -> None:
    """Give an input the contents that its shape asks for, where that is a shape."""
    tensor = request.inputs[index]
    count = prod(tensor.shape)
    if 0 <= count <= 400_000:
        datatype = "FP32" if tensor.name == "token_embeddings" else "INT64"
        request.raw_input_contents[index] = numbers(chance, tensor.name, datatype, count)


def other_rows(chance: random.Random, request: pb.ModelInferRequest) -> None:
    rows, which = chance.choice((0, 1, 2, 8, 9, 64)), _tensor(chance, request)
    for index in _tensors(request):
        if chance.random() < 0.5 or index == which:
            if request.inputs[index].shape:
                request.inputs[index].shape[0] = rows
            refill(chance, request, index)


def other_shape(chance: random.Random, request: pb.ModelInferRequest) -> None:
    for tensor in request.inputs:
        if chance.random() < 0.6:
            wild = [chance.choice((*EXTREMES, 4, 8)) for _ in range(chance.randint(0, 4))]
            del tensor.shape[:]
            tensor.shape.extend(wild)


def other_contents(chance: random.Random, request: pb.ModelInferRequest) -> None:
    """Ids, masks and segments from one end of the integers to the other; vectors that are no numbers."""
    for index, tensor in enumerate(request.inputs[: len(request.raw_input_contents)]):
        raw = request.raw_input_contents[index]
        if tensor.name == "token_embeddings":
            values: Any = np.frombuffer(raw[: len(raw) // 4 * 4], "<f4").copy()
            values[chance.getrandbits(2) :: 5] = chance.choice((np.nan, np.inf, -np.inf, 3e38))
        else:
            values = np.frombuffer(raw[: len(raw) // 8 * 8], "<i8").copy()
            values[chance.getrandbits(2) :: 3] = chance.choice(EXTREMES)
        request.raw_input_contents[index] = values.tobytes()


def no_mask(chance: random.Random, request: pb.ModelInferRequest) -> None:
    for index, tensor in enumerate(request.inputs[: len(request.raw_input_contents)]):
        if tensor.name == "attention_mask":
            request.raw_input_contents[index] = bytes(len(request.raw_input_contents[index]))
    del chance


def bytes_cut_or_added(chance: random.Random, request: pb.ModelInferRequest) -> None:
    index = _tensor(chance, request)
    if index >= 0:
        raw = request.raw_input_contents[index]
        cut = raw[: chance.randrange(len(raw) + 1)]
        request.raw_input_contents[index] = chance.choice((cut, b"", raw + b"\x01" * chance.choice((1, 8, 4096))))


def contents_missing_or_more(chance: random.Random, request: pb.ModelInferRequest) -> None:
    if request.raw_input_contents and chance.random() < 0.5:
        request.raw_input_contents.pop()
    else:
        request.raw_input_contents.append(b"12345678")


def contents_in_both_places(chance: random.Random, request: pb.ModelInferRequest) -> None:
    for tensor in request.inputs:
        tensor.contents.int64_contents.extend([1] * chance.choice((0, 1, 7)))
        tensor.contents.fp32_contents.extend([1.0] * chance.choice((0, 1)))
        tensor.contents.bytes_contents.extend([b"x"] * chance.choice((0, 1)))
    if chance.random() < 0.5:
        del request.raw_input_contents[:]


def input_missing_twice_or_unknown(chance: random.Random, request: pb.ModelInferRequest) -> None:
    if not request.inputs:
        return
    index, kind = chance.randrange(len(request.inputs)), chance.randrange(3)
    if kind == 0:
        del request.inputs[index]
        del request.raw_input_contents[index : index + 1]
    elif kind == 1:
        request.inputs.append(request.inputs[index])
        request.raw_input_contents.append(bytes(8))
    else:
        request.inputs[index].name = chance.choice(NAMES)


def other_outputs(chance: random.Random, request: pb.ModelInferRequest) -> None:
    names = ("embedding", "score", "token_embeddings", "vectors", "indices", "content", *NAMES)
    for name in chance.choices(names, k=chance.randint(1, 4)):
        output = request.outputs.add(name=name)
        if chance.random() < 0.3:
            output.parameters["classification"].int64_param = chance.choice(EXTREMES)


def other_model(chance: random.Random, request: pb.ModelInferRequest) -> None:
    if chance.random() < 0.5:
        request.model_version = chance.choice(("1", "2", "-1", "one", "9" * 40))
    else:
        request.model_name = chance.choice(("", "..", "../../etc/passwd", request.model_name + "/1", "x" * 9000))


def parameters(chance: random.Random, request: pb.ModelInferRequest) -> None:
    request.id = chance.choice(("", "i" * 100_000, "\u0000", "id"))
    for name in chance.sample(("sequence_id", "sequence_start", "priority", "timeout", "binary_data", "x"), 3):
        field = request.parameters[name]
        kind = chance.randrange(3)
        if kind == 0:
            field.int64_param = chance.choice(EXTREMES)
        elif kind == 1:
            field.string_param = chance.choice(("", "x" * 1000))
        else:
            field.bool_param = True


def shared_memory(chance: random.Random, request: pb.ModelInferRequest) -> None:
    for tensor in request.inputs:
        tensor.parameters["shared_memory_region"].string_param = chance.choice(("", "r", "/etc/passwd"))
        tensor.parameters["shared_memory_byte_size"].int64_param = chance.choice(EXTREMES)
        tensor.parameters["shared_memory_offset"].int64_param = chance.choice(EXTREMES)


MUTATIONS: tuple[Mutation, ...] = (
    other_type,
    other_length,
    other_length,
    other_rows,
    other_shape,
    other_contents,
    other_contents,
    no_mask,
    bytes_cut_or_added,
    contents_missing_or_more,
    contents_in_both_places,
    input_missing_twice_or_unknown,
    other_outputs,
    other_model,
    parameters,
    shared_memory,
)
