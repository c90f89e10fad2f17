"""Shadow traffic: a share of an alias' texts is embedded by another model too, which nobody waits for or pays for."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import numpy as np
import pytest
from conch_client import DeadlineExceededError
from conch_gateway import GatewaySettings, create_app
from conch_gateway.auth.keys import create_key
from conch_gateway.errors import ModelsFileError
from conch_gateway.inference.shadows import Recent
from prometheus_client.parser import text_string_to_metric_families

from tests.unit.gateway.conftest import Serve, StandIn, model_info
from tests.waiting import eventually

if TYPE_CHECKING:
    from pathlib import Path

    import httpx

URL = "/v1/embeddings"
LABELS = {"model": "letters", "shadow": "numbers"}


@pytest.fixture
def models_file(tmp_path: Path, client: StandIn) -> Path:
    client.served.append(model_info("numbers", "embedding"))
    path = tmp_path / "models.toml"
    path.write_text('[search]\nmodel = "letters"\nshadow = "numbers"\nshadow_share = 1.0\n')
    return path


async def metric(http: httpx.AsyncClient, name: str, **labels: str) -> float:
    """The value of a sample, 0 where there is none."""
    families = text_string_to_metric_families((await http.get("/metrics")).text)
    samples = (sample for family in families for sample in family.samples if sample.name == name)
    return next((sample.value for sample in samples if sample.labels == {**LABELS, **labels}), 0.0)


async def outcomes(http: httpx.AsyncClient, outcome: str) -> float:
    return await metric(http, "conch_gateway_shadow_requests_total", outcome=outcome)


async def outcomes_are(http: httpx.AsyncClient, outcome: str, count: int) -> bool:
    return await outcomes(http, outcome) == count


def calls_of(client: StandIn, model: str) -> int:
    """How many calls have asked a model for vectors."""
    return sum(name == "embed" and options["model"] == model for name, options in client.calls)


async def test_a_share_is_embedded_by_both_and_answered_by_one(
    http_with: Serve, models_file: Path, client: StandIn
) -> None:
    async with http_with(models_file=models_file) as http:
        for number in range(5):
            texts = [f"{number}{place} text" for place in range(9)]
            answer = await http.post(URL, json={"model": "search", "input": texts})
            assert (answer.json()["model"], len(answer.json()["data"])) == ("letters", 9)
            await eventually(lambda number=number: outcomes_are(http, "compared", number + 1))  # type: ignore[misc]
        # Eight texts of each; the first ones have too few neighbours. Both stand-ins have the same vectors.
        counted = await metric(http, "conch_gateway_shadow_agreement_count")
        assert counted == 5 * 8 - 32
        assert await metric(http, "conch_gateway_shadow_agreement_sum") == counted
        assert await metric(http, "conch_gateway_shadow_correlation_sum") == pytest.approx(counted)
        assert await metric(http, "conch_gateway_shadow_time_ratio_count") == 5
        asked = calls_of(client, "numbers")

        assert (await http.post(URL, json={"model": "letters", "input": "direct"})).status_code == 200
        assert (await http.post(URL, json={"model": "search", "input": [[101, 97, 102]]})).status_code == 200
        assert (await http.post(URL, json={"model": "search", "input": "a", "dimensions": 4})).status_code == 200
        # Neither the model itself, nor ids of its tokenizer, nor short vectors.
        assert calls_of(client, "numbers") == asked


async def test_a_shadow_that_is_busy_is_left_out_and_one_that_hangs_holds_up_nothing(
    http_with: Serve, models_file: Path, client: StandIn
) -> None:
    stuck = asyncio.Event()
    work = client._work

    async def hang(name: str, options: dict[str, object]) -> None:
        await work(name, options)
        if options["model"] == client.served[-1]:
            await stuck.wait()

    client._work = hang  # type: ignore[method-assign]
    async with http_with(models_file=models_file) as http:
        for _ in range(3):
            assert (await http.post(URL, json={"model": "search", "input": "a"})).status_code == 200
        await eventually(lambda: calls_of(client, "numbers") == 1)
        await eventually(lambda: outcomes(http, "dropped"))
        assert await outcomes(http, "dropped") == 2
    # The gateway has stopped, although nothing has set `stuck`.


async def test_a_failure_of_the_shadow_is_counted_and_nobody_elses(
    http_with: Serve, models_file: Path, client: StandIn
) -> None:
    work = client._work

    async def fail(name: str, options: dict[str, object]) -> None:
        await work(name, options)
        if options["model"] == client.served[-1]:
            raise DeadlineExceededError("too slow")

    client._work = fail  # type: ignore[method-assign]
    async with http_with(models_file=models_file) as http:
        assert (await http.post(URL, json={"model": "search", "input": "a"})).status_code == 200
        await eventually(lambda: outcomes(http, "failed"))
        client.served.pop()
        assert (await http.post(URL, json={"model": "search", "input": "a"})).status_code == 200
        await eventually(lambda: outcomes_are(http, "failed", 2))


async def test_the_caller_pays_for_the_answer_alone(
    http_with: Serve, models_file: Path, client: StandIn, tmp_path: Path
) -> None:
    keys = tmp_path / "keys.json"
    secret = create_key(keys, "caller", models=["search"], tokens_per_minute=8)
    headers = {"authorization": f"Bearer {secret}"}
    async with http_with(models_file=models_file, api_keys_file=keys) as http:
        answer = await http.post(URL, json={"model": "search", "input": "abcd"}, headers=headers)
        assert answer.json()["usage"]["total_tokens"] == 6
        await eventually(lambda: calls_of(client, "numbers") == 1)  # which the key itself does not open
        again = await http.post(URL, json={"model": "search", "input": "abcd"}, headers=headers)
    assert again.status_code == 200  # of 8 tokens 6 were used, and not 12


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ('model = "letters"\nshadow_share = 0.1', "shadow_share without shadow"),
        ('model = "letters"\nshadow = "letters"', "shadow is the model itself"),
        ('model = "letters"\nshadow = "b"\nshadow_share = 2', "less than or equal to 1"),
        ('model = "letters"\nshadow = "other"\n[other]\nmodel = "letters"', "shadow is an alias"),
    ],
)
def test_a_table_that_cannot_be_meant_is_refused(table: str, message: str, client: StandIn, tmp_path: Path) -> None:
    path = tmp_path / "models.toml"
    path.write_text(f"[search]\n{table}\n")
    with pytest.raises(ModelsFileError, match=message):
        create_app(GatewaySettings(models_file=path), client)


def test_models_that_turn_a_space_agree_and_those_that_know_nothing_of_each_other_do_not() -> None:
    random = np.random.default_rng(0)
    ours = random.standard_normal((300, 16)).astype(np.float32)
    turn, _ = np.linalg.qr(random.standard_normal((16, 16)))
    for theirs, least, most in ((ours @ turn, 0.99, 1.0), (random.standard_normal((300, 8)), 0.0, 0.2)):
        found = np.array(Recent().compare(ours, theirs.astype(np.float32)))
        assert found.shape == (300 - 32, 2)
        assert (least <= found.mean(axis=0)).all()
        assert (found.mean(axis=0) <= most + 1e-6).all()


def test_texts_that_come_again_and_again_do_not_make_models_agree() -> None:
    random = np.random.default_rng(0)
    ours, theirs = (random.standard_normal((64, 16)).astype(np.float32) for _ in range(2))
    often = np.array([*range(64), *random.integers(0, 8, 400)])
    rounding = 1 + 1e-6 * random.standard_normal((len(often), 16)).astype(np.float32)
    recent = Recent()
    assert len(recent.compare(ours[often] * rounding, theirs[often])) == 64 - 32
    found = np.array(recent.compare(*(random.standard_normal((100, 16)).astype(np.float32) for _ in range(2))))
    assert found.shape == (100, 2)
    assert found.mean(axis=0).max() < 0.3
