"""Sends a trace to a gateway: each request when it is due, whether or not earlier ones are answered."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING

from conch.load.http import Address, Connection, HttpError

from benchmarks.simulation import traces

if TYPE_CHECKING:
    from conch.simulation.load import Request


async def send(
    url: str, requests: list[Request], free: list[Connection], *, unit: str
) -> tuple[list[float], list[str], float]:
    """Return latencies from when each request was due, messages of failures, and seconds until the last answer.

    Args:
        url: Of the gateway.
        requests: To be sent.
        free: Connections that are open; those that are opened are added, to be closed by the caller.
        unit: Of texts, as in `traces.texts`.
    """
    address = Address.of(f"{url}/v1/embeddings")
    texts = traces.texts([request.lengths[0] for request in requests], unit=unit)
    bodies = (json.dumps({"input": [text], "encoding_format": "base64"}).encode() for text in texts)
    prepared = [address.request("POST", body) for body in bodies]
    latencies: list[float] = []
    failures: list[str] = []
    begin = time.perf_counter() + 0.1

    async def one(number: int) -> None:
        connection = free.pop() if free else Connection(address)
        try:
            await connection.send(prepared[number])
        except (HttpError, OSError) as error:
            failures.append(str(error)[:100])
        else:
            latencies.append(time.perf_counter() - begin - requests[number].at_s)
        finally:
            free.append(connection)

    tasks = []
    for number, request in enumerate(requests):
        await asyncio.sleep(max(0.0, begin + request.at_s - time.perf_counter()))
        tasks.append(asyncio.create_task(one(number)))
    await asyncio.gather(*tasks)
    return latencies, failures, time.perf_counter() - begin
