"""What pages say of measurements over corpora, whatever part of them is there."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from benchmarks.corpora import table
from benchmarks.corpora.kills import differing
from benchmarks.corpora.parts import Parts

if TYPE_CHECKING:
    from pathlib import Path

MEASURED = {"machine": {"cores": 64, "cpu": "a CPU"}, "command": "a command", "date": "2026-11-29T01:00:00"}
EMBED = {
    "tokens": 3_700_000,
    "seconds": 230.0,
    "tokens_per_s": 16_080.0,
    "of_graphs": 0.96,
    "command_seconds": 250.0,
    "actor_memory_mb_by_quarter": [300.0, 301.0],
    "graphs": {
        "tokens_per_s": 16_750.0,
        "before": {"tokens_per_s": 16_900.0},
        "after": {"tokens_per_s": 16_600.0},
    },
}


def result(**parts: dict[str, Any]) -> dict[str, Any]:
    return {"texts": 50_000, "parts": {name: {**part, "measured": MEASURED} for name, part in parts.items()}}


def test_the_table_has_what_was_measured_and_says_where() -> None:
    page = table.throughput(result(gateway={"tokens_per_s": 13_000.0}, embed=EMBED))
    assert [line.rpartition("| ")[2] for line in page.splitlines()[2:5]] == ["16 100 |", "16 800 |", "13 000 |"]
    assert "96% of the graphs' rate (16,900 tokens/s just before the run, 16,600 just after it)" in page
    assert page.endswith("64 cores (a CPU), `a command`, 2026-11-29.")


@pytest.mark.parametrize("embed", [{}, {"embed": {"not_measured": "no memory"}}], ids=["missing", "failed"])
def test_a_part_that_was_not_measured_is_no_obstacle(embed: dict[str, Any]) -> None:
    page = table.throughput(result(infinity={"tokens_per_s": 4_000.0}, **embed))
    assert page.count("\n| ") == 2 + len(embed)
    assert "infinity `embed`, ONNX int8 | 4 000 |" in page


def test_nodes_are_told_by_their_number_with_what_a_death_cost() -> None:
    run = {"tokens_per_s": 9_000.0, "differing_files": []}
    death = {"nodes": 4, "rows_lost": 0, "rows_doubled": 0, "differing_files": ["part-00001.parquet"]}
    (page,) = table.cluster(result(nodes_4={"nodes": 4, **run}, nodes_1={"nodes": 1, **run}, killed=death))
    assert "1 with 9,000 tokens/s, 4 with 9,000 tokens/s" in page
    assert "With one of 4 killed" in page
    assert "1 files differ" in page
    assert "killed" not in next(table.cluster(result(nodes_1={"nodes": 1, **run})))


def test_kills_of_several_seeds_are_added() -> None:
    seed = {"kills": 25, "outputs": [{"differing_files": []}]}
    (page,) = table.killed(result(seed_0=seed, seed_1=seed))
    assert "Killed at 50 random moments and run again (2 outputs of 50,000 texts): 0 files differ" in page


def test_parts_are_kept_one_by_one_and_those_of_another_corpus_dropped(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    Parts(path, "a.module", texts=7).add("one", {"n": 1})
    Parts(path, "a.module", texts=7).add("two", {"n": 2})
    assert {name: part["n"] for name, part in parts_of(path).items()} == {"one": 1, "two": 2}
    Parts(path, "a.module", texts=8).add("two", {"n": 3})
    assert {name: part["n"] for name, part in parts_of(path).items()} == {"two": 3}


def parts_of(path: Path) -> dict[str, Any]:
    parts: dict[str, Any] = json.loads(path.read_text("utf-8"))["parts"]
    return parts


def test_files_that_are_on_one_side_only_differ() -> None:
    assert differing({"a": b"1", "b": b"2"}, {"a": b"1", "b": b"3", "c": b""}) == ["b", "c"]
