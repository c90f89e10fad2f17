"""Three Tritons behind a gateway, and requests whose answers are known, while one thing after another befalls them."""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING

import httpx
import numpy as np
from conch_client import Client
from conch_export import Options, Precision, plan

from tests.exports import export_once
from tests.serving import Serving
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray
    from typing_extensions import Self

    from tests.checkpoints import Checkpoints

    Vectors = Mapping[str, NDArray[np.float32]]

TEXTS = [
    "a cat sat on the mat",
    "größer, 日本語 and 🐚!",
    "x",
    "to be or not to be? " * 8,
    *(f"text {n}" for n in range(8)),
]


def export_versions(checkpoints: Checkpoints, folder: Path) -> dict[str, Path]:
    """Make repositories, `old` and `new`, whose model `m` has other weights and another tokenizer."""
    made = {"old": checkpoints.bert(), "new": checkpoints.xlm_roberta()}
    for version, checkpoint in made.items():
        export_once(
            Options(
                str(checkpoint),
                folder / version,
                name="m",
                precision=Precision.FP32,
                plan=plan(cores=1),
                late_interaction=False,
            )
        )
    return {version: folder / version for version in made}


def vectors_of(url: str) -> Vectors:
    """Ask one Triton for the vector of every text."""
    with Client(url) as client:
        return dict(zip(TEXTS, client.embed(TEXTS), strict=True))


class Replicas:
    """Three `conch serve --no-gateway`, each of which serves the version that its link leads to, and a gateway."""

    def __init__(self, versions: Mapping[str, Path], folder: Path) -> None:
        self._versions = versions
        self._links = [folder / f"repository-{number}" for number in range(3)]
        for link in self._links:
            link.symlink_to(versions["old"])
        self.tritons = [Serving(link, folder / f"triton-{n}", "--no-gateway") for n, link in enumerate(self._links)]
        addresses = ",".join(serving.grpc_url for serving in self.tritons)
        self.gateway = Serving(None, folder / "gateway", CONCH_TRITON_URL=addresses)
        self._started = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack, ThreadPoolExecutor() as pool:
            list(pool.map(Serving.start, self.tritons))
            for serving in self.tritons:
                stack.push(serving.__exit__)
            stack.enter_context(self.gateway)
            self._started = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._started.close()

    def roll_out(self, number: int) -> None:
        """Stop one in order and start it with the new version."""
        assert self.tritons[number].stop() == 0
        self._links[number].unlink()
        self._links[number].symlink_to(self._versions["new"])
        self.tritons[number].start()

    async def until(self, number: int, state: str) -> float:
        """Wait until one is in a state, as the gateway's metrics say; return how many seconds that took."""
        began = time.monotonic()
        async with httpx.AsyncClient(base_url=self.gateway.url) as http:

            async def holds() -> bool:
                page = (await http.get("/metrics")).text
                url = self.tritons[number].grpc_url
                return re.findall(rf'replica_state{{.*replica="{url}",state="([\w-]+)"}} 1\.0', page) == [state]

            await eventually(holds)
        return time.monotonic() - began

    async def befall(self) -> AsyncIterator[tuple[str, float | None]]:
        """Let each thing happen in turn; yield its name, and after how many seconds the one that hung was out."""
        first, second, third = self.tritons
        first.triton.kill()  # its supervisor starts it again
        await self.until(0, "out")
        await self.until(0, "serving")
        yield "kill -9", None
        stopped = second.triton
        stopped.suspend()
        out_after_s = await self.until(1, "out")
        stopped.resume()
        await self.until(1, "serving")
        yield "SIGSTOP, SIGCONT", out_after_s
        await asyncio.to_thread(third.stop)
        await self.until(2, "out")
        await asyncio.to_thread(third.start)
        await self.until(2, "serving")
        yield "SIGTERM, start", None
        for number in (2, 0, 1):
            await asyncio.to_thread(self.roll_out, number)
            await self.until(number, "serving")
        yield "roll-out of another version", None


class Load:
    """Requests of two texts each, `pause_s` after a client's last answer, whose answers are compared in the end."""

    def __init__(self, url: str, clients: int, pause_s: float = 0.0) -> None:
        self._http = httpx.AsyncClient(base_url=url, timeout=60, limits=httpx.Limits(max_connections=clients))
        self._clients = clients
        self._pause_s = pause_s
        self._ends = False
        self._answers: list[tuple[list[str], list[NDArray[np.float32]]]] = []
        self.seconds: list[float] = []
        self.failed: list[str] = []

    async def run(self) -> None:
        """Ask until the end."""
        async with self._http:
            await asyncio.gather(*(self._ask_on(place) for place in range(self._clients)))

    def end(self) -> None:
        """Let every client ask no more."""
        self._ends = True

    def by_version(self, known: Mapping[str, Vectors]) -> Counter[str]:
        """Count the answers that are wholly of each version, and the others, as `wrong`."""
        return Counter(
            next((name for name in known if _fits(*answer, known[name])), "wrong") for answer in self._answers
        )

    async def _ask_on(self, place: int) -> None:
        while not self._ends:
            place += 1
            texts = [TEXTS[place % len(TEXTS)], TEXTS[place * 5 % len(TEXTS)]]
            began = time.perf_counter()
            answer = await self._http.post("/v1/embeddings", json={"model": "m", "input": texts})
            self.seconds.append(time.perf_counter() - began)
            if answer.status_code == 200:
                vectors = [np.array(item["embedding"], np.float32) for item in answer.json()["data"]]
                self._answers.append((texts, vectors))
            else:
                self.failed.append(answer.text)
            await asyncio.sleep(self._pause_s)


def _fits(texts: list[str], vectors: list[NDArray[np.float32]], known: Vectors) -> bool:
    return all(
        vector.shape == known[text].shape and np.allclose(vector, known[text], atol=1e-4)
        for text, vector in zip(texts, vectors, strict=True)
    )
