"""Texts that occur in several shards are computed once in a run, however often it is interrupted."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pytest
from conch_batch import Embedding, InterruptedRun, Job, OutputError, Reranking, repeats
from conch_batch.engines import opening
from conch_batch.outputs.store import Store
from conch_batch.repeats import Answered

from tests.unit.batch import test_batch_runs
from tests.unit.batch.test_batch_runs import compute
from tests.unit.batch.test_batch_shards import Counting

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from conch_batch.engines.engine import Answers, Item

_in_process = test_batch_runs._in_process

TEXTS = [*(f"text {n % 40}" for n in range(100)), "last", None, "text 1"]
"""Each of the first forty is in two or three shards of ten rows, or twice in one."""


class Remembering(Counting):
    """Adds what it is asked to a list of all engines of a test."""

    def __init__(self, asked: list[Item]) -> None:
        super().__init__()
        self.asked = asked


class Doubling(Counting):
    """Another model, whose vectors are twice as long."""

    def compute(self, items: Sequence[Item]) -> Answers:
        answers = super().compute(items)
        vectors = pa.array(
            [[2.0 * value[0].as_py()] for value in answers.rows.column("vector")], self.schema.field(0).type
        )
        rows = pa.RecordBatch.from_arrays([vectors, answers.rows.column("tokens")], schema=self.schema)
        return answers._replace(rows=rows)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Item]:
    asked: list[Item] = []
    monkeypatch.setattr(opening, "opened", lambda *_: Remembering(asked))
    return asked


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return job_of(TEXTS, tmp_path)


def job_of(texts: Sequence[Any], folder: Path) -> Job:
    rows = [text if isinstance(text, dict) else {"n": n, "text": text} for n, text in enumerate(texts)]
    (folder / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    inputs = (str(folder / "in.jsonl"),)
    return Job(inputs=inputs, output=str(folder / "out"), task=Embedding(), model="m", shard_rows=10)


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def outputs_of(folder: Path) -> dict[str, bytes]:
    return {name: content for name, content in files_of(folder).items() if not name.startswith("_conch")}


def separately(job: Job, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """The output where each shard computes all of its texts."""
    with monkeypatch.context() as context:
        context.setattr(repeats, "find", lambda *_, **__: iter(()))
        compute(replace(job, output=str(folder / "separately")))
    return outputs_of(folder / "separately")


def test_each_text_of_the_corpus_is_computed_once_and_the_files_are_the_same(
    job: Job, asked: list[Item], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = compute(job)
    assert sorted(map(str, asked)) == sorted({text for text in TEXTS if text is not None})
    assert sum(done.tokens for done in report.done) == sum(map(len, map(str, asked)))
    assert (sum(done.rows for done in report.done), sum(done.failed for done in report.done)) == (len(TEXTS), 1)
    told = [(done.repeated, done.shard) for done in report.done]
    assert sorted(told) == [*((False, shard) for shard in range(11)), (True, 0), (True, 1)]
    table = ds.dataset(job.output, format="parquet").to_table()
    assert table["text"].to_pylist() == [text for text in TEXTS if text is not None]
    assert outputs_of(tmp_path / "out") == separately(job, tmp_path, monkeypatch)
    assert not (tmp_path / "out" / "_conch" / "unfinished").exists()


def test_a_run_that_is_stopped_after_each_shard_goes_on_to_the_same_files_and_computes_nothing_twice(
    job: Job, asked: list[Item], tmp_path: Path
) -> None:
    whole = compute(replace(job, output=str(tmp_path / "whole")))
    expected, each_once = files_of(tmp_path / "whole"), sorted(map(str, asked))

    def stop() -> None:
        raise KeyboardInterrupt

    assert len(whole.done) == 11 + 2  # shards of the output, and of repeated texts
    asked.clear()
    for _ in whole.done:
        with pytest.raises(InterruptedRun):
            compute(job, stop)
    compute(job)
    assert sorted(map(str, asked)) == each_once
    assert files_of(tmp_path / "out") == expected


def test_a_plan_that_was_not_finished_leaves_nothing_of_an_input_that_is_another_one_now(
    job: Job, asked: list[Item], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OutputError("no room")

    with monkeypatch.context() as context:
        context.setattr(Store, "write_manifest", full)
        with pytest.raises(OutputError):
            compute(job)
    assert (tmp_path / "out" / "_conch" / "repeated").exists()
    job_of(["a", "b"] * 6, tmp_path)
    compute(job)
    compute(replace(job, output=str(tmp_path / "whole")))
    assert asked == ["a", "b"] * 2
    assert files_of(tmp_path / "out") == files_of(tmp_path / "whole")


def test_answers_of_a_plan_whose_manifest_was_removed_are_not_those_of_the_next(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(InterruptedRun):
        compute(job, stop)  # after the first shard of repeated texts
    (tmp_path / "out" / "_conch" / "manifest.json").unlink()
    monkeypatch.setattr(opening, "opened", lambda *_: Doubling())
    compute(job)
    table = ds.dataset(job.output, format="parquet").to_table()
    assert table["vector"].to_pylist() == [[2.0 * len(text)] for text in table["text"].to_pylist()]


def test_where_nothing_is_repeated_nothing_is_written_for_it(tmp_path: Path, asked: list[Item]) -> None:
    compute(job_of([f"text {n // 5}" for n in range(60)], tmp_path))  # only within shards
    assert len(asked) == 12
    assert sorted(path.name for path in (tmp_path / "out" / "_conch").iterdir()) == ["lock", "manifest.json"]


def test_a_repeated_text_that_fails_is_told_for_each_of_its_rows(
    tmp_path: Path, asked: list[Item], monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = ["bad" if n % 9 == 0 else "NaN" if n % 9 == 1 else f"text {n % 20}" for n in range(60)]
    job = job_of(texts, tmp_path)
    compute(job)
    sides = "".join(path.read_text("utf-8") for path in sorted((tmp_path / "out" / "_failed").iterdir()))
    lines = [json.loads(line) for line in sides.splitlines()]
    assert [line["row"]["n"] for line in lines] == [n for n, text in enumerate(texts) if text in {"bad", "NaN"}]
    assert {line["error"] for line in lines} == {"the text is bad", "the model answers NaN to it"}
    assert len(asked) == len({*texts} - {"bad", "NaN"})
    assert outputs_of(tmp_path / "out") == separately(job, tmp_path, monkeypatch)

    with pytest.raises(Exception, match="row 0 of shard 0 cannot be computed: the text is bad"):
        compute(replace(job, output=str(tmp_path / "stopping"), on_error="stop"))


def test_questions_are_repeated_where_query_and_all_documents_are(tmp_path: Path, asked: list[Item]) -> None:
    rows = [{"query": f"q{n % 2}", "documents": [f"d{n % 3}", "other"]} for n in range(30)]
    compute(replace(job_of(rows, tmp_path), task=Reranking()))
    assert len(asked) == len(set(asked)) == 6


def test_two_texts_with_one_hash_have_each_their_own_answer(
    job: Job, asked: list[Item], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = separately(job, tmp_path, monkeypatch)
    hashes = repeats._hashes
    monkeypatch.setattr(repeats, "_hashes", lambda items: hashes(items) % np.uint64(7) + np.uint64(1))
    compute(job)
    assert outputs_of(tmp_path / "out") == expected


@pytest.mark.parametrize("bound", ["_SLOTS", "MOST_ITEMS", "_CACHE_BYTES"])
def test_where_memory_ends_texts_are_computed_again_and_the_files_are_the_same(
    bound: str, job: Job, asked: list[Item], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = separately(job, tmp_path, monkeypatch)
    asked.clear()
    monkeypatch.setattr(repeats, "_ROWS", 8)
    monkeypatch.setattr(repeats, bound, {"_SLOTS": 32, "MOST_ITEMS": 8, "_CACHE_BYTES": 1}[bound])
    compute(job)
    assert outputs_of(tmp_path / "out") == expected
    assert (len(asked) > len(set(asked))) == (bound != "_CACHE_BYTES")
    assert len(asked) < len(TEXTS)


def test_hashes_are_told_once_by_the_second_shard_that_has_them() -> None:
    rng = np.random.default_rng(0)
    shards = [np.unique(rng.integers(1, 3000, 900).astype(np.uint64) << np.uint64(20)) for _ in range(12)]
    seen, counts, told = repeats._Seen(6000), dict[int, int](), list[int]()
    for number, hashes in enumerate(shards):
        found = seen.again(hashes, number)
        for each, is_again in zip(hashes.tolist(), found.tolist(), strict=True):
            counts[each] = counts.get(each, 0) + 1
            assert is_again == (counts[each] == 2)
            told += [each] * is_again
    assert len(told) > 1000


ANSWERS = {
    "float16": pa.array([[1.0, 2.0]] * 3, pa.list_(pa.float16(), 2)),
    "binary": pa.array([[1], [2], [3]], pa.list_(pa.uint8(), 1)),
    "of tokens": pa.array([[[1.0, 2.0]], [], [[3.0, 4.0], [5.0, 6.0]]], pa.list_(pa.list_(pa.float32(), 2))),
    "sparse": pa.array([[1, 2], [], [3]], pa.list_(pa.int32())),
}


@pytest.mark.parametrize("kind", ANSWERS)
def test_answers_of_all_types_are_those_that_were_written(kind: str) -> None:
    schema = pa.schema([("answer", ANSWERS[kind].type)], metadata={"conch.model": "m"})
    store = Store(f"memory://answers {kind}")
    store.publish(0, pa.table({"text": ["a", "b", "c"], "of_answer": ANSWERS[kind]}), b"")
    batches, places = Answered(store, Embedding(), schema, "of_").of(["c", "no", "a"])
    found = pa.concat_batches(batches)
    assert found.schema == schema
    assert {item: found.column(0)[row] for item, row in places.items()} == {
        "a": ANSWERS[kind][0],
        "c": ANSWERS[kind][2],
    }
