"""OpenAI's files: what is uploaded comes back, belongs to its key, and is gone when it should be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from conch_gateway.auth.keys import create_key
from conch_gateway.batches.files import Files

from tests.batching import created, embeddings_of, over, uploaded

if TYPE_CHECKING:
    from pathlib import Path

    import httpx

    from tests.unit.gateway.conftest import Serve

FORM = {"content-type": "multipart/form-data; boundary=b"}


def part(name: str, content: bytes, filename: str = "") -> bytes:
    file = f'; filename="{filename}"' if filename else ""
    return f'--b\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'.encode() + content + b"\r\n"


async def content(http: httpx.AsyncClient, file: dict[str, Any]) -> bytes:
    return (await http.get(f"/v1/files/{file['id']}/content")).content


@pytest.mark.parametrize("size", [0, 1, 256 * 1024, 256 * 1024 + 1, 1_000_000])
async def test_what_is_uploaded_comes_back(storing: Serve, size: int) -> None:
    sent = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    async with storing(max_body_bytes=1000) as http:
        file = await uploaded(http, sent)
        assert await content(http, file) == sent
        described = (await http.get(f"/v1/files/{file['id']}")).json()

    assert file == described
    assert (file["bytes"], file["filename"], file["purpose"]) == (size, "input.jsonl", "batch")
    assert file["expires_at"] - file["created_at"] == 30 * 86_400


async def test_below_the_path_of_another_server_a_file_may_be_as_large(storing: Serve) -> None:
    async with storing(max_body_bytes=1000) as http:
        http._transport.root_path = "/api"  # type: ignore[attr-defined]
        http.base_url = http.base_url.join("/api")
        file = await uploaded(http, b"x" * 2000)

    assert file["bytes"] == 2000


async def test_head_tells_the_size_of_a_file_and_reads_none_of_it(
    storing: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with storing() as http:
        file = await uploaded(http, "abc")
        monkeypatch.setattr(Files, "content", None)
        answer = await http.head(f"/v1/files/{file['id']}/content")

    assert (answer.status_code, answer.headers["content-length"]) == (200, "3")


async def test_the_fields_of_a_form_may_come_in_any_order_and_pieces(storing: Serve) -> None:
    sent = part("file", b"a\r\n--c\r\nb", "a b.jsonl") + part("purpose", b"batch") + b"--b--\r\n"

    async def letters() -> Any:
        for at in range(len(sent)):
            yield sent[at : at + 1]

    async with storing() as http:
        file = (await http.post("/v1/files", content=letters(), headers=FORM)).json()
        assert await content(http, file) == b"a\r\n--c\r\nb"
        assert file["filename"] == "a b.jsonl"


async def test_a_file_says_when_it_goes(storing: Serve) -> None:
    expiry = {"expires_after[anchor]": "created_at", "expires_after[seconds]": "3600"}
    async with storing() as http:
        file = await uploaded(http, "a", **expiry)

    assert file["expires_at"] - file["created_at"] == 3600


@pytest.mark.parametrize(
    ("sent", "headers", "status", "code"),
    [
        pytest.param(b"{}", {"content-type": "application/json"}, 422, "wrong_type", id="JSON"),
        pytest.param(b"a", {"content-type": "multipart/form-data"}, 422, "wrong_type", id="no boundary"),
        pytest.param(b"a", FORM, 400, "malformed_json", id="no form"),
        pytest.param(part("file", b"a", "a"), FORM, 400, "malformed_json", id="cut off"),
        pytest.param(part("purpose", b"batch") + b"--b--\r\n", FORM, 422, "wrong_type", id="no file"),
        pytest.param(part("file", b"a", "a") + b"--b--\r\n", FORM, 422, "wrong_type", id="no purpose"),
        pytest.param(
            part("file", b"a", "a") + part("purpose", b"vision") + b"--b--\r\n", FORM, 400, "invalid_value", id="images"
        ),
        pytest.param(part("file", b"a", "a") * 2 + b"--b--\r\n", FORM, 400, "invalid_value", id="two files"),
        pytest.param(part("purpose", b"a" * 66_000) + b"--b--\r\n", FORM, 400, "invalid_value", id="a long field"),
        pytest.param(
            part("file", b"a", "a") + part("purpose", b"batch") + part("expires_after[seconds]", b"1") + b"--b--\r\n",
            FORM,
            400,
            "invalid_value",
            id="gone too soon",
        ),
        pytest.param(part("file", b"a" * 2000, "a") + b"--b--\r\n", FORM, 413, "body_too_large", id="too large"),
        pytest.param(b"a" * 200_000, FORM, 413, "body_too_large", id="far too large"),
    ],
)
async def test_a_form_that_is_wrong_is_refused_and_leaves_nothing(
    storing: Serve, sent: bytes, headers: dict[str, str], status: int, code: str
) -> None:
    async with storing(batch_file_bytes=1000, batch_key_files=1) as http:
        refused = await http.post("/v1/files", content=sent, headers=headers)
        await uploaded(http, "the only file")

    assert (refused.status_code, refused.json()["error"]["code"]) == (status, code)


async def test_a_form_of_many_fields_is_refused_before_it_fills_the_memory(storing: Serve) -> None:
    fields = b"".join(part(f"x{number}", b"") for number in range(5000))
    async with storing(batch_file_bytes=10**6) as http:
        refused = await http.post("/v1/files", content=fields + b"--b--\r\n", headers=FORM)

    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "invalid_value")
    assert "the fields beside the file" in refused.json()["error"]["message"]


async def test_a_form_of_long_headers_is_refused_before_it_fills_the_memory(storing: Serve) -> None:
    headers = b"".join(b"X-%d: %b\r\n" % (number, b"a" * 4000) for number in range(7))
    fields = b"".join(
        part(f"x{number}", b"").replace(b"\r\n\r\n", b"\r\n" + headers + b"\r\n", 1) for number in range(3)
    )
    async with storing(batch_file_bytes=10**6) as http:
        refused = await http.post("/v1/files", content=fields + b"--b--\r\n", headers=FORM)

    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "invalid_value")
    assert "the fields beside the file" in refused.json()["error"]["message"]


async def test_a_key_may_have_so_many_files_and_bytes(storing: Serve, tmp_path: Path) -> None:
    keys = tmp_path / "keys.json"
    alice, bob = [{"authorization": f"Bearer {create_key(keys, name)}"} for name in ("alice", "bob")]
    form = {"files": {"file": ("a", b"a" * 40)}, "data": {"purpose": "batch"}}
    async with storing(api_keys_file=keys, batch_key_files=2, batch_key_bytes=100) as http:
        first, second, third = [await http.post("/v1/files", headers=alice, **form) for _ in range(3)]  # type: ignore[arg-type]
        await http.delete(f"/v1/files/{first.json()['id']}", headers=alice)
        large = await http.post("/v1/files", headers=alice, files={"file": ("a", b"a" * 61)}, data={"purpose": "batch"})
        fits = await http.post("/v1/files", headers=alice, files={"file": ("a", b"a" * 60)}, data={"purpose": "batch"})
        others = await http.post("/v1/files", headers=bob, **form)  # type: ignore[arg-type]

    assert [each.status_code for each in (first, second, third, large, fits, others)] == [200, 200, 403, 403, 200, 200]
    assert "delete some" in third.json()["error"]["message"]


async def test_files_are_listed_by_purpose_and_time(storing: Serve) -> None:
    async with storing() as http:
        batch = await over(http, await created(http, embeddings_of("ab")))
        last = await uploaded(http, "b")

        async def listed(**query: Any) -> list[str]:
            answer = await http.get("/v1/files", params=query)
            return [file["id"] for file in answer.json()["data"]]

        first, output = batch["input_file_id"], batch["output_file_id"]
        assert await listed() == [last["id"], output, first]
        assert await listed(order="asc") == [first, output, last["id"]]
        assert await listed(purpose="batch_output") == [output]
        assert await listed(order="asc", after=first, limit=1) == [output]
        wrong = [(await http.get("/v1/files", params=query)).status_code for query in ({"limit": 0}, {"order": "up"})]

    assert wrong == [400, 400]


async def test_a_deleted_file_is_gone_and_so_are_answers(storing: Serve) -> None:
    async with storing() as http:
        batch = await over(http, await created(http, embeddings_of("ab")))
        path = f"/v1/files/{batch['output_file_id']}"
        deleted = await http.delete(path)
        gone = [await http.get(path), await http.get(f"{path}/content"), await http.delete(path)]

    assert deleted.json() == {"id": batch["output_file_id"], "object": "file", "deleted": True}
    assert [each.status_code for each in gone] == [404] * 3


@pytest.mark.parametrize("file_id", ["file-none", "%00", "a%20b", "x" * 300])
async def test_what_was_never_a_file_is_not_found(storing: Serve, file_id: str) -> None:
    async with storing() as http:
        answer = await http.get(f"/v1/files/{file_id}")

    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")


async def test_a_name_from_elsewhere_is_harmless(storing: Serve) -> None:
    name = "../ä\r\nset-cookie: a=b\0" + "x" * 300
    form = part("file", b"a", "x").replace(b'filename="x"', f'filename="{name}"'.encode())
    async with storing() as http:
        sent = form.replace(b"\r\nset", b"set") + part("purpose", b"batch") + b"--b--\r\n"
        file = (await http.post("/v1/files", content=sent, headers=FORM)).json()
        answer = await http.get(f"/v1/files/{file['id']}/content")

    assert file["filename"].isprintable()
    assert len(file["filename"]) == 255
    assert answer.headers["content-disposition"].isascii()
    assert answer.content == b"a"
