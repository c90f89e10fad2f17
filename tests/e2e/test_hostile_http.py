"""A few hundred hostile HTTP requests against `conch serve`; `make fuzz` sends the other thousands."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.hostile.http_run import attack

if TYPE_CHECKING:
    from tests.serving import Serving


async def test_nothing_breaks_nothing_is_smuggled_and_neighbours_notice_nothing(triton: Serving) -> None:
    family, said = {process.pid for process in triton.family}, len(triton.said)

    outcome = await attack(triton.url, count=390, seed=1)

    assert not outcome.faults, "\n".join(outcome.faults[:10])
    assert outcome.neighbours > 10
    assert {process.pid for process in triton.family} == family
    assert triton.said[said:] == ""  # what strangers send is no reason to log
