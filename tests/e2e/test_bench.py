"""`conch bench` against a real Triton and a real gateway, with a load too small to say anything about speed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import typer
from conch.bench import bench
from conch.capacity import engine, gateway, measuring
from conch.capacity.need import Need
from conch.capacity.profile import Profile
from conch.capacity.sizing import size
from typer.testing import CliRunner, Result

from tests.documented import keys_of
from tests.serving import Serving

if TYPE_CHECKING:
    from pathlib import Path

MODEL = "all-minilm-l6-v2-int8"
TINY = ("--concurrency", "2", "--duration", "0.3", "--model", MODEL)


@pytest.fixture
def urls(triton: Serving, gateway_url: str) -> dict[str, str]:
    return {"grpc": triton.grpc_url, "http": gateway_url}


def run(*arguments: str) -> Result:
    app = typer.Typer()
    app.command()(bench)
    return CliRunner().invoke(app, arguments)


@pytest.mark.parametrize("way", ["grpc", "http"])
def test_a_served_model_is_measured(urls: dict[str, str], way: str) -> None:
    done = run(urls[way], *TINY, "--lengths", "16", "--batch", "3", "--json")

    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert set(report) == keys_of("conch bench")
    assert (report["model"], report["batch"], report["errors"]) == (MODEL, 3, {})
    assert report["texts"] > 0
    assert report["tokens"] == 16 * report["texts"]
    assert 0 < report["latency_ms"]["p50"] <= report["latency_ms"]["p99"]
    assert "texts/s" in run(urls[way], *TINY).output


@pytest.mark.parametrize("way", ["grpc", "http"])
def test_own_texts_are_sent_and_their_tokens_counted(urls: dict[str, str], way: str, tmp_path: Path) -> None:
    texts = tmp_path / "texts"
    texts.write_text("hello world\n", encoding="utf-8")

    done = run(urls[way], *TINY, "--texts", str(texts), "--json")

    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert report["tokens"] == 4 * report["texts"]


@pytest.mark.parametrize("way", ["grpc", "http"])
def test_a_model_that_is_not_served_is_named_with_those_that_are(urls: dict[str, str], way: str) -> None:
    done = run(urls[way], "--model", "gpt-9")

    assert done.exit_code == 1
    assert "gpt-9" in done.stderr
    assert MODEL in done.stderr


@pytest.fixture
def _tiny_profiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "SECONDS", 0.1)
    monkeypatch.setattr(measuring, "ROUNDS", 1)
    for probe in (engine, gateway):
        monkeypatch.setattr(probe, "WARM_UP_S", 0.05)
    monkeypatch.setattr(engine, "LENGTHS", (15, 63, 511))


@pytest.mark.usefixtures("_tiny_profiles")
def test_a_profile_of_triton_and_gateway_is_measured_and_plans_a_load(urls: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "profile.json"

    done = run(urls["http"], "--model", MODEL, "--triton-url", urls["grpc"], "--profile", str(path))

    assert done.exit_code == 0, done.output
    profile = Profile.read(path)
    assert profile.model == MODEL
    shapes = [call.lengths for call in profile.calls]
    assert all(shape in shapes for shape in ([15], [15] * 8, [63], list(engine.MIXED)))
    assert all(call.rows_per_run >= 1 for call in profile.calls)
    assert {(request.clients, request.pause_ms > 0) for request in profile.requests} == {
        (1, False),
        (1, True),
        (32, False),
    }
    assert profile.engine.run_s([64]) > profile.engine.run_s([16]) > 0
    assert profile.gateway is not None
    need = Need(0.5 / profile.engine.run_s([16]), [16], p99_s=10)
    assert size(profile, need).replicas >= 1


@pytest.mark.usefixtures("_tiny_profiles")
def test_a_gateway_that_answers_from_its_cache_is_no_profile(urls: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "profile.json"

    with Serving(None, tmp_path, CONCH_TRITON_URL=urls["grpc"], CONCH_CACHE_MB="1") as serving:
        done = run(serving.url, "--model", MODEL, "--triton-url", urls["grpc"], "--profile", str(path))

    assert done.exit_code == 1
    assert "answers from its cache; start it without CONCH_CACHE_MB" in done.stderr
    assert not path.exists()


def test_a_triton_that_is_not_the_gateway_s_is_no_profile_of_both(urls: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "profile.json"

    done = run(urls["http"], "--model", MODEL, "--triton-url", "127.0.0.1:1", "--profile", str(path))

    assert done.exit_code == 1
    assert "127.0.0.1:1" in done.stderr
    assert not path.exists()


@pytest.mark.parametrize("url", ["127.0.0.1:1", "http://127.0.0.1:1"], ids=["grpc", "http"])
def test_a_server_that_is_not_there_is_said_to_be(url: str) -> None:
    done = run(url)

    assert done.exit_code == 1
    assert url in done.stderr
