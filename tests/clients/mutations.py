"""Bodies that were right before something happened to them; the same seed gives the same ones."""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from random import Random

Place = tuple[Any, Any]  # a list or an object, and an index or a key of it

ODDITIES: list[Any] = [
    *(None, True, False, 0, -1, 1, 2**31, -(2**63), 2**64, 10**30, 0.5, -0.0, 1e308),
    *("", " ", "a", "\x00", "\ufeff", "\u202e", "é" * 300, "\U0001f600" * 50, "word " * 2_000, "a" * 20_000),
    *([], {}, [[]], [{}], [None], [""], ["a", 1], [[1], "a"], [[101, 102], []], [10**6], [-1], [["a", "b", "c"]]),
    *({"text": None}, {"text": ""}, {"": ""}),
    *(
        "base64",
        "no-such-model",
        "all-minilm-l6-v2",
        "all-minilm-l6-v2-maxsim",
        "sparse",
        "all-minilm-l6-v2.encoder",
        "../../x",
    ),
]
MOST_CHARACTERS = 4_000_000
FIELDS = ["model", "input", "inputs", "texts", "documents", "query", "dimensions", "top_n", "truncate", "normalize"]


def mutated(example: Any, random: Random) -> bytes:
    """One to three things happen to a copy of the example, and sometimes one to its bytes."""
    body = copy.deepcopy(example)
    for _ in range(random.randint(1, 3)):
        random.choice((_replace, _drop, _repeat, _add, _nest))(body, random)
    encoded = json.dumps(body, ensure_ascii=random.random() < 0.5).encode(errors="surrogatepass")
    return _damaged(encoded, random) if random.random() < 0.2 else encoded


def _places(node: Any) -> Iterator[Place]:
    keys = range(len(node)) if isinstance(node, list) else list(node) if isinstance(node, dict) else ()
    for key in keys:
        yield node, key
        yield from _places(node[key])


def _replace(body: Any, random: Random) -> None:
    if places := list(_places(body)):
        node, key = random.choice(places)
        node[key] = copy.deepcopy(random.choice(ODDITIES))


def _drop(body: Any, random: Random) -> None:
    if places := list(_places(body)):
        node, key = random.choice(places)
        del node[key]


def _repeat(body: Any, random: Random) -> None:
    if lists := [node[key] for node, key in _places(body) if isinstance(node[key], list) and node[key]]:
        chosen, times = random.choice(lists), random.choice((2, 10, 200))
        if len(repr(chosen)) * times <= MOST_CHARACTERS:  # two repetitions, one in the other, would take gigabytes
            chosen *= times


def _add(body: dict[str, Any], random: Random) -> None:
    body[random.choice(FIELDS)] = copy.deepcopy(random.choice(ODDITIES))


def _nest(body: Any, random: Random) -> None:
    if places := list(_places(body)):
        node, key = random.choice(places)
        for _ in range(random.choice((1, 2, 50))):
            node[key] = [node[key]]


def _damaged(encoded: bytes, random: Random) -> bytes:
    start = random.randrange(len(encoded) + 1)
    end = min(len(encoded), start + random.randint(0, 8))
    return encoded[:start] + random.choice((b"", b"\xff", b"\x00", b'"', b"}", b"\xed\xa0\x80", b"NaN")) + encoded[end:]
