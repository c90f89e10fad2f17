"""API keys: who is let in, to what, how often, and that no secret is told."""

from __future__ import annotations

import asyncio
import logging
import re
from typing import TYPE_CHECKING, Any

import pytest
from conch.app import app as command_line
from conch_client import InvalidInputError, UnavailableError
from conch_gateway import GatewaySettings, KeysError, create_app
from conch_gateway.auth import keyring as _keyring
from conch_gateway.auth.keyring import Keyring
from conch_gateway.auth.keys import Key, create_key, digest, read_keys, revoke_key
from conch_gateway.auth.quota import Charge, Quotas, Refusal
from conch_gateway.errors import ModelsFileError, QuotaError
from pydantic import ValidationError
from typer.testing import CliRunner

from tests.unit.gateway.conftest import StandIn

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import httpx

    from tests.unit.gateway.conftest import Serve

URL = "/v1/embeddings"
GOOD = {"input": "ab"}
SECRET = "opensesame"


def bearer(secret: str) -> dict[str, str]:
    return {"authorization": f"Bearer {secret}"}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_keyring, "_LOOK_AGAIN_S", 0.0)


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({"authorization": f"Bearer {SECRET}"}, id="bearer"),
        pytest.param({"authorization": f"bearer  {SECRET}"}, id="bearer in small letters"),
        pytest.param({"api-key": SECRET}, id="api-key"),
        pytest.param({"x-api-key": SECRET}, id="x-api-key"),
    ],
)
async def test_a_key_is_taken_from_the_headers_that_clients_use(http_with: Serve, headers: dict[str, str]) -> None:
    async with http_with(api_keys=f"alice:{SECRET}") as http:
        assert (await http.post(URL, json=GOOD, headers=headers)).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({}, id="none"),
        pytest.param(bearer("wrong"), id="unknown"),
        pytest.param(bearer("wr\u00f6ng"), id="not ASCII"),
        pytest.param({"authorization": f"Basic {SECRET}"}, id="another scheme"),
        pytest.param({"authorization": "Bearer"}, id="empty"),
    ],
)
@pytest.mark.parametrize("path", [URL, "/v1/models", "/metrics", "/openapi.json", "/nowhere"])
async def test_without_a_good_key_everything_is_shut(http_with: Serve, path: str, headers: dict[str, str]) -> None:
    async with http_with(api_keys=f"alice:{SECRET}") as http:
        raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
        response = await http.get(path, headers=raw)

    assert (response.status_code, response.json()["error"]["code"]) == (401, "invalid_api_key")
    assert response.headers["www-authenticate"] == "Bearer"
    assert "wrong" not in response.text


@pytest.mark.parametrize("path", ["/health/live", "/health/ready"])
async def test_probes_need_no_key(http_with: Serve, path: str) -> None:
    async with http_with(api_keys=f"alice:{SECRET}") as http:
        assert (await http.get(path)).status_code == 200


async def test_a_stranger_is_counted_under_the_route_that_was_asked_for(http_with: Serve) -> None:
    async with http_with(api_keys=f"alice:{SECRET}") as http:
        await http.post(URL, json=GOOD)
        exposition = (await http.get("/metrics", headers=bearer(SECRET))).text

    assert f'conch_gateway_requests_total{{model="",route="{URL}",status="401"}} 1.0' in exposition


async def test_administration_takes_an_administrators_key(http_with: Serve) -> None:
    async with http_with(api_keys="alice:a,root:b:admin") as http:
        statuses = [(await http.get("/admin/x", headers=bearer(secret))).status_code for secret in ("", "a", "b")]

    assert statuses == [401, 403, 404]


async def test_without_any_key_administration_is_shut_and_the_rest_is_open(http: httpx.AsyncClient) -> None:
    assert (await http.get("/admin/x", headers=bearer(SECRET))).status_code == 403
    assert (await http.post(URL, json=GOOD)).status_code == 200


async def test_a_key_of_the_file_works_until_it_is_revoked(http_with: Serve, file: Path, impatient: None) -> None:
    secret, other = create_key(file, "alice"), create_key(file, "bob")
    async with http_with(api_keys_file=file) as http:
        before = (await http.post(URL, json=GOOD, headers=bearer(secret))).status_code
        revoke_key(file, "alice")
        after = (await http.post(URL, json=GOOD, headers=bearer(secret))).status_code
        new = create_key(file, "carol")
        others = [(await http.post(URL, json=GOOD, headers=bearer(key))).status_code for key in (other, new)]

    assert (before, after, others) == (200, 401, [200, 200])


async def test_a_file_that_was_spoilt_lets_in_whom_it_let_in_before(
    http_with: Serve, file: Path, impatient: None, caplog: pytest.LogCaptureFixture
) -> None:
    secret = create_key(file, "alice")
    async with http_with(api_keys_file=file) as http:
        await asyncio.to_thread(file.write_text, "{")
        statuses = [(await http.post(URL, json=GOOD, headers=bearer(key))).status_code for key in (secret, "no")]

    assert statuses == [200, 401]
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


def test_the_file_has_no_key_and_is_its_owners_alone(file: Path) -> None:
    secret = create_key(file, "alice")

    assert secret not in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600
    assert list(file.parent.iterdir()) == [file]


@pytest.mark.parametrize("content", ["", "[]", '{"keys": [{"name": "a"}]}', '{"keys": [], "other": 1}'])
def test_a_file_of_something_else_is_one_clear_error(file: Path, content: str) -> None:
    file.write_text(content)

    with pytest.raises(KeysError, match=re.escape(str(file))):
        Keyring(GatewaySettings(api_keys_file=file))


def test_a_missing_file_is_not_taken_for_no_keys(file: Path) -> None:
    with pytest.raises(KeysError, match="conch keys create"):
        Keyring(GatewaySettings(api_keys_file=file))


@pytest.mark.parametrize("setting", [SECRET, f"alice:{SECRET},", f":{SECRET}", f"a b:{SECRET}", f"a:{SECRET}:boss"])
def test_a_setting_that_is_no_list_of_keys_is_told_without_them(setting: str) -> None:
    with pytest.raises(KeysError, match="CONCH_API_KEYS: entry") as refused:
        Keyring(GatewaySettings.model_validate({"api_keys": setting}))

    assert SECRET not in str(refused.value)


def test_a_key_with_a_character_that_no_header_has_is_refused_at_the_start() -> None:
    for setting in ("admin_key", "triton_admin_key"):
        with pytest.raises(ValidationError, match="no header may have; write a key of ASCII") as refused:
            GatewaySettings.model_validate({setting: "schl\u00fcssel"})
        assert "ssel" not in str(refused.value)
    with pytest.raises(KeysError, match="CONCH_API_KEYS: entry 2"):
        Keyring(GatewaySettings.model_validate({"api_keys": "a:b,alice:schl\u00fcssel"}))
    with pytest.raises(ValidationError, match="a line end, which is a part of the key for Triton"):
        GatewaySettings.model_validate({"triton_admin_key": f"{SECRET}\n"})


async def test_keys_of_files_of_secrets_may_end_in_a_line_end(http_with: Serve) -> None:
    async with http_with(admin_key=f"{SECRET}\n", api_keys="alice:a, bob: b\n") as http:
        administration = await http.get("/admin/models", headers=bearer(SECRET))
        others = [await http.post(URL, json=GOOD, headers=bearer(key)) for key in ("a", "b")]

    assert [administration.status_code, *(answer.status_code for answer in others)] == [200, 200, 200]


@pytest.mark.parametrize(
    ("names", "settings", "told"),
    [
        ([], {"api_keys": "a:b,a:c"}, "'a'"),
        (["a"], {"api_keys": "a:b"}, "'a'"),
        (["conch"], {}, "'conch'"),
        (["admin"], {"admin_key": SECRET}, "'admin'"),
    ],
    ids=["in the setting", "in the setting and the file", "the gateway's own", "the administrator's"],
)
def test_two_keys_of_one_name_are_refused(file: Path, names: list[str], settings: dict[str, Any], told: str) -> None:
    create_key(file, "alice")
    for name in names:
        create_key(file, name)
    with pytest.raises(KeysError, match=f"two keys are named {told}; .*: rename one"):
        Keyring(GatewaySettings.model_validate({"api_keys_file": file, **settings}))


def test_settings_show_no_secret() -> None:
    settings = GatewaySettings.model_validate(
        {"api_keys": f"a:{SECRET}", "tls_key_password": SECRET, "tls_certificate": "c"}
    )

    assert SECRET not in f"{settings!r} {settings} {settings.model_dump()}"


async def test_requests_beyond_those_of_a_minute_wait_for_the_next(http_with: Serve, file: Path) -> None:
    alice, bob = create_key(file, "alice", requests_per_minute=2), create_key(file, "bob")
    async with http_with(api_keys_file=file) as http:
        answers = [await http.post(URL, json=GOOD, headers=bearer(alice)) for _ in range(3)]
        beside = await http.post(URL, json=GOOD, headers=bearer(bob))

    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[2].json()["error"]["code"] == "quota_exceeded"
    assert 0 < int(answers[2].headers["retry-after-ms"]) <= 30_000
    assert beside.status_code == 200


async def test_tokens_are_counted_when_they_are_known(http_with: Serve, file: Path) -> None:
    secret = create_key(file, "alice", tokens_per_minute=10)
    async with http_with(api_keys_file=file) as http:
        answers = [await http.post(URL, json={"input": "abcd"}, headers=bearer(secret)) for _ in range(3)]

    assert [answer.status_code for answer in answers] == [200, 200, 429]  # 6 tokens each
    assert 0 < int(answers[2].headers["retry-after"]) <= 18  # for three tokens at ten a minute


@pytest.mark.parametrize(
    ("failure", "statuses"),
    [
        pytest.param(InvalidInputError("texts [0] are wrong", [0]), [400, 429], id="wrong ids"),
        pytest.param(UnavailableError("away"), [503, 503], id="Triton is away"),
    ],
)
async def test_tokens_of_a_failed_request_count_if_its_inputs_were_found_wrong_by_computing_them(
    http_with: Serve, client: StandIn, file: Path, failure: Exception, statuses: list[int]
) -> None:
    client.busy = failure
    secret = create_key(file, "alice", tokens_per_minute=10)
    async with http_with(api_keys_file=file) as http:
        answers = [await http.post(URL, json={"input": [999] * 12}, headers=bearer(secret)) for _ in range(2)]

    assert [answer.status_code for answer in answers] == statuses


async def test_a_quota_refills_evenly() -> None:
    now = 0.0
    quotas = Quotas(clock=lambda: now)
    key = Key(name="alice", sha256=digest(SECRET), requests_per_minute=2, tokens_per_minute=10)
    await quotas.begin(key)
    await quotas.begin(key)
    with pytest.raises(QuotaError, match="2 requests a minute") as refused:
        await quotas.begin(key)
    assert refused.value.retry_after_s == 30.0

    now = 30.0
    await quotas.begin(key)
    quotas.spend(key, 12)
    now = 60.0
    await quotas.begin(key)  # -2 tokens, and 5 more in 30 s
    now = 90.0
    quotas.spend(key, 12)
    with pytest.raises(QuotaError, match="10 tokens a minute") as refused:
        await quotas.begin(key)
    assert refused.value.retry_after_s == pytest.approx(30.0)


class Everywhere:
    """Buckets that gateways share, and what was taken from them."""

    def __init__(self) -> None:
        self.taken: list[Sequence[Charge]] = []
        self.refusal: Refusal | None = None

    async def take(self, charges: Sequence[Charge]) -> Refusal | None:
        if self.refusal is None:
            self.taken.append(charges)
        return self.refusal

    def spend(self, charges: Sequence[Charge]) -> None:
        pass


async def test_a_request_that_is_refused_is_counted_neither_here_nor_elsewhere() -> None:
    shared, key = Everywhere(), Key(name="alice", sha256=digest(SECRET), requests_per_minute=1)
    quotas = Quotas(shared, clock=lambda: 0.0)
    shared.refusal = Refusal(Charge("alice", "requests", 1, 1), 60.0)
    with pytest.raises(QuotaError):
        await quotas.begin(key)
    shared.refusal = None
    await quotas.begin(key)
    with pytest.raises(QuotaError):
        await quotas.begin(key)
    assert len(shared.taken) == 1


async def test_a_browser_of_another_origin_is_let_in_only_if_it_is_listed(http_with: Serve) -> None:
    asked = {"origin": "https://here.example", "access-control-request-method": "POST"}
    async with http_with() as http:
        shut = await http.options(URL, headers=asked)
    async with http_with(cors_origins="https://here.example, https://there.example", api_keys="a:b") as http:
        opened = await http.options(URL, headers=asked)
        foreign = await http.options(URL, headers={**asked, "origin": "https://evil.example"})
        refused = await http.post(URL, json=GOOD, headers={"origin": "https://here.example"})

    allowed = "access-control-allow-origin"
    assert allowed not in shut.headers
    assert opened.headers[allowed] == "https://here.example"
    assert allowed not in foreign.headers
    assert (refused.status_code, refused.headers[allowed]) == (401, "https://here.example")


@pytest.mark.parametrize(
    ("settings", "failure", "status"),
    [
        pytest.param({"timeout_s": 0.05}, None, 504, id="the time is up"),
        pytest.param({"max_body_bytes": 1}, None, 413, id="a body is too large"),
        pytest.param({}, UnavailableError("away"), 503, id="Triton is away"),
        pytest.param({}, RuntimeError("a defect"), 500, id="nobody foresaw it"),
    ],
)
async def test_a_page_of_a_listed_origin_may_read_why_a_request_failed(
    http_with: Serve, client: StandIn, settings: dict[str, Any], failure: Exception | None, status: int
) -> None:
    client.busy, client.gate = failure, None if failure else asyncio.Event()
    async with http_with(cors_origins="https://here.example", **settings) as http:
        answer = await http.post(URL, json=GOOD, headers={"origin": "https://here.example"})

    assert (answer.status_code, answer.headers.get("access-control-allow-origin")) == (status, "https://here.example")
    assert answer.json()["error"]["message"]


def test_a_private_key_without_a_certificate_is_refused() -> None:
    with pytest.raises(ValidationError, match="CONCH_TLS_CERTIFICATE"):
        GatewaySettings.model_validate({"tls_key": "key.pem"})


def run(*arguments: str) -> Any:
    return CliRunner().invoke(command_line, ["keys", *arguments])


def test_the_command_makes_lists_and_revokes_keys(file: Path) -> None:
    made = run("create", "alice", "--file", str(file), "--model", "letters", "--tokens-per-minute", "10")
    listed = run("list", "--file", str(file))
    taken = run("create", "alice", "--file", str(file))
    (key,) = read_keys(file)
    revoked = run("revoke", "alice", "--file", str(file))

    assert (made.exit_code, made.stdout.startswith("conch-"), len(made.stdout.splitlines())) == (0, True, 1)
    assert (key.models, key.tokens_per_minute, key.admin) == (frozenset({"letters"}), 10, False)
    assert "alice" in listed.stdout
    assert made.stdout.strip() not in listed.stdout
    assert (taken.exit_code, "already" in taken.stderr) == (1, True)
    assert (revoked.exit_code, read_keys(file)) == (0, [])


def test_a_key_is_printed_wherever_its_file_is(tmp_path: Path) -> None:
    made = run("create", "alice", "--file", str(tmp_path / "[/a]" / "keys.json"))

    assert (made.exit_code, made.stdout.startswith("conch-")) == (0, True)
    assert "[/a]" in made.stderr


@pytest.mark.parametrize("name", ["", "a b", "a:b", "-a", "é", "a\nb", "a\n", "a" * 65])
def test_a_name_that_no_key_can_have_is_told_in_words(file: Path, name: str) -> None:
    with pytest.raises(KeysError, match="name: must be 1 to 64 letters of a-z, digits, dots, - _ or @"):
        create_key(file, name)


def test_who_may_read_the_file_may_read_it_after_a_change(file: Path) -> None:
    create_key(file, "alice")
    modes = [file.stat().st_mode & 0o777]
    file.chmod(0o640)
    create_key(file, "bob")
    revoke_key(file, "alice")

    assert [*modes, file.stat().st_mode & 0o777] == [0o600, 0o640]


def test_a_file_that_anybody_may_write_to_gives_no_keys(file: Path) -> None:
    create_key(file, "alice")
    file.chmod(0o646)

    with pytest.raises(KeysError, match=r"anybody on this machine may write .* chmod o-w"):
        read_keys(file)


@pytest.mark.parametrize("setting", ["api_keys_file", "models_file"])
def test_a_file_without_end_is_not_read_to_its_end(setting: str, tmp_path: Path) -> None:
    endless = tmp_path / "endless"
    with endless.open("wb") as hole:
        hole.truncate(2**40)

    with pytest.raises((KeysError, ModelsFileError), match="File too large"):
        create_app(GatewaySettings.model_validate({setting: endless}), StandIn())
