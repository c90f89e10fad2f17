"""OpenAI's batches: every line of a file is answered once, in the background of everything else."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest
from conch_client import OverloadedError, UnavailableError
from conch_gateway import GatewaySettings, create_app
from conch_gateway.api.batches import batches as api
from conch_gateway.auth import keyring
from conch_gateway.auth.keys import create_key, revoke_key
from conch_gateway.batches import pace, runner, service
from conch_gateway.errors import BatchSettingError

from tests.batching import answers, created, embeddings_of, fetched, jsonl, line, over, uploaded
from tests.waiting import eventually

if TYPE_CHECKING:
    from pathlib import Path

    import httpx

    from tests.unit.gateway.conftest import Serve, StandIn

SECRET = "secret-of-the-database"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Work is looked for, and tried again, soon."""
    monkeypatch.setattr(service, "_LOOK_S", 0.03)
    monkeypatch.setattr(runner, "_SHORTEST_PAUSE_S", 0.01)
    monkeypatch.setattr(runner, "_LONGEST_PAUSE_S", 0.02)
    monkeypatch.setattr(pace, "_LONGEST_PAUSE_S", 0.02)
    monkeypatch.setattr(runner, "_QUOTA_PAUSE_S", 0.02)


@pytest.fixture
def storing(http_with: Serve, tmp_path: Path) -> Serve:
    """A gateway with a database."""
    return lambda **settings: http_with(batch_database=str(tmp_path / "state" / "batches.db"), **settings)


async def test_every_line_has_the_answer_that_a_request_gets(storing: Serve) -> None:
    texts = [f"text {number}" for number in range(100)]
    async with storing() as http:
        batch = await over(http, await created(http, embeddings_of(texts), metadata={"mine": "yes"}))
        written = await answers(http, batch["output_file_id"])
        asked = [(await http.post("/v1/embeddings", json={"model": "letters", "input": text})).json() for text in texts]

    assert (batch["status"], batch["request_counts"]) == ("completed", {"total": 100, "completed": 100, "failed": 0})
    assert [each["custom_id"] for each in written] == [str(number) for number in range(100)]
    assert [each["response"]["body"] for each in written] == asked
    assert {each["response"]["status_code"] for each in written} == {200}
    assert {each["error"] for each in written} == {None}
    assert (batch["error_file_id"], batch["errors"], batch["metadata"]) == (None, None, {"mine": "yes"})
    assert batch["usage"]["total_tokens"] == sum(answer["usage"]["total_tokens"] for answer in asked)
    assert batch["created_at"] <= batch["in_progress_at"] <= batch["finalizing_at"] <= batch["completed_at"]


async def test_a_line_that_is_wrong_fails_alone(storing: Serve) -> None:
    lines = embeddings_of(["good", "", "fine"])
    lines[2]["body"]["model"] = "no-such-model"
    async with storing() as http:
        batch = await over(http, await created(http, lines))
        good, bad = [await answers(http, batch[f"{kind}_file_id"]) for kind in ("output", "error")]
        told = (await http.post("/v1/embeddings", json={"model": "letters", "input": ""})).json()

    assert (batch["status"], batch["request_counts"]) == ("completed", {"total": 3, "completed": 1, "failed": 2})
    assert [each["custom_id"] for each in good] == ["0"]
    assert [(each["custom_id"], each["response"]["status_code"]) for each in bad] == [("1", 400), ("2", 404)]
    assert bad[0]["response"]["body"] == told
    assert bad[1]["response"]["body"]["error"]["code"] == "model_not_found"


@pytest.mark.parametrize("path", ["/v1/rerank", "/v2/rerank"])
async def test_rankings_are_computed_too(storing: Serve, path: str) -> None:
    body = {"model": "overlap", "query": "abc", "documents": ["xyz", "abz"]}
    async with storing() as http:
        batch = await over(http, await created(http, [line("a", body, path)], endpoint=path))
        (written,) = await answers(http, batch["output_file_id"])
        asked = (await http.post(path, json=body)).json()

    assert {**written["response"]["body"], "id": ""} == {**asked, "id": ""}


@pytest.mark.parametrize(
    ("content", "code", "number"),
    [
        pytest.param("", "empty_file", None, id="nothing"),
        pytest.param("\n \n", "empty_file", None, id="blank lines"),
        pytest.param(jsonl(embeddings_of("a")) + "{", "invalid_json_line", 2, id="no JSON"),
        pytest.param("\n[]", "invalid_json_line", 2, id="no object"),
        pytest.param(jsonl([*embeddings_of("ab"), *embeddings_of("a")]), "duplicate_custom_id", 3, id="a name again"),
        pytest.param(jsonl([line("", {})]), "invalid_custom_id", 1, id="no name"),
        pytest.param(jsonl([line("a\0", {})]), "invalid_custom_id", 1, id="a name that cannot be stored"),
        pytest.param(jsonl([line(7, {})]), "invalid_custom_id", 1, id="a number as a name"),  # type: ignore[arg-type]
        pytest.param(jsonl([line("a", {}, "/v1/rerank")]), "invalid_url", 1, id="another path"),
        pytest.param(jsonl([{**line("a", {}), "method": "GET"}]), "invalid_method", 1, id="another method"),
        pytest.param(jsonl([line("a", [])]), "invalid_body", 1, id="no body"),  # type: ignore[arg-type]
        pytest.param(jsonl([line("a", {"input": "a" * 3000})]), "line_too_long", 1, id="too long a line"),
        pytest.param(jsonl(embeddings_of("abcdef")), "too_many_lines", 6, id="too many lines"),
    ],
)
async def test_a_file_that_is_wrong_is_refused_by_line_before_anything_is_computed(
    storing: Serve, client: StandIn, content: str, code: str, number: int | None
) -> None:
    async with storing(batch_lines=5, max_body_bytes=2000) as http:
        batch = await over(http, await created(http, content))

    (error,) = batch["errors"]["data"]
    assert (batch["status"], error["code"], error["line"]) == ("failed", code, number)
    assert batch["request_counts"] == {"total": 0, "completed": 0, "failed": 0}
    assert client.embedded == []


async def test_lines_and_pieces_of_a_file_need_not_end_together(storing: Serve) -> None:
    texts = [f"{number} " + "x" * (40_000 + 7 * number) for number in range(30)]
    content = jsonl(embeddings_of(texts)).replace("\n", "\r\n\n").rstrip()
    async with storing() as http:
        batch = await over(http, await created(http, content))
        file = await http.get(f"/v1/files/{batch['input_file_id']}/content")
        written = await answers(http, batch["output_file_id"])

    assert file.text == content
    assert [each["custom_id"] for each in written] == [str(number) for number in range(30)]


@pytest.mark.parametrize("refusal", [OverloadedError("full"), UnavailableError("away")], ids=["full", "away"])
async def test_a_line_that_cannot_be_computed_now_is_tried_again(
    storing: Serve, client: StandIn, refusal: Exception
) -> None:
    client.busy = refusal
    async with storing() as http:
        batch = await created(http, embeddings_of("abc"))
        await eventually(lambda: len(client.calls) > 8)
        assert (await fetched(http, batch))["status"] == "in_progress"
        client.busy = None
        batch = await over(http, batch)
        metrics = (await http.get("/metrics")).text

    assert batch["request_counts"] == {"total": 3, "completed": 3, "failed": 0}
    assert 'conch_gateway_batch_results_total{result="completed"} 3.0' in metrics
    assert 'conch_gateway_texts_total{model="letters"} 3.0' in metrics


async def test_what_is_not_computed_in_time_expires(
    storing: Serve, client: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(api._SECONDS, "m", 1)
    client.gate = asyncio.Event()
    async with storing() as http:
        batch = await over(http, await created(http, embeddings_of("abc"), completion_window="1m"))
        errors = await answers(http, batch["error_file_id"])

    assert (batch["status"], batch["request_counts"]) == ("expired", {"total": 3, "completed": 0, "failed": 3})
    assert batch["expired_at"] >= batch["expires_at"]
    assert [(each["response"], each["error"]["code"]) for each in errors] == [(None, "batch_expired")] * 3


async def test_a_batch_that_is_cancelled_keeps_the_answers_that_it_has(
    storing: Serve, every_kind: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    never = asyncio.Event()
    monkeypatch.setattr(every_kind, "embed_tokens", lambda *_, **__: never.wait())
    lines = [*embeddings_of("ab"), line("slow", {"model": "letters", "input": "c", "vector_type": "late"})]
    async with storing() as http:
        batch = await created(http, lines)

        async def has_two() -> bool:
            return bool((await fetched(http, batch))["request_counts"]["completed"] == 2)

        await eventually(has_two)
        cancelling = (await http.post(f"/v1/batches/{batch['id']}/cancel")).json()
        batch = await over(http, batch)
        written, errors = [await answers(http, batch[f"{kind}_file_id"]) for kind in ("output", "error")]
        again = await http.post(f"/v1/batches/{batch['id']}/cancel")

    assert (cancelling["status"], batch["status"]) == ("cancelling", "cancelled")
    assert batch["cancelling_at"] <= batch["cancelled_at"]
    assert [each["custom_id"] for each in written] == ["0", "1"]
    assert [(each["custom_id"], each["error"]["code"]) for each in errors] == [("slow", "batch_cancelled")]
    assert batch["request_counts"] == {"total": 3, "completed": 2, "failed": 1}
    assert (again.status_code, again.json()["status"]) == (200, "cancelled")


async def test_what_is_over_cannot_be_cancelled(storing: Serve) -> None:
    async with storing() as http:
        batch = await over(http, await created(http, embeddings_of("a")))
        refused = await http.post(f"/v1/batches/{batch['id']}/cancel")

    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "conflict")


async def test_another_keys_files_and_batches_are_not_there(storing: Serve, tmp_path: Path) -> None:
    keys = tmp_path / "keys.json"
    alice, bob = [{"authorization": f"Bearer {create_key(keys, name)}"} for name in ("alice", "bob")]
    async with storing(api_keys_file=keys) as http:
        http.headers.update(alice)
        batch = await over(http, await created(http, embeddings_of("a")))
        http.headers.update(bob)
        paths = [f"/v1/batches/{batch['id']}", f"/v1/files/{batch['output_file_id']}"]
        seen = [await http.get(path) for path in (*paths, f"{paths[1]}/content")]
        seen += [await http.delete(paths[1]), await http.post(f"{paths[0]}/cancel")]
        lists = [(await http.get(path)).json()["data"] for path in ("/v1/files", "/v1/batches")]
        body = {"input_file_id": batch["input_file_id"], "endpoint": "/v1/embeddings", "completion_window": "24h"}
        refused = await http.post("/v1/batches", json=body)
        http.headers.update(alice)
        assert [(await http.get(path)).status_code for path in paths] == [200, 200]

    assert [(each.status_code, each.json()["error"]["code"]) for each in seen] == [(404, "not_found")] * 5
    assert lists == [[], []]
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "input_file_id")


async def test_a_line_gets_the_models_of_its_key_until_that_is_revoked(
    storing: Serve, client: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keyring, "_LOOK_AGAIN_S", 0.0)
    keys = tmp_path / "keys.json"
    alice = create_key(keys, "alice", models=["letters"])
    root = create_key(keys, "root")
    lines = [*embeddings_of("a"), line("b", {"model": "overlap", "input": "b"})]
    async with storing(api_keys_file=keys) as http:
        http.headers.update({"authorization": f"Bearer {alice}"})
        batch = await over(http, await created(http, lines))
        (closed,) = await answers(http, batch["error_file_id"])
        client.busy = OverloadedError("full")
        unfinished = await created(http, embeddings_of("a"))
        revoke_key(keys, "alice")
        client.busy = None
        http.headers.update({"authorization": f"Bearer {root}"})

        async def failed() -> bool:
            return 'results_total{result="failed"} 2.0' in (await http.get("/metrics")).text

        await eventually(failed)
        create_key(keys, "alice")
        assert unfinished["status"] == "validating"

    assert (batch["request_counts"]["completed"], closed["custom_id"]) == (1, "b")
    assert closed["response"]["body"]["error"]["code"] == "model_not_found"


async def test_the_tokens_of_lines_count_and_half_of_them_is_left_to_requests(storing: Serve, tmp_path: Path) -> None:
    keys = tmp_path / "keys.json"
    alice = create_key(keys, "alice", tokens_per_minute=400)
    async with storing(api_keys_file=keys) as http:
        http.headers.update({"authorization": f"Bearer {alice}"})
        batch = await created(http, embeddings_of(["abcdefgh"] * 200))  # of ten tokens each

        async def some_are_put_off() -> bool:
            return 'results_total{result="put off"} 0.0' not in (await http.get("/metrics")).text

        await eventually(some_are_put_off)
        asked = await http.post("/v1/embeddings", json={"model": "letters", "input": "abc"})
        counts = (await fetched(http, batch))["request_counts"]

    assert asked.status_code == 200
    assert counts["failed"] == 0
    assert 0 < counts["completed"] < 40


async def test_a_key_may_have_so_many_batches_that_are_not_over(storing: Serve, client: StandIn) -> None:
    client.gate = asyncio.Event()
    async with storing(batch_key_batches=1) as http:
        batch = await created(http, embeddings_of("a"))
        body = {"input_file_id": batch["input_file_id"], "endpoint": "/v1/embeddings", "completion_window": "24h"}
        refused = await http.post("/v1/batches", json=body)
        client.gate.set()
        await over(http, batch)
        allowed = await http.post("/v1/batches", json=body)

    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "storage_quota_exceeded")
    assert allowed.status_code == 200


@pytest.mark.parametrize(
    ("changes", "status", "param"),
    [
        pytest.param({"input_file_id": "file-none"}, 400, "input_file_id", id="no such file"),
        pytest.param({"input_file_id": "\0"}, 400, "input_file_id", id="no id at all"),
        pytest.param({"endpoint": "/v1/chat/completions"}, 400, "endpoint", id="another path"),
        pytest.param({"completion_window": "1y"}, 400, "completion_window", id="too long"),
        pytest.param({"completion_window": None}, 422, "completion_window", id="no window"),
        pytest.param({"metadata": {"a": 7}}, 422, "metadata.a", id="metadata that is no string"),
        pytest.param({"metadata": {str(n): "" for n in range(17)}}, 400, "metadata", id="too much metadata"),
        pytest.param(
            {"output_expires_after": {"anchor": "created_at", "seconds": 1}},
            400,
            "output_expires_after.seconds",
            id="gone too soon",
        ),
    ],
)
async def test_a_batch_that_cannot_be_is_refused(
    storing: Serve, changes: dict[str, Any], status: int, param: str
) -> None:
    async with storing() as http:
        file = await uploaded(http, jsonl(embeddings_of("a")))
        body = {"input_file_id": file["id"], "endpoint": "/v1/embeddings", "completion_window": "24h"}
        refused = await http.post("/v1/batches", json={**body, **changes})

    assert (refused.status_code, refused.json()["error"]["param"]) == (status, param)


async def test_lists_are_gone_through_from_the_newest_on(storing: Serve) -> None:
    async with storing() as http:
        ids = [(await created(http, embeddings_of("a")))["id"] for _ in range(5)]
        seen: list[str] = []
        page: dict[str, Any] = {"has_more": True, "last_id": None}
        while page["has_more"]:
            after = {"after": page["last_id"]} if page["last_id"] else {}
            page = (await http.get("/v1/batches", params={"limit": 2, **after})).json()
            seen += [batch["id"] for batch in page["data"]]
        wrong = [(await http.get("/v1/batches", params={"limit": limit})).status_code for limit in ("0", "101", "x")]
        unknown = await http.get("/v1/batches", params={"after": "batch_none"})

    assert seen == ids[::-1]
    assert wrong == [400, 400, 400]
    assert unknown.status_code == 404


async def test_requests_go_before_lines_and_have_most_of_the_room(storing: Serve, client: StandIn) -> None:
    client.gate = asyncio.Event()
    async with storing(max_in_flight_requests=8) as http:
        batch = await created(http, embeddings_of(["x"] * 50))
        await eventually(client.entered.is_set)
        asked = asyncio.create_task(http.post("/v1/embeddings", json={"model": "letters", "input": "now"}))
        client.gate.set()
        assert (await asked).status_code == 200
        batch = await over(http, batch)

    assert batch["request_counts"]["completed"] == 50


async def test_without_a_database_there_are_none_and_it_is_said_how_to_have_them(http: httpx.AsyncClient) -> None:
    upload = await http.post("/v1/files", files={"file": ("a", b"a")}, data={"purpose": "batch"})
    asked = [upload, *[await http.get(path) for path in ("/v1/files", "/v1/files/x/content", "/v1/batches")]]

    assert [each.status_code for each in asked] == [404] * 4
    assert all("CONCH_BATCH_DATABASE" in each.json()["error"]["message"] for each in asked)


async def test_a_stopped_gateway_lets_go_of_its_lines_and_the_next_goes_on(storing: Serve, client: StandIn) -> None:
    client.gate = asyncio.Event()
    async with storing() as http:
        batch = await created(http, embeddings_of("abc"))
        await eventually(client.entered.is_set)
    client.gate = None
    client.opened = True
    async with storing() as http:
        batch = await over(http, batch)

    assert batch["request_counts"] == {"total": 3, "completed": 3, "failed": 0}


async def test_one_gateway_alone_has_a_file(storing: Serve) -> None:
    async with storing():
        with pytest.raises(BatchSettingError, match="another gateway"):
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
    with pytest.raises(BatchSettingError, match="CONCH_BATCH_DATABASE") as refused:
        create_app(GatewaySettings(batch_database=setting), client)

    assert SECRET not in str(refused.value)
    assert refused.value.__suppress_context__


async def test_a_file_that_cannot_be_written_ends_the_start(http_with: Serve, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BatchSettingError, match="name a file"):
        async with http_with(batch_database=str(tmp_path / "file" / "batches.db")):
            pass


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

    with pytest.raises(BatchSettingError, match=r"pip install 'conch\[database\]'"):
        create_app(GatewaySettings(batch_database=str(tmp_path / "batches.db")), client)


async def test_answers_are_what_the_document_says(storing: Serve, client: StandIn) -> None:
    document = create_app(GatewaySettings(), client).openapi()

    def check(method: str, path: str, answer: httpx.Response) -> dict[str, Any]:
        described = document["paths"][path][method]["responses"]["200"]["content"]["application/json"]["schema"]
        content: dict[str, Any] = answer.json()
        jsonschema.validate(content, {**described, "components": document["components"]})
        return content

    async with storing() as http:
        content = jsonl([*embeddings_of("ab"), line("c", {})])
        upload = await http.post("/v1/files", files={"file": ("a", content)}, data={"purpose": "batch"})
        file = check("post", "/v1/files", upload)
        body = {"input_file_id": file["id"], "endpoint": "/v1/embeddings", "completion_window": "24h"}
        batch = check("post", "/v1/batches", await http.post("/v1/batches", json=body))
        await over(http, batch)
        check("get", "/v1/batches/{batch_id}", await http.get(f"/v1/batches/{batch['id']}"))
        check("get", "/v1/batches", await http.get("/v1/batches"))
        check("get", "/v1/files", await http.get("/v1/files"))
        check("get", "/v1/files/{file_id}", await http.get(f"/v1/files/{file['id']}"))
        check("delete", "/v1/files/{file_id}", await http.delete(f"/v1/files/{file['id']}"))
