"""Plain KServe v2: what any client of Triton sends, on what transformers' tokenizer gives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

PAD = 0
# gRPC's own pause between attempts to connect grows to two minutes; half a second is what conch's client waits.
CHANNEL = [("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 500)]


def connect(url: str) -> triton_aio.InferenceServerClient:
    """A client of the running event loop."""
    return triton_aio.InferenceServerClient(url, channel_args=[*CHANNEL, ("grpc.use_local_subchannel_pool", 1)])


async def infer(
    client: triton_aio.InferenceServerClient,
    model: str,
    rows: Sequence[Sequence[int]],
    outputs: Sequence[str],
    *,
    segments: Sequence[Sequence[int]] | None = None,
    pads_left: bool = False,
    timeout_s: float | None = None,
) -> list[NDArray[Any]]:
    """Return the named outputs for rows of token ids, padded to the longest on either side."""
    length = max(map(len, rows))
    tensors = {
        "input_ids": _padded(rows, length, left=pads_left),
        "attention_mask": _padded([[1] * len(row) for row in rows], length, left=pads_left),
    }
    if segments is not None:
        tensors["token_type_ids"] = _padded(segments, length, left=pads_left)
    inputs = []
    for name, values in tensors.items():
        inputs.append(triton.InferInput(name, values.shape, "INT64"))
        inputs[-1].set_data_from_numpy(values)
    answer = await client.infer(model, inputs, client_timeout=timeout_s)
    return [answer.as_numpy(name) for name in outputs]


def _padded(rows: Sequence[Sequence[int]], length: int, *, left: bool) -> NDArray[np.int64]:
    pads = ([PAD] * (length - len(row)) for row in rows)
    return np.array([[*pad, *row] if left else [*row, *pad] for row, pad in zip(rows, pads, strict=True)], np.int64)
