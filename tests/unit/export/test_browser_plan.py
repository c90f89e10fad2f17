"""The memory that is planned for a page is what it took in Chromium, within a quarter."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conch.app import app
from conch_export.planning.browser import WEBASSEMBLY_BYTES
from typer.testing import CliRunner, Result

from benchmarks.browser.table import planned
from tests.documented import keys_of

RESULTS = Path(__file__).parents[3] / "benchmarks" / "results" / "web-memory.json"
ROWS: list[dict[str, Any]] = json.loads(RESULTS.read_text(encoding="utf-8"))["rows"]
IDS = [f"{row['shape']}-{row['precision']}-{row['tokens']}-{row['threads']}" for row in ROWS]


JINA = [row for row in ROWS if row["shape"] == "jina-small"]
LARGEST = planned(next(row for row in JINA if row["precision"] == "fp32"))

every_row = pytest.mark.parametrize("row", ROWS, ids=IDS)


@every_row
def test_a_page_took_what_is_planned(row: dict[str, Any]) -> None:
    budget = planned(row).budget(row["tokens"])

    assert budget.total == pytest.approx(row["process_bytes_peak"], rel=0.25)
    assert budget.page == pytest.approx(row["process_bytes_idle"], rel=0.25)


@every_row
def test_webassembly_took_what_is_planned(row: dict[str, Any]) -> None:
    budget = planned(row).budget(row["tokens"])

    assert budget.heap == pytest.approx(row["wasm_bytes_peak"], rel=0.25)


def test_8192_tokens_of_jina_small_take_less_than_a_gigabyte() -> None:
    assert all(row["process_bytes_peak"] < 1e9 for row in JINA)
    assert all(planned(row).budget(8192).total < 1e9 for row in JINA)


def test_the_longest_text_that_fits_is_found() -> None:
    memory = LARGEST.budget(3000).total

    assert LARGEST.longest(memory) == 3000
    assert LARGEST.longest(memory - 1) == 2999
    assert LARGEST.longest(10**9) == LARGEST.length
    assert LARGEST.longest(10**7) == 0


def test_longer_texts_never_take_less() -> None:
    totals = [LARGEST.budget(length).total for length in range(1, 2050)]

    assert totals == sorted(totals)


def test_webassembly_has_four_gigabytes_at_most() -> None:
    larger = replace(LARGEST, encoder=replace(LARGEST.encoder, tables=WEBASSEMBLY_BYTES))

    assert larger.longest(10**12) == 0


def run(*arguments: str) -> Result:
    return CliRunner(env={"COLUMNS": "200"}).invoke(app, ["plan", *arguments])


def test_a_plan_for_programs_is_json() -> None:
    planned = json.loads(run("--json", "--memory", "1GB").stdout)

    assert set(planned) == keys_of("conch plan")


def test_the_command_prints_every_line_and_their_sum() -> None:
    stated = json.loads(run("--web", "--json").stdout)["all"]

    assert set(stated) == keys_of("conch plan --web")
    assert stated["tokens"] == 256
    assert sum(stated["page_mb"].values()) == pytest.approx(stated["total_mb"])
    table = run("--web", "--memory", "1GB").output
    assert all(name in table for name in stated["page_mb"])
    assert f" {stated['total_mb']:,.0f} " in table
    assert "texts of up to 256 tokens, the limit of the model" in table


@pytest.mark.parametrize(("precision", "said"), [("int8", "\n"), ("fp32", ", or --precision int8\n")])
def test_a_page_without_room_is_status_1(precision: str, said: str) -> None:
    result = run("--web", "--memory", "10MB", "--precision", precision)

    assert result.exit_code == 1
    assert f"too little for texts of any length: take a smaller model{said}" in result.output


@pytest.mark.parametrize(
    "option", [["--cores", "2"], ["--rows", "4"], ["--measure"], ["--aim", "latency"]], ids=" ".join
)
def test_options_of_servers_do_not_go_with_it(option: list[str]) -> None:
    result = run("--web", *option)

    assert result.exit_code == 1
    assert f"{option[0]} does not go with --web" in result.stderr
