"""The profile of a deployment: a JSON file that `conch bench --profile` writes and `conch plan --rate` reads."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from statistics import fmean
from typing import TYPE_CHECKING, Any, TypeVar

from conch.load.closed_loop import percentile
from conch.simulation.costs import EngineCosts, GatewayCosts

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

FORMAT = 1
_HOW = "measure one with: conch bench --profile FILE"

Record = TypeVar("Record")


def latency_ms(latencies_s: Sequence[float]) -> dict[str, float]:
    """Return the mean and percentiles of latencies."""
    percentiles = {f"p{percent}": 1e3 * percentile(list(latencies_s), percent) for percent in (50, 95, 99)}
    return {"mean": 1e3 * fmean(latencies_s), **percentiles}


class ProfileError(Exception):
    """A file is not a profile; the message says why, and how to make one."""


def shape_of(lengths: Sequence[int]) -> str:
    """Describe the texts of a call for users."""
    mean = "" if len(set(lengths)) == 1 else " on average"
    return f"{len(lengths)} x {fmean(lengths):.0f} tokens{mean}"


@dataclass(frozen=True)
class CallLoad:
    """Equal calls to Triton, by clients that each have one call under way.

    Attributes:
        lengths: Tokens of each text of a call.
        clients: Number of clients; no more than instances measure latency, more measure throughput.
        per_s: Calls answered in a second.
        tokens_per_s: Tokens of these calls in a second.
        latency_ms: Mean and percentiles of a call's latency.
        rows_per_run: Texts in one run of the encoder, as counted by Triton.
        run_ms: Duration of a run, as measured by Triton.
        client_ms: Processor time of a call in the client.
    """

    lengths: list[int]
    clients: int
    per_s: float
    tokens_per_s: float
    latency_ms: dict[str, float]
    rows_per_run: float
    run_ms: float
    client_ms: float

    @property
    def texts(self) -> str:
        """Its texts, for users."""
        return shape_of(self.lengths)

    @property
    def calls_per_run(self) -> float:
        """Calls in one run of the encoder."""
        return self.rows_per_run / len(self.lengths)


@dataclass(frozen=True)
class RequestLoad:
    """Requests to the gateway with one text each, by clients that each have one request under way.

    Attributes:
        tokens: Tokens of the text.
        clients: Number of clients.
        pause_ms: Time from an answer to the client's next request.
        per_s: Requests answered in a second.
        latency_ms: Mean and percentiles of a request's latency.
        texts_per_call: Texts that the gateway sent to Triton in one call.
        gateway_ms: Processor time of a request in the gateway.
        sender_ms: Processor time of a request in its sender.
        run_ms: Duration of a run of the encoder meanwhile, as measured by Triton; 0 where it was not counted.
    """

    tokens: int
    clients: int
    pause_ms: float
    per_s: float
    latency_ms: dict[str, float]
    texts_per_call: float
    gateway_ms: float
    sender_ms: float
    run_ms: float = 0.0


@dataclass(frozen=True)
class Profile:
    """The profile of one model of a deployment.

    Attributes:
        model: Its name.
        max_length: Most tokens of a text.
        hardware: Hardware of one Triton for the instances of the encoder: `{"cores": 2}` or `{"gpus": 1}`.
        engine: Costs of calls, fitted to `calls`.
        gateway: Costs of requests, fitted to `requests`; None if no gateway was measured.
        calls: Measurements at Triton.
        requests: Measurements at the gateway.
        about: Date, addresses, machine, versions, and the error of the fit.
    """

    model: str
    max_length: int
    hardware: dict[str, int]
    engine: EngineCosts
    gateway: GatewayCosts | None
    calls: list[CallLoad] = field(default_factory=list)
    requests: list[RequestLoad] = field(default_factory=list)
    about: dict[str, Any] = field(default_factory=dict)

    def write(self, path: Path) -> None:
        """Write the file."""
        path.write_text(json.dumps({"conch_profile": FORMAT, **asdict(self)}, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Profile:
        """Read a file.

        Raises:
            ProfileError: It cannot be read, or is not a profile of this format.
        """
        try:
            stated = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise ProfileError(f"{path} cannot be read ({error.strerror}); {_HOW}") from error
        except ValueError as error:
            raise ProfileError(f"{path} is no JSON ({error}); {_HOW}") from error
        if not isinstance(stated, dict) or stated.get("conch_profile") != FORMAT:
            raise ProfileError(f"{path} is no profile of format {FORMAT}; {_HOW}")
        try:
            return cls.of(stated)
        except (KeyError, TypeError, ValueError) as error:
            raise ProfileError(f"{path} is a damaged profile ({error!r}); {_HOW}") from error

    @classmethod
    def of(cls, stated: dict[str, Any]) -> Profile:
        """Return the profile that a file states; raises LookupError, TypeError or ValueError if it is damaged."""
        profile = cls(
            model=str(stated["model"]),
            max_length=int(stated["max_length"]),
            hardware={str(kind): int(number) for kind, number in stated["hardware"].items()},
            engine=_costs(EngineCosts, stated["engine"]),
            gateway=stated["gateway"] and _costs(GatewayCosts, stated["gateway"]),
            calls=[CallLoad(**each) for each in stated.get("calls", [])],
            requests=[RequestLoad(**each) for each in stated.get("requests", [])],
            about=stated.get("about", {}),
        )
        if min(profile.engine.instances, profile.engine.max_rows, profile.max_length, *profile.hardware.values()) < 1:
            raise ValueError("instances, max_rows, max_length and hardware are at least 1")
        if profile.engine.run_s([1]) <= 0:
            raise ValueError("a run takes no time")
        return profile


def _costs(kind: type[Record], stated: dict[str, Any]) -> Record:
    """Read costs, which must not be negative."""
    costs = kind(**stated)
    for each in fields(kind):  # type: ignore[arg-type]
        value = getattr(costs, each.name)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < float("inf"):
            raise ValueError(f"{each.name} is {value!r}")
    return costs
