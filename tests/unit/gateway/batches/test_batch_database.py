"""The database of files and batches: its setting, its file, and what it raises."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import httpx
import pytest
from conch_gateway import Gateway, GatewaySettings, create_app
from conch_gateway.errors import SettingError

from tests.batching import created, embeddings_of, over

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.gateway.conftest import Serve, StandIn

SECRET = "secret-of-the-database"


async def test_without_a_database_there_are_none_and_it_is_said_how_to_have_them(http: httpx.AsyncClient) -> None:
    upload = await http.post("/v1/files", files={"file": ("a", b"a")}, data={"purpose": "batch"})
    asked = [upload, *[await http.get(path) for path in ("/v1/files", "/v1/files/x/content", "/v1/batches")]]

    assert [each.status_code for each in asked] == [404] * 4
    assert all("CONCH_BATCH_DATABASE" in each.json()["error"]["message"] for each in asked)


async def test_one_gateway_alone_has_a_file(storing: Serve) -> None:
    async with storing():
        with pytest.raises(SettingError, match="another gateway"):
            async with storing():
                pass


@pytest.mark.parametrize(
    "setting",
    [
        pytest.param(f"postgresql://me:{SECRET}@localhost/db", id="a driver that waits"),
        pytest.param(f"nothing+at+all://me:{SECRET}@localhost/db", id="an unknown driver"),
        pytest.param(f"postgresql+asyncpg://me:{SECRET}@localhost:port/db", id="no port"),
    ],
)
def test_a_database_that_cannot_be_is_refused_and_not_shown(client: StandIn, setting: str) -> None:
    with pytest.raises(SettingError, match="CONCH_BATCH_DATABASE") as refused:
        create_app(GatewaySettings(batch_database=setting), client)

    assert SECRET not in str(refused.value)
    assert refused.value.__suppress_context__


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "mysql", "sqlite"])
def test_a_url_without_an_asynchronous_driver_is_told_how_to_name_one(client: StandIn, scheme: str) -> None:
    with pytest.raises(SettingError, match=r"no asynchronous driver; .*postgresql\+asyncpg://"):
        create_app(GatewaySettings(batch_database=f"{scheme}://me@localhost/db"), client)


async def test_a_file_that_cannot_be_written_ends_the_start(http_with: Serve, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingError, match="name a file"):
        async with http_with(batch_database=str(tmp_path / "file" / "batches.db")):
            pass


async def test_a_file_is_checked_before_the_start_and_used_after_it(
    storing: Serve, client: StandIn, tmp_path: Path
) -> None:
    settings = GatewaySettings(port=0, batch_database=str(tmp_path / "state" / "batches.db"))
    gateway = Gateway(settings, client=client)
    async with storing():
        with pytest.raises(SettingError, match="another gateway"):
            await gateway.check()
    await gateway.check()
    async with gateway, httpx.AsyncClient(base_url=gateway.url) as http:
        assert (await over(http, await created(http, embeddings_of("a"))))["status"] == "completed"


async def test_nobody_else_on_the_machine_can_read_the_file(storing: Serve, tmp_path: Path) -> None:
    async with storing() as http:
        await over(http, await created(http, embeddings_of("a")))
        modes = {path.name: oct(path.stat().st_mode & 0o777) for path in (tmp_path / "state").iterdir()}

    assert set(modes.values()) == {"0o600"}
    assert "batches.db" in modes


def test_what_a_database_needs_is_named_where_it_is_not_installed(
    client: StandIn, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "conch_gateway.batches.service", None)

    with pytest.raises(SettingError, match=r"pip install 'conch\[database\]'"):
        create_app(GatewaySettings(batch_database=str(tmp_path / "batches.db")), client)
