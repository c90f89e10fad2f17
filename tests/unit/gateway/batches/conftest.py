"""Databases, and gateways that use them, look for work soon and try again soon."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING

import pytest
from conch_gateway.batches import attempts, pace, service
from conch_gateway.batches.database import Database
from pydantic import SecretStr

from tests.postgres_server import PostgresServer
from tests.unit.gateway.batches.state import State

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from tests.unit.gateway.conftest import Serve


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "_LOOK_S", 0.15)
    monkeypatch.setattr(service, "_STORE_S", 0.01)
    monkeypatch.setattr(service, "_LONGEST_PAUSE_S", 0.1)
    monkeypatch.setattr(attempts, "_SHORTEST_PAUSE_S", 0.01)
    monkeypatch.setattr(attempts, "_LONGEST_PAUSE_S", 0.02)
    monkeypatch.setattr(attempts, "_SHORTEST_REST_S", 0.02)
    monkeypatch.setattr(pace, "_LONGEST_PAUSE_S", 0.02)


@pytest.fixture
def storing(http_with: Serve, quick: None, tmp_path: Path) -> Serve:
    """A gateway with a SQLite file."""
    return lambda **settings: http_with(batch_database=str(tmp_path / "state" / "batches.db"), **settings)


@pytest.fixture(scope="session")
def new_postgres(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], PostgresServer]:
    """Makes servers that a test may stop."""
    own = tmp_path_factory.getbasetemp()
    of_all_workers = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
    return partial(PostgresServer, of_all_workers / "postgres")


@pytest.fixture(scope="session")
def postgres(new_postgres: Callable[[], PostgresServer]) -> Iterator[PostgresServer]:
    with new_postgres() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgres"])
async def state(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[State]:
    setting = str(tmp_path / "batches.db")
    if request.param == "postgres":
        setting = request.getfixturevalue("postgres").new_database()
    found = State(Database(SecretStr(setting)))
    async with found.database.opened():
        yield found
