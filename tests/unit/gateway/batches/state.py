"""What two gateways share: a database, and the parts of each that work on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from conch_gateway.batches.closing import Closing
from conch_gateway.batches.files import Files
from conch_gateway.batches.intake import Intake
from conch_gateway.batches.ledger import Ledger
from conch_gateway.batches.lines import Answered, Line, Lines
from conch_gateway.batches.records import Batch, BatchOrder, Limits

from tests.batching import embeddings_of, jsonl

if TYPE_CHECKING:
    from conch_gateway.batches.database import Database

LIMITS = Limits(10**6, 1000, 10**4, 10**7, 100, 100, retention_s=1000)
MOST = 10**6


class State:
    """A database, and the parts that two gateways have of it, which share a clock."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.now = 1_000_000.0
        self.files, self.ledger = Files(database, LIMITS, self.clock), Ledger(database, LIMITS, self.clock)
        self.closing = Closing(database, LIMITS, self.clock)
        self.one, self.other = (Lines(database, name, self.clock) for name in ("one", "other"))
        self.intake = Intake(database, self.files, LIMITS, "one", self.clock)

    def clock(self) -> float:
        return self.now

    async def created(self, count: int, owner: str = "me", text: str = "", **order: Any) -> Batch:
        upload = await self.files.upload(owner)
        await upload.write(jsonl(embeddings_of(f"{text}{number}" for number in range(count))).encode())
        file = await upload.complete("input.jsonl", None)
        asked: dict[str, Any] = {"completion_window": "1h", "window_s": 3600, **order}
        return await self.ledger.create(owner, BatchOrder("/v1/embeddings", file.id, **asked))

    async def batch(self, count: int, owner: str = "me", text: str = "", **order: Any) -> Batch:
        batch = await self.created(count, owner, text, **order)
        await self.intake.step()
        return await self.ledger.get(owner, batch.id)

    async def content(self, file_id: str | None) -> bytes:
        file = await self.files.get("me", file_id or "")
        return b"".join([piece async for piece in self.files.content(file)])


def answered(lines: list[Line], by: str) -> list[Answered]:
    return [Answered(line, f"{line.custom_id} by {by}".encode(), failed=False, tokens=3) for line in lines]
