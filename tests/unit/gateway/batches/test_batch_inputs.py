"""The input files of batches: each line is checked before any is computed, and what is wrong is told by line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.batching import answers, created, embeddings_of, jsonl, line, over

if TYPE_CHECKING:
    from tests.unit.gateway.conftest import Serve, StandIn


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


async def test_a_file_may_begin_with_a_byte_order_mark(storing: Serve) -> None:
    async with storing() as http:
        batch = await over(http, await created(http, "\ufeff" + jsonl(embeddings_of("ab"))))

    assert batch["request_counts"] == {"total": 2, "completed": 2, "failed": 0}
