"""Files and batches as a client sends them: lines of JSON, uploaded, and waited for."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterable

    import httpx

OVER = {"failed", "completed", "expired", "cancelled"}
Fields = dict[str, Any]


def line(custom_id: str, body: Fields, url: str = "/v1/embeddings") -> Fields:
    """A line of an input file."""
    return {"custom_id": custom_id, "method": "POST", "url": url, "body": body}


def embeddings_of(texts: Iterable[str], model: str = "letters") -> list[Fields]:
    """A line for each text, named 0, 1, 2 ..."""
    return [line(str(number), {"model": model, "input": text}) for number, text in enumerate(texts)]


def jsonl(lines: Iterable[Fields]) -> str:
    """The content of a file."""
    return "".join(f"{json.dumps(each)}\n" for each in lines)


async def uploaded(http: httpx.AsyncClient, content: str | bytes, **fields: str) -> Fields:
    """The file object of new content."""
    data = {"purpose": "batch", **fields}
    answer = await http.post("/v1/files", files={"file": ("input.jsonl", content)}, data=data)
    assert answer.status_code == 200, answer.text
    created: Fields = answer.json()
    return created


async def created(http: httpx.AsyncClient, lines: Iterable[Fields] | str, **fields: Any) -> Fields:
    """A new batch of these lines."""
    file = await uploaded(http, lines if isinstance(lines, str) else jsonl(lines))
    body = {"input_file_id": file["id"], "endpoint": "/v1/embeddings", "completion_window": "24h", **fields}
    answer = await http.post("/v1/batches", json=body)
    assert answer.status_code == 200, answer.text
    batch: Fields = answer.json()
    return batch


async def fetched(http: httpx.AsyncClient, batch: Fields) -> Fields:
    """The batch as it is now."""
    answer = await http.get(f"/v1/batches/{batch['id']}")
    assert answer.status_code == 200, answer.text
    found: Fields = answer.json()
    return found


async def over(http: httpx.AsyncClient, batch: Fields) -> Fields:
    """The batch once it is over."""
    found = batch

    async def is_over() -> bool:
        nonlocal found
        found = await fetched(http, batch)
        return found["status"] in OVER

    await eventually(is_over, every_s=0.05)  # each look is a request and a transaction
    return found


async def answers(http: httpx.AsyncClient, file_id: str | None) -> list[Fields]:
    """The lines of a file with answers; none if there is no such file."""
    if file_id is None:
        return []
    content = await http.get(f"/v1/files/{file_id}/content")
    assert content.status_code == 200, content.text
    return [json.loads(each) for each in content.text.splitlines()]
