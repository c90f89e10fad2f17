"""How things go wrong: each as a context manager, inside which it lasts, and after which it is mended."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil

from tests.soak import clock, isolation
from tests.soak.models import DENSE

if TYPE_CHECKING:
    from pathlib import Path

    import httpx

    from tests.serving import Serving
    from tests.soak.proxy import Proxy
    from tests.soak.supervision import Supervised

CONNECTED_S = 3.0
"""Seconds that hostile connections last."""


@dataclass(frozen=True)
class Scene:
    """What faults happen to.

    Attributes:
        supervised: `conch serve` with its Triton.
        proxy: between that Triton and a second gateway.
        operator: HTTP client of the first gateway with an administrator's key.
        repository: the model repository that is served.
        models_file, keys_file: of both gateways.
        clock_file: what the second gateway's clock is set by, where it can be.
        stranger: an API key that the load does not use.
    """

    supervised: Supervised
    proxy: Proxy
    operator: httpx.AsyncClient
    repository: Path
    models_file: Path
    keys_file: Path
    clock_file: Path | None
    stranger: str

    @property
    def serving(self) -> Serving:
        """The processes."""
        return self.supervised.serving


Happening = Callable[[Scene], AbstractAsyncContextManager[None]]


@contextlib.asynccontextmanager
async def triton_killed(scene: Scene) -> AsyncIterator[None]:
    scene.serving.triton.kill()
    yield


@contextlib.asynccontextmanager
async def instance_killed(scene: Scene) -> AsyncIterator[None]:
    encoder_stub(scene.serving).kill()
    yield


@contextlib.asynccontextmanager
async def warden_killed(scene: Scene) -> AsyncIterator[None]:
    scene.serving.warden.kill()
    yield


@contextlib.asynccontextmanager
async def gateway_killed(scene: Scene) -> AsyncIterator[None]:
    os.kill(scene.serving.pid, signal.SIGKILL)
    yield


def stopped(which: Callable[[Serving], psutil.Process]) -> Happening:
    @contextlib.asynccontextmanager
    async def happening(scene: Scene) -> AsyncIterator[None]:
        process = which(scene.serving)
        process.suspend()
        try:
            yield
        finally:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()

    return happening


@contextlib.asynccontextmanager
async def memory_limited(scene: Scene) -> AsyncIterator[None]:
    stub = encoder_stub(scene.serving)
    before = stub.rlimit(psutil.RLIMIT_AS)
    stub.rlimit(psutil.RLIMIT_AS, (stub.memory_info().vms, before[1]))
    try:
        await _ask_for_much(scene)
        yield
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            stub.rlimit(psutil.RLIMIT_AS, before)


def filled(folder: Callable[[Scene], Path]) -> Happening:
    @contextlib.asynccontextmanager
    async def happening(scene: Scene) -> AsyncIterator[None]:
        filler = isolation.fill(folder(scene))
        try:
            yield
        finally:
            filler.unlink()

    return happening


disk_full = filled(lambda scene: scene.serving.run_directory)


@contextlib.asynccontextmanager
async def shared_memory_full(scene: Scene) -> AsyncIterator[None]:
    async with filled(lambda _: isolation.SHARED_MEMORY)(scene):
        await _ask_for_much(scene)
        yield


@contextlib.asynccontextmanager
async def killed_on_a_full_disk(scene: Scene) -> AsyncIterator[None]:
    async with disk_full(scene), triton_killed(scene):
        yield


@contextlib.asynccontextmanager
async def model_file_deleted(scene: Scene) -> AsyncIterator[None]:
    file, kept = _encoder_file(scene)
    file.unlink()
    try:
        yield
    finally:
        kept.replace(file)


@contextlib.asynccontextmanager
async def killed_with_a_damaged_model(scene: Scene) -> AsyncIterator[None]:
    file, kept = _encoder_file(scene)
    file.write_bytes(kept.read_bytes()[: file.stat().st_size // 2])
    try:
        async with triton_killed(scene):
            yield
    finally:
        kept.replace(file)


@contextlib.asynccontextmanager
async def models_file_broken(scene: Scene) -> AsyncIterator[None]:
    async with _replaced(scene.models_file, "[soak-alias\nmodel = "):
        response = await scene.operator.post("/admin/reload")
        if response.status_code != 400:
            raise AssertionError(f"a broken models file was answered with {response.status_code}: {response.text}")
        yield


@contextlib.asynccontextmanager
async def keys_file_broken(scene: Scene) -> AsyncIterator[None]:
    async with _replaced(scene.keys_file, '{"keys": ['):
        yield


def connected(open_all: Callable[[int, str, float], Awaitable[None]]) -> Happening:
    @contextlib.asynccontextmanager
    async def happening(scene: Scene) -> AsyncIterator[None]:
        await open_all(scene.serving.port, scene.stranger, CONNECTED_S)
        yield

    return happening


@contextlib.asynccontextmanager
async def clock_set(scene: Scene) -> AsyncIterator[None]:
    assert scene.clock_file is not None
    clock.set_to(scene.clock_file, "+86400")
    try:
        yield
    finally:
        clock.set_to(scene.clock_file, clock.AS_IT_IS)


@contextlib.asynccontextmanager
async def connections_reset(scene: Scene) -> AsyncIterator[None]:
    scene.proxy.reset()
    yield
    scene.proxy.reset()


@contextlib.asynccontextmanager
async def network_held_up(scene: Scene) -> AsyncIterator[None]:
    scene.proxy.hold()
    try:
        yield
    finally:
        scene.proxy.release()


async def _ask_for_much(scene: Scene) -> None:
    """Ask for the token vectors of many long texts, which takes more memory than anything before."""
    body = {"model": DENSE, "inputs": ["much more than before " * 60] * 32}
    response = await scene.operator.post("/embed_all", json=body)
    if response.status_code not in {200, 429, 503, 504}:
        raise AssertionError(f"a large request was answered with {response.status_code}: {response.text[:300]}")


def encoder_stub(serving: Serving) -> psutil.Process:
    of_encoders = (stub for stub in serving.stubs if any(f"{DENSE}.encoder" in word for word in stub.cmdline()))
    found = next(of_encoders, None)
    if found is None:
        raise LookupError("no encoder runs at the moment")
    return found


def _encoder_file(scene: Scene) -> tuple[Path, Path]:
    """The file and a copy of it."""
    file = scene.repository / f"{DENSE}.encoder" / "1" / "model.onnx"
    kept = scene.repository.parent / "kept.onnx"
    shutil.copy(file, kept)
    return file, kept


@contextlib.asynccontextmanager
async def _replaced(file: Path, content: str) -> AsyncIterator[None]:
    before = _publish(file, content)
    try:
        yield
    finally:
        _publish(file, before)


def _publish(file: Path, content: str) -> str:
    """Replace a file in one step; return what was in it."""
    before = file.read_text(encoding="utf-8")
    draft = file.with_name(f".{file.name}")
    draft.write_text(content, encoding="utf-8")
    draft.replace(file)
    return before
