"""Measures one Triton: calls of several shapes, by few clients and under load, with Triton's own statistics of them."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from conch_contract import encoder_name
from tritonclient.grpc import model_config_pb2
from tritonclient.grpc.aio import InferenceServerClient

from conch.capacity.profile import CallLoad, latency_ms
from conch.load.closed_loop import Done, closed_loop

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conch_client import AsyncClient, ModelInfo

LENGTHS = (15, 63, 127, 255, 511, 2047)
"""Tokens of equal texts: as with most texts, no multiples of a vector's width, which are a few per cent faster. Lengths
beyond the model's limit or just below it are left out."""

MIXED = (8, 15, 23, 34, 47, 66, 99, 190)
"""Tokens of texts that share a call: log-normal, with a median of 40."""

CALL_TOKENS = 512  # of a call, as in the gateway (`conch_gateway.scheduling.sizes`)
CALLS_EACH = 4  # calls under way per instance, so that no instance is ever idle
WARM_UP_S = 0.25
COUNTED_WITHIN_S = 5.0
FIRST_ID = 1000  # a word in most vocabularies


class Counted(NamedTuple):
    """Counters of a Triton since it started: runs of the encoder, and calls to the model."""

    runs: int
    rows: int
    run_ns: int
    calls: int

    def since(self, earlier: Counted) -> Counted:
        """Return the difference to earlier counters."""
        return Counted(*(now - then for now, then in zip(self, earlier, strict=True)))


class EngineProbe:
    """Measures one model of one Triton.

    Args:
        url: HOST:PORT of the Triton.
        client: client of this Triton.
        info: description of the model.
    """

    def __init__(self, url: str, client: AsyncClient, info: ModelInfo) -> None:
        self._client = client
        self._triton = InferenceServerClient(url)
        self._info = info

    async def close(self) -> None:
        """Close the connection."""
        await self._triton.close()

    async def version(self) -> str:
        """Return Triton's version."""
        return str((await self._triton.get_server_metadata()).version)

    async def hardware(self) -> dict[str, int]:
        """Return the number of cores or GPUs that the instances of the encoder run on."""
        config = (await self._triton.get_model_config(self._encoder)).config
        groups = config.instance_group
        if any(group.kind == model_config_pb2.ModelInstanceGroup.KIND_GPU for group in groups):
            return {"gpus": len({gpu for group in groups for gpu in group.gpus}) or 1}
        threads = int(config.parameters["intra_op_thread_count"].string_value or 1)
        return {"cores": sum(group.count for group in groups) * threads}

    def lengths(self) -> list[int]:
        """Return tokens of equal texts to measure."""
        longest = self._info.max_length
        return sorted({*(length for length in LENGTHS if length < 0.9 * longest), min(longest, LENGTHS[-2])})

    def shapes(self) -> Iterator[tuple[int, ...]]:
        """Yield the calls to measure: tokens of each of their texts."""
        for tokens in self.lengths():
            many = min(self._info.max_rows, max(1, CALL_TOKENS // tokens))
            yield from dict.fromkeys([(tokens,), (tokens,) * many])
        mixed = tuple(tokens for tokens in MIXED[: self._info.max_rows] if tokens <= self._info.max_length)
        if len(mixed) > 1:
            yield mixed

    async def measure(self, lengths: tuple[int, ...], clients: int, seconds: float) -> CallLoad:
        """Measure calls with texts of these lengths."""
        texts = [[FIRST_ID] * tokens for tokens in lengths]

        async def send(_: int) -> Done:
            await self._client.embed(texts, model=self._info.name)
            return Done(len(lengths), sum(lengths))

        await closed_loop(send, clients=clients, seconds=WARM_UP_S)
        before, client_s = await self.counted(), time.process_time()
        load = await closed_loop(send, clients=clients, seconds=seconds)
        client_s, calls = time.process_time() - client_s, len(load.latencies_s)
        counted, summary = await self._counted_since(before, calls), load.summary()
        if load.errors:
            raise RuntimeError(next(iter(load.errors)))
        if not counted.runs:
            raise RuntimeError(f"Triton counts no runs of {self._encoder}; turn off its response cache to measure it")
        return CallLoad(
            lengths=list(lengths),
            clients=clients,
            per_s=calls / load.seconds,
            tokens_per_s=summary["tokens_per_s"],
            latency_ms=latency_ms(load.latencies_s),
            rows_per_run=counted.rows / counted.runs,
            run_ms=counted.run_ns / counted.runs / 1e6,
            client_ms=1e3 * client_s / calls,
        )

    async def _counted_since(self, earlier: Counted, calls: int) -> Counted:
        """Return counters that include at least so many calls; Triton may count a call just after its answer."""
        end = time.monotonic() + COUNTED_WITHIN_S
        while True:
            counted = (await self.counted()).since(earlier)
            if (counted.runs and counted.calls >= calls) or time.monotonic() > end:
                return counted
            await asyncio.sleep(COUNTED_WITHIN_S / 100)

    async def counted(self) -> Counted:
        """Return Triton's counters."""
        answer = await self._triton.get_inference_statistics()
        stats: dict[str, Any] = {each.name: each for each in answer.model_stats}
        encoder, model = stats.get(self._encoder), stats[self._info.name]
        batches = (encoder or model).batch_stats
        return Counted(
            runs=sum(batch.compute_infer.count for batch in batches),
            rows=sum(batch.batch_size * batch.compute_infer.count for batch in batches),
            run_ns=sum(batch.compute_infer.ns for batch in batches),
            calls=model.inference_stats.success.count,
        )

    @property
    def _encoder(self) -> str:
        return encoder_name(self._info.base or self._info.name)
