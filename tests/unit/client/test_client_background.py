"""What a client does beside the calls goes on after a failure that nobody foresaw, which is logged."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from conch_client import AsyncClient, Client, InvalidInputError
from conch_client._transport import aio, threads

from tests.waiting import eventually, until

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (aio, threads):
        monkeypatch.setattr(module, "_AGAIN_S", 0.01)


def failing_twice() -> tuple[list[int], Callable[[], None]]:
    """Work that ends at the third time, and a number for each time."""
    begun: list[int] = []

    def work() -> None:
        begun.append(len(begun))
        if len(begun) < 3:
            raise RuntimeError("a defect")

    return begun, work


async def test_a_task_begins_again(caplog: pytest.LogCaptureFixture) -> None:
    begun, work = failing_twice()

    async def awaited() -> None:
        work()

    background = aio.Background()
    background.start(awaited)
    await eventually(lambda: not background._tasks)
    assert begun == [0, 1, 2]
    assert caplog.text.count("RuntimeError: a defect") == 2


def test_a_thread_begins_again(caplog: pytest.LogCaptureFixture) -> None:
    begun, work = failing_twice()
    background = threads.Background()
    background.start(work)
    until(lambda: len(begun) == 3)
    background.end()
    assert caplog.text.count("RuntimeError: a defect") == 2


@pytest.mark.parametrize("kind", [AsyncClient, Client])
@pytest.mark.parametrize("host", ["tri..ton", "t" * 64])
def test_a_host_that_no_name_server_can_know_is_refused_at_once(kind: type[Client | AsyncClient], host: str) -> None:
    with pytest.raises(InvalidInputError, match="no name server can know"):
        kind(f"dns:///{host}:8001")
