"""Three Tritons behind one gateway under load, while each in turn dies, hangs, or comes back as another version."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from tests.replicas import Load, Replicas, export_versions, vectors_of

if TYPE_CHECKING:
    from pathlib import Path

    from tests.checkpoints import Checkpoints

CLIENTS, PAUSE_S = 16, 0.1  # without a pause they would take the processors from what is starting
A_BUSY_MACHINE_S = 3


async def test_whatever_befalls_one_no_answer_is_wrong_and_no_request_fails(
    checkpoints: Checkpoints, tmp_path: Path
) -> None:
    replicas = Replicas(export_versions(checkpoints, tmp_path), tmp_path)
    await asyncio.to_thread(replicas.__enter__)
    try:
        url = replicas.tritons[0].grpc_url
        known = {"old": await asyncio.to_thread(vectors_of, url)}
        load = Load(replicas.gateway.url, CLIENTS, PAUSE_S)
        running = asyncio.create_task(load.run())
        try:
            out_after_s = [seconds async for _, seconds in replicas.befall() if seconds is not None]
        finally:
            load.end()
            await running
        known["new"] = await asyncio.to_thread(vectors_of, url)
    finally:
        await asyncio.to_thread(replicas.__exit__)
    assert load.by_version(known).keys() == {"old", "new"}
    assert load.failed == []
    assert out_after_s[0] < 2 + A_BUSY_MACHINE_S
