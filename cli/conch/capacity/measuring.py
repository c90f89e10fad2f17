"""Measures a profile: calls of every shape, by few clients and under load, then requests to the gateway."""

from __future__ import annotations

import datetime
import platform
from contextlib import AsyncExitStack
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from conch_client import AsyncClient, ConchError
from conch_contract import usable_cores
from tritonclient.utils import InferenceServerException

from conch.capacity.engine import CALLS_EACH, EngineProbe
from conch.capacity.fit import engine_costs, gateway_costs
from conch.capacity.gateway import CLIENTS, GatewayProbe
from conch.capacity.profile import CallLoad, Profile, RequestLoad, shape_of
from conch.load.http import HttpError
from conch.load.target import EMBEDDING, BenchError, chosen
from conch.simulation.costs import PAUSE_S

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from conch_client import ModelInfo

    Say = Callable[[str, int, int], None]

Load = TypeVar("Load", CallLoad, RequestLoad)

ROUNDS = 3
SECONDS = 0.5  # of each load in each of them
_LOOPBACK = ("127.", "localhost", "[::1]")


async def measured(
    triton_url: str, gateway_url: str | None, model: str | None, say: Say, key: str | None = None
) -> Profile:
    """Measure the profile of a model.

    Args:
        triton_url: HOST:PORT of its Triton.
        gateway_url: Of a gateway in front; None to measure the Triton alone.
        model: Its name; None for the first by name.
        say: Receives what is being measured, the number of finished measurements, and their total.
        key: API key of the gateway, if it takes one.

    Raises:
        BenchError: A server does not answer, lacks the model, or cannot be measured.
    """
    try:
        async with AsyncExitStack() as stack:
            client = await stack.enter_async_context(AsyncClient(triton_url))
            embedding = {info.name: info for info in await client.models() if info.task == EMBEDDING}
            info = embedding[chosen(model, list(embedding))]
            probe = EngineProbe(triton_url, client, info)
            stack.push_async_callback(probe.close)
            front = GatewayProbe(gateway_url, info.name, probe, key) if gateway_url else None
            return await _profile(probe, info, triton_url, front, say)
    except (ConchError, InferenceServerException, RuntimeError) as error:
        raise BenchError(f"{triton_url}: {error}") from error
    except (HttpError, OSError) as error:
        raise BenchError(f"{gateway_url}: {error}") from error


async def _profile(
    probe: EngineProbe, info: ModelInfo, triton_url: str, front: GatewayProbe | None, say: Say
) -> Profile:
    hardware, instances = await probe.hardware(), info.instances or 1
    # A large model gives a run that is alone every core (ADR 35). Of two instances one is alone or both are busy. Of
    # more, some run beside each other, for which a run that is alone is no measure.
    few = 2 if instances > 2 and "cores" in hardware else 1
    shapes = [(shape, clients) for shape in probe.shapes() for clients in (few, CALLS_EACH * instances)]
    loads = [(1, 0.0), (1, PAUSE_S), (CLIENTS, 0.0)] if front else []
    texts = [(tokens, *load) for tokens in probe.lengths() for load in loads]
    rounds = _Rounds(say, ROUNDS * (len(shapes) + len(texts)))
    calls = await rounds.typical(_calls_said, shapes, probe.measure)
    cores = usable_cores()
    shares = triton_url.startswith(_LOOPBACK) and hardware.get("cores", 0) >= cores
    engine, off = engine_costs(calls, instances, info.max_rows, shared_cores=shares)
    requests = await rounds.typical(_requests_said, texts, front.measure) if front else []
    gateway_url = front.url if front else None
    about = _about() | {
        "triton_url": triton_url,
        "gateway_url": gateway_url,
        "precision": info.precision,
        "weights_sha256": info.weights_sha256,
        "fit_off_by": round(off, 3),
    }
    about["versions"]["triton"] = await probe.version()
    shares = shares and str(gateway_url).removeprefix("http://").startswith(_LOOPBACK)
    gateway = gateway_costs(requests, engine, shared_cores=shares) if requests else None
    return Profile(info.name, info.max_length, hardware, engine, gateway, calls, requests, about)


class _Rounds:
    """Measures all loads in several rounds, so that other work of the machine affects only some of them."""

    def __init__(self, say: Say, total: int) -> None:
        self._say = say
        self._done, self._total = 0, total

    async def typical(
        self, what: Callable[..., str], loads: Sequence[tuple[Any, ...]], measure: Callable[..., Awaitable[Load]]
    ) -> list[Load]:
        """Return the round of each load with the median number of answers; `what` describes them."""
        seen: dict[tuple[Any, ...], list[Load]] = {load: [] for load in loads}
        for _ in range(ROUNDS):
            for load in loads:
                self._say(what(*load), self._done, self._total)
                seen[load].append(await measure(*load, SECONDS))
                self._done += 1
        return [sorted(rounds, key=lambda each: each.per_s)[len(rounds) // 2] for rounds in seen.values()]


def _calls_said(lengths: Sequence[int], clients: int) -> str:
    return f"Triton: {shape_of(lengths)}, {clients} at once"


def _requests_said(tokens: int, clients: int, pause_s: float) -> str:
    return f"gateway: {tokens} tokens, {clients} at once{', after pauses' if pause_s else ''}"


def _about() -> dict[str, Any]:
    """Describe the machine of the load, which usually is that of the servers too."""
    packages = ("conch", "grpcio", "tritonclient", "numpy")
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "machine": {"cpu": _cpu(), "cores": usable_cores(), "system": platform.platform()},
        "versions": {"python": platform.python_version()} | {name: version(name) for name in packages},
    }


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
