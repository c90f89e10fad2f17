"""The faults, and the order in which they are injected."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil

from tests.soak import connections, happenings, isolation

if TYPE_CHECKING:
    from tests.soak.happenings import Happening, Scene

STOPPED_S = 3.0
"""Seconds that a process stands still."""
DAMAGED_S = 2.0
"""Seconds that a file is damaged, or a disk full."""


@dataclass(frozen=True)
class Fault:
    """A fault.

    Attributes:
        name: what happens.
        what: how it is done, in a sentence.
        recovers: what brings the service back, in a sentence.
        happening: what makes it happen, and mends it.
        lasts_s: seconds between the two.
        isolated: whether it takes mounts of its own.
    """

    name: str
    what: str
    recovers: str
    happening: Happening
    lasts_s: float = 0.0
    isolated: bool = False

    def impossible(self, scene: Scene) -> str | None:
        """Why it cannot be done here, if so."""
        if self.isolated and not isolation.is_isolated():
            return "it takes a mount namespace (root, or user namespaces), or it would harm other programs"
        if self.happening is happenings.clock_set and scene.clock_file is None:
            return "libfaketime is not installed"
        return None


STARTED_AGAIN = "The supervisor in `conch serve` notices and restarts Triton."
UNTIL_MENDED = " Attempts fail until the damage is repaired."
CONTINUES = "It continues where it stopped; requests wait for it."
NOTHING = "Nothing has to be done."

FAULTS = (
    Fault(
        "tritonserver killed", "SIGKILL to tritonserver.", STARTED_AGAIN,
        happenings.triton_killed,
    ),
    Fault(
        "model instance killed", "SIGKILL to the stub of an encoder.", STARTED_AGAIN,
        happenings.instance_killed,
    ),
    Fault(
        "warden killed", "SIGKILL to the process that owns tritonserver.",
        f"Tritonserver is killed with it. {STARTED_AGAIN}",
        happenings.warden_killed,
    ),
    Fault(
        "gateway killed", "SIGKILL to `conch serve`.",
        "All its processes end with it. A process supervisor restarts it; here after 0.1 s, like docker's restart "
        "policy.",
        happenings.gateway_killed,
    ),
    Fault(
        "tritonserver killed on a full disk",
        "The file system of the run directory is full while tritonserver gets SIGKILL.",
        STARTED_AGAIN + UNTIL_MENDED,
        happenings.killed_on_a_full_disk, DAMAGED_S, isolated=True,
    ),
    Fault(
        "tritonserver killed with a damaged model",
        "Half of an encoder's `model.onnx` is missing while tritonserver gets SIGKILL.",
        STARTED_AGAIN + UNTIL_MENDED,
        happenings.killed_with_a_damaged_model, DAMAGED_S,
    ),
    Fault(
        "memory limit hit",
        "An encoder's stub may map no more memory than it has (`RLIMIT_AS`) when a large request comes.",
        "Only requests that need more memory fail. An instance that dies of it is restarted.",
        happenings.memory_limited, STOPPED_S,
    ),
    Fault(
        "model instance stopped", "SIGSTOP to the stub of an encoder, then SIGCONT.",
        f"Triton abandons it after a second. {STARTED_AGAIN}",
        happenings.stopped(happenings.encoder_stub), STOPPED_S,
    ),
    Fault(
        "tritonserver stopped", "SIGSTOP to tritonserver, then SIGCONT.", CONTINUES,
        happenings.stopped(lambda serving: serving.triton), STOPPED_S,
    ),
    Fault(
        "warden stopped", "SIGSTOP to the warden, then SIGCONT.", NOTHING,
        happenings.stopped(lambda serving: serving.warden), STOPPED_S,
    ),
    Fault(
        "gateway stopped", "SIGSTOP to `conch serve`, then SIGCONT.", CONTINUES,
        happenings.stopped(lambda serving: psutil.Process(serving.pid)), STOPPED_S,
    ),
    Fault(
        "disk full", "The file system of the run directory is full.",
        "A running Triton needs no room there.",
        happenings.disk_full, DAMAGED_S, isolated=True,
    ),
    Fault(
        "shared memory full", "`/dev/shm` is full when a large request comes.",
        "Only requests that need more shared memory than Triton has taken before are refused.",
        happenings.shared_memory_full, DAMAGED_S, isolated=True,
    ),
    Fault(
        "model file deleted", "An encoder's `model.onnx` is deleted, and put back.",
        "Files are read only when a model is loaded.",
        happenings.model_file_deleted, DAMAGED_S,
    ),
    Fault(
        "models file broken", "The models file is not TOML, and `POST /admin/reload` is sent.",
        "The reload gets 400 and changes nothing.",
        happenings.models_file_broken, DAMAGED_S,
    ),
    Fault(
        "keys file broken", "The file of API keys is not JSON.",
        "The keys stay as they were until the file can be read again.",
        happenings.keys_file_broken, DAMAGED_S,
    ),
    Fault(
        "slow connections", f"{connections.SLOW_ONES} connections send their requests byte by byte.", NOTHING,
        happenings.connected(connections.slow),
    ),
    Fault(
        "half-closed connections",
        f"{connections.HALF_CLOSED_ONES} connections close their sending side after a request, or half of one.",
        NOTHING,
        happenings.connected(connections.half_closed),
    ),
    Fault(
        "flooding connections",
        f"{connections.FLOODING_ONES} connections send {connections.REQUESTS_EACH} requests each at once, read no "
        "answer and break.",
        "Callers are scheduled fairly by their keys; requests whose connections have closed are cancelled.",
        happenings.connected(connections.flooding),
    ),
    Fault(
        "clock set", "The clock of a gateway is set a day ahead, and back.",
        "Deadlines and limits go by the monotonic clock.",
        happenings.clock_set, STOPPED_S,
    ),
    Fault(
        "connections to Triton reset", "A proxy between a gateway and Triton resets every connection, twice.",
        "The gateway reconnects and repeats the requests in flight.",
        happenings.connections_reset, STOPPED_S,
    ),
    Fault(
        "network to Triton held up", "A proxy between a gateway and Triton lets nothing pass.",
        "Requests wait for it until their deadlines.",
        happenings.network_held_up, STOPPED_S,
    ),
)  # fmt: skip


def schedule(seed: int, count: int) -> list[Fault]:
    """Return `count` faults; all kinds come up before one comes up again."""
    chance = random.Random(seed)  # noqa: S311
    order: list[Fault] = []
    while len(order) < count:
        order += chance.sample(FAULTS, len(FAULTS))
    return order[:count]


def named(names: list[str]) -> list[Fault]:
    """Return the faults of these names; raises ValueError for one that there is not."""
    by_name = {fault.name: fault for fault in FAULTS}
    unknown = [name for name in names if name not in by_name]
    if unknown:
        raise ValueError(f"there is no fault {unknown[0]!r}; there are: {', '.join(by_name)}")
    return [by_name[name] for name in names]
