"""Ports that tests give to servers: each is given once, also before its server listens."""

from __future__ import annotations

import random
from itertools import chain, repeat
from typing import TYPE_CHECKING

from tests.serving import PORTS, free_ports

if TYPE_CHECKING:
    import pytest


def test_a_port_is_given_once(monkeypatch: pytest.MonkeyPatch) -> None:
    chance = random.Random()  # noqa: S311
    drawn = chain(repeat(chance.choice(PORTS), 2), iter(lambda: chance.choice(PORTS), None))
    monkeypatch.setattr(random, "choice", lambda _: next(drawn))
    assert free_ports(1) != free_ports(1)
