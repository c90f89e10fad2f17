"""Hostile HTTP sent to a gateway, beside neighbours whose every answer is checked."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections import Counter
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, NamedTuple

import anyio
import httpx

from tests.hostile.http_attacks import INNER, Attack, attacks

if TYPE_CHECKING:
    from collections.abc import Iterator

CONNECTIONS = 16
HUNG_S = 60
NEIGHBOURS = (
    {"model": "all-minilm-l6-v2", "input": ["A cat sat on the mat.", "Where is the cat?"]},
    {"model": "all-minilm-l6-v2", "input": "list.reverse() turns a list around in place. " * 20},
    {"model": "all-minilm-l6-v2", "input": ["a", "b", "c"], "encoding_format": "base64"},
)


@dataclass
class Outcome:
    """What came of it.

    Attributes:
        attacks: how many of each kind were sent.
        statuses: of all their answers.
        faults: what must not be, in words.
        neighbours: answers that were checked.
    """

    attacks: Counter[str] = field(default_factory=Counter)
    statuses: Counter[int] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    neighbours: int = 0


class Seen(NamedTuple):
    """An answer: its status, whose it is, and whether it is the connection's last."""

    status: int
    who: str
    closes: bool


async def attack(url: str, count: int, seed: int) -> Outcome:
    """Send `count` attacks over a few connections at a time, and ask good questions meanwhile."""
    outcome, left = Outcome(), attacks(Random(seed), count)  # noqa: S311
    async with httpx.AsyncClient(base_url=url, timeout=HUNG_S) as http:
        expected = [(await _ask(http, number)).json()["data"] for number in range(len(NEIGHBOURS))]
        neighbours = [asyncio.create_task(_neighbour(http, number, expected, outcome)) for number in range(2)]
        await asyncio.gather(*(_send_all(url, left, outcome) for _ in range(CONNECTIONS)))
        for neighbour in neighbours:
            neighbour.cancel()
        await asyncio.gather(*neighbours, return_exceptions=True)
    return outcome


async def _ask(http: httpx.AsyncClient, number: int) -> httpx.Response:
    return await http.post("/v1/embeddings", json=NEIGHBOURS[number])


async def _neighbour(http: httpx.AsyncClient, number: int, expected: list[object], outcome: Outcome) -> None:
    while True:
        number = (number + 1) % len(NEIGHBOURS)
        try:
            answer = await _ask(http, number)
        except httpx.HTTPError as error:
            outcome.faults.append(f"a neighbour got {error!r}")
            continue
        if answer.status_code != 200 or answer.json()["data"] != expected[number]:
            outcome.faults.append(f"a neighbour got {answer.status_code} {answer.text[:200]}")
        outcome.neighbours += 1
        await asyncio.sleep(0)


async def _send_all(url: str, left: Iterator[Attack], outcome: Outcome) -> None:
    for one in left:
        outcome.attacks[one.kind] += 1
        try:
            with anyio.fail_after(HUNG_S):
                answered = await _sent(url, one)
        except TimeoutError:
            outcome.faults.append(f"hung: {_shown(one)}")
            continue
        outcome.statuses.update(answer.status for answer in answered)
        outcome.faults += [f"{fault}: {_shown(one)}" for fault in _faults(one, answered)]


def _faults(one: Attack, answered: list[Seen]) -> Iterator[str]:
    ids = [answer.who for answer in answered]
    for answer in answered:
        if answer.status >= 500:
            yield f"answered with {answer.status}"
    if INNER in ids:
        yield "a body was executed"
    if one.answered is not None and not (ids and ids == one.answered[: len(ids)]):
        yield f"answered were {ids}"
    elif one.answered is not None and len(ids) < len(one.answered) and not answered[-1].closes:
        yield f"only {ids} were answered"


async def _sent(url: str, one: Attack) -> list[Seen]:
    """Send it, leave as it says, and return the answers that came."""
    host, port = url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    answered: list[Seen] = []
    try:
        with contextlib.suppress(OSError):  # it may be refused before it is all sent
            for segment in one.segments:
                writer.write(segment)
                await writer.drain()
                await asyncio.sleep(0.001)
            if one.ending == "half-close":
                writer.write_eof()
        if one.ending == "reset":
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        if one.ending in {"read", "half-close"}:
            await _read(reader, answered)
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
    return answered


async def _read(reader: asyncio.StreamReader, answered: list[Seen]) -> None:
    """Read to the end, which may be a reset once something was refused; answers to HEAD come last, if at all."""
    with contextlib.suppress(OSError, asyncio.IncompleteReadError):
        while line := await reader.readline():
            status, headers = int(line.split()[1]), await _headers(reader)
            if status != 100:
                answered.append(Seen(status, headers.get("x-request-id", ""), headers.get("connection") == "close"))
                await reader.readexactly(int(headers["content-length"]))


async def _headers(reader: asyncio.StreamReader) -> dict[str, str]:
    headers = {}
    while (line := await reader.readline()) not in {b"\r\n", b""}:
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.lower()] = value.strip()
    return headers


def _shown(one: Attack) -> str:
    return f"{one.kind}, {one.ending}: {b'|'.join(one.segments)[:600]!r}"
