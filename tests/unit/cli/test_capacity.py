"""Profiles, the costs that are fitted to them, and `conch plan --rate`."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, replace
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest
import typer
from conch.bench import bench
from conch.capacity import measuring, sizing
from conch.capacity.engine import EngineProbe
from conch.capacity.fit import engine_costs, gateway_costs, nonnegative
from conch.capacity.need import Need, duration, rate, sample
from conch.capacity.profile import CallLoad, Profile, ProfileError, RequestLoad
from conch.capacity.sizing import TooSlowError, size
from conch.planning.command import plan
from conch.simulation.costs import EngineCosts, GatewayCosts
from conch_contract import ModelInfo, Task
from typer.testing import CliRunner, Result

from tests.documented import keys_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

ENGINE = EngineCosts(
    instances=2,
    max_rows=8,
    fixed_s=5e-4,
    row_s=1e-4,
    token_s=5e-5,
    square_s=1e-8,
    mixed=1.1,
    call_s=3e-4,
    path_s=2e-4,
    slowdown=1.2,
)
GATEWAY = GatewayCosts(request_s=6e-4, token_s=2e-6, call_s=3e-4, path_s=4e-4, cold_s=1e-3)
PROFILE = Profile("a-model", 256, {"cores": 2}, ENGINE, GATEWAY)


@pytest.fixture(autouse=True)
def _short_simulations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sizing, "REQUESTS", 500)
    monkeypatch.setattr(sizing, "_SECONDS", 0.5)


@pytest.fixture
def profile_path(tmp_path: Path) -> Path:
    path = tmp_path / "profile.json"
    PROFILE.write(path)
    return path


def run(command: Callable[..., None], *arguments: str) -> Result:
    app = typer.Typer()
    app.command()(command)
    return CliRunner().invoke(app, arguments, terminal_width=200)


CLIENT_S = 1e-4


def call(
    lengths: list[int], clients: int, calls_per_run: int, *, shared_cores: bool = False, engine: EngineCosts = ENGINE
) -> CallLoad:
    """What would be measured if calls cost just that: of few clients, or so many merged under load."""
    run_s = engine.run_s(lengths * calls_per_run)
    spent_s = engine.slowdown * (run_s / calls_per_run + engine.call_s) + (CLIENT_S if shared_cores else 0.0)
    lone_ms = 1e3 * (CLIENT_S + engine.path_s + engine.call_s + run_s)
    per_s = 1e3 * clients / lone_ms if clients <= engine.instances else engine.instances / spent_s
    rows = len(lengths) * calls_per_run
    return CallLoad(lengths, clients, per_s, per_s * sum(lengths), {"mean": lone_ms}, rows, 1e3 * run_s, 1e3 * CLIENT_S)


def request(
    tokens: int, clients: int, texts_per_call: float, pause_ms: float = 0.0, *, slowdown: float = 1.0
) -> RequestLoad:
    """The same of a gateway, whose work takes longer while all cores are busy."""
    in_gateway_s = GATEWAY.request_s + GATEWAY.token_s * tokens + GATEWAY.call_s / texts_per_call
    cold_s = GATEWAY.cold_s if pause_ms else 0.0
    at_triton_s = ENGINE.path_s + ENGINE.call_s + ENGINE.run_s([tokens])
    latency_s = CLIENT_S + GATEWAY.path_s + cold_s + in_gateway_s + at_triton_s
    counted_s = in_gateway_s * (slowdown if clients > 1 else 1.0)
    latency_ms, per_s = {"mean": 1e3 * latency_s}, clients / latency_s
    run_ms = 1e3 * ENGINE.run_s([tokens])
    gateway_ms, sender_ms = 1e3 * counted_s, 1e3 * CLIENT_S
    return RequestLoad(tokens, clients, pause_ms, per_s, latency_ms, texts_per_call, gateway_ms, sender_ms, run_ms)


MERGED: dict[tuple[int, ...], int] = {
    **{(tokens,) * rows: 8 // rows for tokens in (16, 64, 128, 256) for rows in (1, min(8, 512 // tokens))},
    (10, 20, 30, 40, 50, 60, 100, 200): 1,
}
"""How many calls share a run under load, by the lengths of a call's texts: equal ones, one or many, and mixed ones."""


def calls(*, shared_cores: bool = False) -> list[CallLoad]:
    """All of them, alone and under load."""
    lone = [call(list(lengths), 1, 1) for lengths in MERGED]
    busy = (call(list(lengths), 8, number, shared_cores=shared_cores) for lengths, number in MERGED.items())
    return [*lone, *busy]


def requests(slowdown: float) -> list[RequestLoad]:
    """Requests one after another, after pauses, and under load. Tokens are a mean of the texts sent in that time."""
    return [
        measured
        for tokens in (16, 64, 256)
        for measured in (
            request(tokens, 1, 1.0),
            request(tokens + 1, 1, 1.0, pause_ms=20.0),
            request(tokens, 32, 4.0, slowdown=slowdown),
        )
    ]


@pytest.mark.parametrize("shared_cores", [False, True], ids=["cores of its own", "the same cores as the sender"])
def test_costs_are_found_again_in_what_they_lead_to(shared_cores: bool) -> None:
    engine, off = engine_costs(calls(shared_cores=shared_cores), 2, 8, shared_cores=shared_cores)

    assert asdict(engine) == pytest.approx(asdict(ENGINE), rel=1e-3)
    assert off < 1e-6
    slower = requests(ENGINE.slowdown if shared_cores else 1.0)
    gateway = gateway_costs(slower, engine, shared_cores=shared_cores)
    assert asdict(gateway) == pytest.approx(asdict(GATEWAY), rel=1e-3)


class WideWhenAlone(EngineProbe):
    """Measures a Triton with four instances, which gives a large model's run every core while no other computes."""

    costs = replace(ENGINE, instances=4)

    def __init__(self) -> None:
        """Nothing is connected."""

    async def version(self) -> str:
        return "2"

    async def hardware(self) -> dict[str, int]:
        return {"cores": 4}

    def shapes(self) -> Iterator[tuple[int, ...]]:
        return iter(MERGED)

    def lengths(self) -> list[int]:
        return []

    async def measure(self, lengths: tuple[int, ...], clients: int, seconds: float) -> CallLoad:  # noqa: ARG002
        found = call(list(lengths), clients, MERGED[lengths] if clients > 4 else 1, engine=self.costs)
        quicker_ms = 0.7 * found.run_ms if clients == 1 else 0.0
        latency_ms = {"mean": found.latency_ms["mean"] - quicker_ms}
        return replace(found, run_ms=found.run_ms - quicker_ms, latency_ms=latency_ms)


async def test_runs_that_have_every_core_while_they_are_alone_are_no_measure_of_those_beside_others() -> None:
    info = ModelInfo(
        name="large", task=Task.EMBEDDING, dimension=768, max_length=256, max_rows=8, instances=4, inputs=(), output="",
        tokenizer="", tokenizer_sha256="", tokenizer_bytes=0,
    )  # fmt: skip

    profile = await measuring._profile(WideWhenAlone(), info, "triton:8001", None, lambda *_: None)

    assert asdict(profile.engine) == pytest.approx(asdict(WideWhenAlone.costs), rel=1e-3)


def test_runs_of_a_gateway_s_lone_requests_may_have_every_core_too() -> None:
    def quicker(measured: RequestLoad) -> RequestLoad:
        saved_ms = 0.7 * measured.run_ms if measured.clients == 1 else 0.0
        latency_ms = {"mean": measured.latency_ms["mean"] - saved_ms}
        return replace(measured, run_ms=measured.run_ms - saved_ms, latency_ms=latency_ms)

    gateway = gateway_costs([quicker(each) for each in requests(1.0)], ENGINE, shared_cores=False)

    assert asdict(gateway) == pytest.approx(asdict(GATEWAY), rel=1e-3)


def test_nothing_is_faster_under_load() -> None:
    faster = [replace(each, per_s=3 * each.per_s) if each.clients > 1 else each for each in calls()]

    engine, _ = engine_costs(faster, 2, 8, shared_cores=False)

    assert (engine.slowdown, engine.call_s) == (1.0, 0.0)


def test_requests_that_took_no_tick_of_processor_time_cost_next_to_nothing() -> None:
    free = [replace(request(tokens, 1, 1.0), gateway_ms=0.0) for tokens in (16, 64)]

    costs = gateway_costs(free, ENGINE, shared_cores=False)

    assert costs.request_s + costs.token_s + costs.call_s < 1e-5


def test_no_cost_is_negative() -> None:
    assert nonnegative([[1, 1], [1, 2], [1, 3]], [3.0, 2.0, 1.0])[1] == 0


def test_a_profile_is_read_as_it_was_written(tmp_path: Path) -> None:
    whole = replace(PROFILE, calls=calls(), requests=[request(16, 1, 1.0)], about={"machine": {"cores": 2}})
    whole.write(tmp_path / "profile.json")

    assert Profile.read(tmp_path / "profile.json") == whole


def damaged(**changed: Any) -> str:
    stated = {"conch_profile": 1, **asdict(PROFILE)}
    return json.dumps({**stated, **changed})


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "no JSON"),
        ("[]", "no profile"),
        (damaged(conch_profile=2), "format 1"),
        (damaged(engine={}), "damaged"),
        (damaged(engine={**asdict(ENGINE), "token_s": -1}), "token_s is -1"),
        (damaged(engine={**asdict(ENGINE), "token_s": "1"}), "token_s is '1'"),
        (damaged(engine={**asdict(ENGINE), "instances": 0}), "at least 1"),
        (damaged(engine={**asdict(ENGINE), "fixed_s": 0, "row_s": 0, "token_s": 0, "square_s": 0}), "no time"),
        (damaged(hardware={"cores": 0}), "at least 1"),
        (damaged(calls=[{}]), "damaged"),
    ],
)
def test_what_is_no_profile_is_refused_with_how_to_make_one(content: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "profile.json"
    path.write_text(content, encoding="utf-8")

    with pytest.raises(ProfileError, match=r"conch bench --profile") as refused:
        Profile.read(path)
    assert said in str(refused.value)


def test_rates_times_and_lengths_are_read_as_people_write_them(tmp_path: Path) -> None:
    path = tmp_path / "lengths"
    path.write_text("12\n\n 300 \n", encoding="utf-8")

    assert [rate(text) for text in ("200/s", "200", "12000/min", "1800/h")] == [200, 200, 200, 0.5]
    assert [duration(text) for text in ("100ms", "0.5s", "50 ms")] == [0.1, 0.5, 0.05]
    assert sample(str(path)) == [12, 300]
    assert set(sample("16")) == {16}
    assert len(set(sample("mixed"))) > 100


def test_lengths_may_be_saved_with_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "lengths"
    path.write_bytes("12\n300\n".encode("utf-8-sig"))

    assert sample(str(path)) == [12, 300]


def test_more_load_or_less_time_takes_no_fewer_replicas() -> None:
    @cache
    def replicas(per_s: float, p99_s: float) -> int:
        return size(PROFILE, Need(per_s, [20, 60, 120], p99_s)).replicas

    by_rate = [replicas(per_s, 0.1) for per_s in (100, 600, 1500)]
    by_time = [replicas(600, p99_s) for p99_s in (0.5, 0.1, 0.025)]
    assert by_rate == sorted(by_rate)
    assert by_time == sorted(by_time)
    assert by_rate[0] == 1
    assert by_rate[-1] > by_rate[1] > 1


def test_replicas_that_are_enough_answer_in_time_and_one_less_does_not() -> None:
    found = size(PROFILE, Need(900, [20, 60, 120], 0.04))

    assert found.chosen.p99_ms <= 40
    assert found.without_one is not None
    assert found.without_one.p99_ms > 40 or found.busy * found.replicas / (found.replicas - 1) > 0.9
    assert found.hardware == {"cores": 2 * found.replicas}
    assert found.gateways == 2


def test_a_load_is_planned_with_its_reasons(profile_path: Path) -> None:
    done = run(plan, "--rate", "200/s", "--p99", "100ms", "--profile", str(profile_path))

    assert done.exit_code == 0, done.output
    assert "a-model: 1 replica with 2 cores in all, 1 gateway" in done.stdout
    assert "p99" in done.stdout


def test_one_replica_less_and_one_lost_are_one_result(profile_path: Path) -> None:
    done = run(plan, "--rate", "300/s", "--p99", "40ms", "--profile", str(profile_path))

    said = " ".join(done.stdout.replace("│", " ").split())
    replicas = re.search(r"a-model: (\d+) replicas", said)
    assert replicas
    results = re.findall(rf"\b{int(replicas[1]) - 1} replicas?: p50 [^:]*", said)
    assert ["as when one is lost" in result for result in results] == [True]


def test_a_plan_for_programs_is_json(profile_path: Path) -> None:
    done = run(plan, "--rate", "200/s", "--lengths", "300", "--profile", str(profile_path), "--json")

    planned = json.loads(done.stdout)
    assert set(planned) == keys_of("conch plan --rate")
    assert (planned["replicas"], planned["hardware"], planned["gateways"]) == (2, {"cores": 4}, 1)
    assert (planned["truncated"], planned["tokens_mean"]) == (1, 256)
    assert planned["chosen"]["p99_ms"] < 100


def test_gateways_that_were_not_measured_are_not_planned(tmp_path: Path) -> None:
    path = tmp_path / "profile.json"
    replace(PROFILE, gateway=None).write(path)

    done = run(plan, "--rate", "20/s", "--profile", str(path))

    assert "not in the profile" in done.stdout


def test_too_little_time_for_a_lone_text_is_no_matter_of_replicas() -> None:
    with pytest.raises(TooSlowError, match="no number of replicas"):
        size(PROFILE, Need(10, [256], 0.01))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--rate", "200/s"], "conch bench --profile FILE"),
        (["--rate", "x"], "200/s"),
        (["--rate", "0/s"], "200/s"),
        (["--rate", "5/fortnight"], "200/s"),
        (["--rate", "5/s", "--p99", "100"], "100ms"),
        (["--p99", "1s"], "--rate 200/s"),
        (["--lengths", "16"], "--rate 200/s"),
        (["--rate", "5/s", "--cores", "4"], "--cores does not go with --rate"),
        (["--rate", "5/s", "--profile", "nowhere.json"], "nowhere.json"),
        (["another-model", "--rate", "5/s", "--profile", "PROFILE"], "is of a-model"),
        (["--rate", "5/s", "--profile", "PROFILE", "--lengths", "zz"], "or a file with the tokens"),
        (["--rate", "5/s", "--profile", "PROFILE", "--lengths", "PROFILE"], "no number of tokens"),
        (["--rate", "5/s", "--profile", "PROFILE", "--lengths", "/proc/self/mem"], "/proc/self/mem cannot be read"),
        pytest.param(
            ["--rate", "5/s", "--profile", "PROFILE", "--lengths", "7" * 300],
            "cannot be read (File name too long)",
            id="too long for a name",
        ),
        (["--rate", "5/s", "--profile", "PROFILE", "--p99", "1ms"], "no number of replicas"),
    ],
    ids=" ".join,
)
def test_a_plan_that_makes_no_sense_is_refused_with_the_fix(
    arguments: list[str], said: str, profile_path: Path
) -> None:
    done = run(plan, *(str(profile_path) if each == "PROFILE" else each for each in arguments))

    assert done.exit_code != 0
    assert said in " ".join(done.output.replace("│", " ").split())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--profile", "p.json", "--concurrency", "3"], "--concurrency does not go with --profile"),
        (["--profile", "nowhere/p.json"], "nowhere is no folder"),
        (["--triton-url", "a:1"], "--triton-url is for --profile"),
        (["127.0.0.1:1", "--profile", "p.json"], "127.0.0.1:1"),
    ],
    ids=" ".join,
)
def test_a_profile_that_cannot_be_measured_is_refused_with_the_fix(
    arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    done = run(bench, *arguments)

    assert done.exit_code == 1
    assert said in done.stderr
    assert not list(tmp_path.iterdir())
