"""The soak test itself: it notices wrong answers, and tells what it has seen as it was."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import aiohttp
import numpy as np
import pytest

from tests.serving import free_ports
from tests.soak import checks, conductor, page, report, rest
from tests.soak.conductor import Plan, Run
from tests.soak.faults import FAULTS, schedule
from tests.soak.journal import Journal
from tests.soak.known import WrongAnswerError, same
from tests.soak.outcomes import Answer, Kind, of_answer, of_error
from tests.soak.proxy import Proxy
from tests.soak.record import Outcome, Record, Strike

if TYPE_CHECKING:
    from pathlib import Path

VECTOR = np.array([0.5, -0.25, 0.1, -0.8, 0.3, 0.2, -0.1, 0.05], np.float32)


@pytest.mark.parametrize("found", [[0.5, 0.2], [0.5, np.nan], [0.5], [[0.5, 0.3]]], ids=str)
def test_numbers_that_differ_are_wrong(found: Any) -> None:
    same([0.5, 0.3], [0.5, 0.3], "numbers")
    with pytest.raises(WrongAnswerError):
        same(found, [0.5, 0.3], "numbers")


@pytest.mark.parametrize(
    ("number_type", "right", "wrong"),
    [
        ("int8", [64, -32, 13, -102, 38, 25, -13, 6], [64, -32, 13, -102, 38, 25, -13, 8]),
        ("uint8", [192, 96, 141, 26, 166, 153, 115, 134], [64, -32, 13, -102, 38, 25, -13, 6]),
        ("ubinary", [0b10101101], [0b10101100]),
        ("binary", [0b10101101 - 128], [0b10101101]),
        ("int8", [64, -32, 13, -102, 38, 25, -13, 6], [64.0, -32, 13, -102, 38, 25, -13, 6]),
    ],
)
def test_a_type_of_numbers_is_known_by_its_definition(number_type: str, right: list[int], wrong: list[Any]) -> None:
    checks.has_type(right, VECTOR, number_type)
    with pytest.raises(WrongAnswerError):
        checks.has_type(wrong, VECTOR, number_type)


@pytest.mark.parametrize(
    "results",
    [
        pytest.param([(0, 0.2), (1, 0.9)], id="worst first"),
        pytest.param([(0, 0.9), (1, 0.2)], id="another's score"),
        pytest.param([(1, 0.9)], id="one is missing"),
        pytest.param([(1, 0.9), (1, 0.9)], id="one comes twice"),
    ],
)
def test_a_ranking_that_is_another_is_wrong(results: list[tuple[int, float]]) -> None:
    scores = {0: 0.2, 1: 0.9}
    checks.ranked([{"index": 1, "score": 0.9}, {"index": 0, "score": 0.2}], scores, "score")
    with pytest.raises(WrongAnswerError):
        checks.ranked([{"index": index, "score": score} for index, score in results], scores, "score")


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (Answer(503, "2", b'{"error": {"message": "retry later"}}'), Kind.UNAVAILABLE),
        (Answer(503, "", b'{"error": {"message": "retry later"}}'), Kind.UNCLEAN),
        (Answer(429, "1", b'{"message": "retry later"}'), Kind.OVERLOADED),
        (Answer(504, "", b'{"error": "too late"}'), Kind.LATE),
        (Answer(503, "2", b"Service Unavailable"), Kind.UNCLEAN),
        (Answer(500, "", b'{"error": {"message": "failed"}}'), Kind.UNCLEAN),
        (Answer(422, "", b'{"error": {"message": "wrong type"}}'), Kind.RIGHT),
    ],
)
def test_only_a_refusal_that_says_why_and_when_is_clean(answer: Answer, kind: Kind) -> None:
    question = rest.Question("/v1/embeddings", {}, rest._never)
    assert of_answer(question, answer, rest.REFUSED)[0] is kind


@pytest.mark.parametrize(
    "error",
    [aiohttp.ServerDisconnectedError(), aiohttp.ClientPayloadError("Response payload is not completed")],
    ids=lambda error: type(error).__name__,
)
def test_a_connection_may_break_before_an_answer_and_in_it(error: aiohttp.ClientError) -> None:
    assert of_error(error)[0] is Kind.DISCONNECTED


def seen(*others: tuple[Kind, float, float], down: list[tuple[float, float | None]] | None = None) -> dict[str, Any]:
    """The result of a run of 100 s with a fault from 20 s to 22 s; of the others kind, begin and end are given."""
    record = Record(surfaces=["a"], strikes=[Strike("tritonserver killed", 20.0, 22.0)])
    record.take({"event": "right", "second": 60, "counts": {"a": 3}, "slowest_s": 0.5})
    record.others = [Outcome("a", kind, begin, end, "said") for kind, begin, end in others]
    return report.result(record, 0.0, 100.0, down or [], [])


def test_a_fault_is_told_by_what_clients_have_seen_of_it() -> None:
    told = seen((Kind.UNAVAILABLE, 19.9, 20.1), (Kind.UNAVAILABLE, 24.0, 24.1))
    (met,) = told["faults"]
    assert met["seen"] == {"503": 2}
    assert (met["seen_s"], met["recovery_s"], met["lasted_s"]) == (4.0, 2.0, 2.0)
    assert (told["answers"], told["right_since_the_last_failure"], told["broken_bounds"]) == (3, 3, [])


@pytest.mark.parametrize(
    ("kind", "begin", "bound"),
    [
        (Kind.UNAVAILABLE, 28.0, "right again 6.0 s after it"),
        (Kind.WRONG, 1.0, "1 wrong"),
        (Kind.HUNG, 1.0, "1 hung"),
        (Kind.UNCLEAN, 1.0, "1 unclean"),
        (Kind.DISCONNECTED, 40.0, "1 connections broken while the gateway ran"),
    ],
)
def test_a_bound_that_is_broken_is_named(kind: Kind, begin: float, bound: str) -> None:
    assert any(bound in broken for broken in seen((kind, begin, begin + 0.1))["broken_bounds"])


def test_connections_may_break_while_the_gateway_is_down() -> None:
    assert seen((Kind.DISCONNECTED, 20.5, 20.6), down=[(20.0, 21.0)])["broken_bounds"] == []


@pytest.mark.parametrize(
    ("seconds", "memory_mb", "bound"),
    [
        pytest.param(1000.0, [(100.0, 500.0), (900.0, 510.0)], None, id="it stays"),
        pytest.param(1000.0, [(100.0, 500.0), (900.0, 600.0)], "memory has grown by 20.0 %", id="it grows"),
        pytest.param(1000.0, [(100.0, 500.0)], "memory was not measured", id="it was not measured"),
        pytest.param(100.0, [], None, id="the run is too short"),
    ],
)
def test_memory_is_judged_in_every_run_that_is_long_enough(
    seconds: float, memory_mb: list[tuple[float, float]], bound: str | None
) -> None:
    broken = report.result(Record(memory_mb=memory_mb), 0.0, seconds, [], [])["broken_bounds"]
    assert len(broken) == (bound is not None)
    assert all(str(bound) in each for each in broken)


KNOWN = "print(json.dumps({'event': 'known', 'surfaces': ['a']}), flush=True)"
TERMINABLE = "signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))"


async def conducted(folder: Path, load: str, scene: Any = None) -> tuple[float, float]:
    """Conduct a run with one fault, whose load is these statements of Python."""
    statements = f"import json, signal, sys; {load}"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", statements, stdout=asyncio.subprocess.PIPE)
    plan = Plan(seconds=60, per_s=1, seed=0, faults=FAULTS[:1], every_s=1)
    try:
        return await Run(plan, folder, asyncio.Event())._conduct(process, scene)
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGKILL)


@pytest.mark.parametrize("load", ["sys.exit(3)", f"{KNOWN}; sys.exit(3)"], ids=["before it asks", "while it asks"])
async def test_a_load_that_fails_is_no_end(tmp_path: Path, load: str) -> None:
    with pytest.raises(RuntimeError, match="the load has ended with status 3"):
        await conducted(tmp_path, load)


async def test_faults_that_cannot_go_on_end_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def until_ready() -> None:
        raise TimeoutError("conch serve was not ready")

    monkeypatch.setattr(conductor, "CALM_S", 0.0)
    scene = SimpleNamespace(supervised=SimpleNamespace(until_ready=until_ready))
    with pytest.raises(TimeoutError, match="conch serve was not ready"):
        await conducted(tmp_path, f"{TERMINABLE}; {KNOWN}; signal.pause()", scene)


def test_every_fault_comes_before_one_comes_again() -> None:
    names = [fault.name for fault in schedule(seed=3, count=2 * len(FAULTS))]
    assert len(set(names[: len(FAULTS)])) == len(set(names[len(FAULTS) :])) == len(FAULTS)


def test_the_page_says_what_was_seen_and_what_was_not(tmp_path: Path) -> None:
    kinds = {fault.name: {"what": fault.what, "recovers": fault.recovers} for fault in FAULTS}
    machine = {"cores": 2, "cpu": "a processor", "memory_gib": 8, "system": "Linux"}
    versions = {"python": "3", "onnxruntime": "1", "nvidia-pytriton": "0"}
    told = {"command": "make soak", "date": "2026-01-01", "git": {"revision": "abc"}, "machine": machine}
    result = {**told, "versions": versions, "kinds": kinds, **seen((Kind.UNAVAILABLE, 24.0, 24.1))}
    result["faults"][0]["log"] = [f"WARNING conch_server Triton serves again (restart {n})" for n in (2, 7)]
    (tmp_path / "soak.json").write_text(json.dumps(result))
    written = page.page(tmp_path / "soak.json")
    (row,) = [line for line in written.splitlines() if line.startswith("| **")]
    assert "**tritonserver killed**" in row
    assert "503 (1 of 4)" in row
    assert "4.0 s, 2.0 s after its end" in row
    assert "warden killed (the run was too short)" in written
    assert "| tritonserver killed | `WARNING conch_server Triton serves again (restart N)` |" in written.splitlines()


def test_the_journal_has_what_is_new_without_what_varies(tmp_path: Path) -> None:
    log = tmp_path / "stderr"
    journal = Journal(log, tmp_path)
    log.write_text("2026-01-01 10:00:00,123 INFO conch_gateway fine\n2026-01-01 10:00:00,124 ERROR conch_server gone\n")
    assert journal.news() == ["ERROR conch_server gone"]
    with log.open("a") as file:
        failed = {"event": "request_failed", "request_id": "12", "status": 503, "code": "unavailable"}
        file.writelines(f"2026-01-01 10:00:0{n},0 ERROR conch_gateway {json.dumps(failed)}\n" for n in range(3))
        file.write(f"error: {tmp_path}/run cannot be written\n")
    assert journal.news() == [
        "ERROR conch_gateway request_failed, status 503, code unavailable",
        "error: …/run cannot be written",
    ]


async def test_the_proxy_holds_up_and_breaks_connections() -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionResetError):
            while data := await reader.read(100):
                writer.write(data)
        writer.close()

    behind, port = free_ports(2)
    async with await asyncio.start_server(echo, "127.0.0.1", behind), Proxy(port, ("127.0.0.1", behind)) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"one")
        assert await reader.readexactly(3) == b"one"
        proxy.hold()
        writer.write(b"two")
        answer = asyncio.create_task(reader.readexactly(3))
        done, _ = await asyncio.wait([answer], timeout=0.1)
        assert not done
        proxy.release()
        assert await answer == b"two"
        proxy.reset()
        with pytest.raises(ConnectionResetError):
            await reader.read(1)
        writer.transport.abort()
