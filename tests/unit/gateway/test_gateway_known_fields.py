"""No field that a provider documents is ignored where that would change a number."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.known_fields import ENDPOINTS, Endpoint

if TYPE_CHECKING:
    import httpx

    from tests.unit.gateway.conftest import StandIn

PAGE = Path(__file__).parents[3] / "docs" / "rest.md"
PASSING = {"id", "created", "total_duration"}


def cases(kind: str) -> list[Any]:
    return [
        pytest.param(endpoint, name, value, id=f"{endpoint.provider} {endpoint.path} {name}")
        for endpoint in ENDPOINTS
        for name, value in getattr(endpoint, kind).items()
    ]


@pytest.fixture
def raw(every_kind: StandIn) -> StandIn:
    """The stand-in with models whose vectors are not normalised as served."""
    every_kind.served = [replace(info, normalized=False) for info in every_kind.served]
    return every_kind


async def outcome(http: httpx.AsyncClient, client: StandIn, endpoint: Endpoint, **fields: Any) -> Any:
    """What a caller gets, and what the model was asked."""
    client.calls.clear()
    response = await http.post(endpoint.path, json={**endpoint.body, **fields})
    assert response.status_code == 200, response.text
    answer = response.json()
    if isinstance(answer, dict):
        answer = {name: value for name, value in answer.items() if name not in PASSING}
    calls = [(call, {**options, "request_id": None, "timeout_s": None}) for call, options in client.calls]
    return answer, calls


@pytest.mark.parametrize(("endpoint", "name", "value"), cases("honoured"))
async def test_what_is_honoured_makes_a_difference(
    http: httpx.AsyncClient, raw: StandIn, endpoint: Endpoint, name: str, value: object
) -> None:
    assert await outcome(http, raw, endpoint, **{name: value}) != await outcome(http, raw, endpoint)


@pytest.mark.parametrize(("endpoint", "name", "value"), cases("refused"))
async def test_what_is_not_served_is_refused_by_name(
    http: httpx.AsyncClient, raw: StandIn, endpoint: Endpoint, name: str, value: object
) -> None:
    response = await http.post(endpoint.path, json={**endpoint.body, name: value})

    assert (response.status_code, name in response.text, raw.calls) == (400, True, [])


@pytest.mark.parametrize(("endpoint", "name", "value"), cases("idle"))
async def test_what_has_no_effect_is_documented(
    http: httpx.AsyncClient, raw: StandIn, endpoint: Endpoint, name: str, value: object
) -> None:
    section = re.search(r"## Fields without effect\n(.*?)\n## ", PAGE.read_text(encoding="utf-8"), re.S)

    assert await outcome(http, raw, endpoint, **{name: value}) == await outcome(http, raw, endpoint)
    assert section is not None
    assert f"`{name}`" in section.group(1)
