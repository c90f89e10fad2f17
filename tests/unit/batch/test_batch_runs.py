"""Whole runs, whose shards are computed in this process by an engine that counts instead of embedding."""

from __future__ import annotations

import errno
import importlib
import json
import os
import sys
from collections import deque
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from conch_batch import ChangedError, Embedding, EngineError, InputError, Job, OutputError, TextRows, Workers, run
from conch_batch.engines import opening
from conch_batch.outputs.store import Store
from conch_batch.processes import local
from conch_batch.processes.pool import Event

from tests.unit.batch.test_batch_shards import Counting, model

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from conch_batch import Done, Report

modules = {name: importlib.import_module(f"conch_batch.{name}") for name in ("run", "outputs.store")}


class Watching:
    """Does something when a shard is done."""

    def __init__(self, on_done: Callable[[], None] = lambda: None) -> None:
        self._on_done = on_done

    def reading(self, files: int, of: int) -> None:
        pass

    def starting(self, rows: int, present: int) -> None:
        pass

    def done(self, shard: Done) -> None:  # noqa: ARG002
        self._on_done()


class InProcess:
    """Processes of a pool that are this one."""

    room = 1

    def __init__(self, worker: type[Any], arguments: Sequence[Any]) -> None:
        self._worker = worker(*arguments)
        self._events = deque[Event]()

    def start(self) -> str:
        self._events.append(Event("this one"))
        return "this one"

    def send(self, process: str, shard: object, /) -> None:
        self._events.append(Event(process, shard))

    def wait(self) -> Event:
        event = self._events.popleft()
        return event if event.shard is None else event._replace(answer=self._worker.compute(event.shard))


@pytest.fixture(autouse=True)
def _in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """No other process and no model: everything else is real."""

    @contextmanager
    def started(worker: type[Any], arguments: Sequence[Any], **_: Any) -> Iterator[InProcess]:
        yield InProcess(worker, arguments)

    monkeypatch.setattr(local, "started", started)
    monkeypatch.setattr(opening, "describe", lambda _: model())
    monkeypatch.setattr(opening, "needs_gpu", lambda _: False)
    monkeypatch.setattr(opening, "opened", lambda *_: Counting())
    monkeypatch.setenv("RAYON_NUM_THREADS", "1")


@pytest.fixture
def job(tmp_path: Path) -> Job:
    for name in ("a", "b"):
        write(tmp_path / "in" / f"{name}.jsonl", [f"{name}{n}" for n in range(6)])
    return Job(inputs=(str(tmp_path / "in"),), output=str(tmp_path / "out"), task=Embedding(), model="m", shard_rows=4)


def write(path: Path, texts: Sequence[str]) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), "utf-8")


def compute(job: Job, on_done: Callable[[], None] = lambda: None) -> Report:
    return run(job, Workers(), Watching(on_done))


def texts_of(output: Path) -> list[str]:
    texts: list[str] = ds.dataset(output, format="parquet").to_table()["text"].to_pylist()
    return texts


def test_a_run_may_write_below_its_input_and_goes_on_there(job: Job, tmp_path: Path) -> None:
    inside = replace(job, output=str(tmp_path / "in" / "vectors [1]"))
    assert len(compute(inside).done) == 3
    assert texts_of(tmp_path / "in" / "vectors [1]") == [f"{name}{n}" for name in "ab" for n in range(6)]
    again = compute(inside)
    assert (again.present, again.done) == (12, [])


def test_input_that_is_written_to_between_runs_or_renamed_is_refused(job: Job, tmp_path: Path) -> None:
    compute(job)
    (tmp_path / "in" / "b.jsonl").rename(tmp_path / "in" / "c.jsonl")
    with pytest.raises(ChangedError, match=r"where b\.jsonl was is c\.jsonl"):
        compute(job)
    write(tmp_path / "in" / "b.jsonl", ["b"])
    (tmp_path / "in" / "c.jsonl").unlink()
    with pytest.raises(ChangedError, match=r"b\.jsonl has another content"):
        compute(job)


def test_input_that_is_written_to_while_it_is_read_is_told_in_the_end(job: Job, tmp_path: Path) -> None:
    def change() -> None:
        write(tmp_path / "in" / "b.jsonl", [f"c{n}" for n in range(7)])

    with pytest.raises(ChangedError, match=r"b\.jsonl has changed while it was read: remove"):
        compute(job, change)


def test_two_runs_do_not_write_into_one_folder(job: Job) -> None:
    def second() -> None:
        with pytest.raises(OutputError, match="another run writes to"):
            compute(job)

    assert len(compute(job, second).done) == 3
    compute(job)


def test_a_shard_that_no_run_has_planned_is_refused_by_name(job: Job, tmp_path: Path) -> None:
    compute(job)
    (tmp_path / "out" / "part-00007.parquet").touch()
    with pytest.raises(OutputError, match=r"has part-00007\.parquet, which no run has planned"):
        compute(job)


def test_an_output_that_is_a_file_is_refused(job: Job, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine", "utf-8")
    with pytest.raises(OutputError, match="out cannot be written"):
        compute(job)
    assert (tmp_path / "out").read_text("utf-8") == "mine"


def test_a_full_disk_ends_the_run_which_goes_on_when_there_is_room(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as context, pytest.raises(Exception, match=r"out cannot be written: .*No space left"):
        compute(job, lambda: context.setattr(modules["outputs.store"].os, "fsync", full))
    assert Store(job.output).done() == {0}
    assert len(compute(job).done) == 2
    assert not (tmp_path / "out" / "_conch" / "unfinished").exists()


@pytest.mark.parametrize("error", [ImportError("no module\nnamed x"), MemoryError()], ids=["package", "memory"])
def test_a_model_that_a_node_cannot_load_is_reported_in_one_line(
    error: Exception, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise error

    monkeypatch.setattr(opening, "opened", broken)
    with pytest.raises(
        Exception, match=r"m cannot be loaded on .*Error.*: each process needs memory.*goes on"
    ) as raised:
        compute(job)
    assert "\n" not in str(raised.value)
    assert Store(job.output).done() == set()


def test_a_worker_reports_what_no_module_of_conch_has_raised(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Counting, "compute", lambda *_: 1 / 0)
    with pytest.raises(Exception, match=r"shard 0 cannot be computed on .*ZeroDivisionError: division by zero"):
        compute(job)


def test_a_cluster_without_ray_is_told_what_to_install(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(EngineError, match=r"pip install 'conch\[cluster\]'"):
        run(job, Workers(address="a-head:6379"), Watching())


def write_stream(path: Path, **columns: pa.Array) -> None:
    path.parent.mkdir()
    table = pa.table(columns)
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
        stream.write_table(table, max_chunksize=3)


@pytest.mark.parametrize("kind", [pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())], ids=str)
def test_texts_may_be_of_any_type_that_holds_texts(kind: pa.DataType, job: Job, tmp_path: Path) -> None:
    texts = ["a", "b", None, "a", "c", "b", "d"]
    write_stream(tmp_path / "typed" / "a.arrow", text=pa.array(texts, kind), other=pa.array(texts, kind))
    compute(replace(job, inputs=(str(tmp_path / "typed"),), shard_rows=2))
    found = ds.dataset(tmp_path / "out", format="parquet").to_table()
    assert found["text"].to_pylist() == found["other"].to_pylist() == [text for text in texts if text]


def test_objects_without_keys_are_null(job: Job, tmp_path: Path) -> None:
    (tmp_path / "objects").mkdir()
    rows = [{"text": "a", "about": {}}, {"text": "b", "about": {}, "more": {"deep": {}, "n": 1}}]
    (tmp_path / "objects" / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    compute(replace(job, inputs=(str(tmp_path / "objects"),)))
    found = ds.dataset(tmp_path / "out", format="parquet").to_table()
    assert found["about"].to_pylist() == [None, None]
    assert found["more"].to_pylist() == [None, {"deep": None, "n": 1}]


def test_a_column_that_parquet_cannot_hold_is_refused_before_anything_is_computed(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Counting, "compute", lambda *_: pytest.fail("it is computed"))
    write_stream(tmp_path / "objects" / "a.arrow", text=pa.array(["a"]), about=pa.array([{}], pa.struct([])))
    with pytest.raises(InputError, match=r"a column that Parquet files cannot hold .*about"):
        compute(replace(job, inputs=(str(tmp_path / "objects"),)))


def test_a_column_that_one_file_requires_may_be_missing_in_another(job: Job, tmp_path: Path) -> None:
    (tmp_path / "required").mkdir()
    number = pa.field("n", pa.int64(), nullable=False)
    required = pa.schema([pa.field("text", pa.string(), nullable=False), number, ("about", pa.struct([number]))])
    first = pa.table({"text": ["a"], "n": [1], "about": [{"n": 2}]}, required)
    pq.write_table(first, tmp_path / "required" / "a.parquet")
    pq.write_table(pa.table({"text": ["b"], "about": [{"m": 3}]}), tmp_path / "required" / "b.parquet")
    compute(replace(job, inputs=(str(tmp_path / "required"),)))
    found = ds.dataset(tmp_path / "out", format="parquet").to_table()
    assert found.select(["text", "n", "about"]).to_pylist() == [
        {"text": "a", "n": 1, "about": {"n": 2, "m": None}},
        {"text": "b", "n": None, "about": {"n": None, "m": 3}},
    ]


def test_a_csv_file_may_have_a_header_and_no_rows(job: Job, tmp_path: Path) -> None:
    (tmp_path / "rows").mkdir()
    for name, content in (("a.csv", "n,text\n"), ("b.csv", "n,text\n1,a\n")):
        (tmp_path / "rows" / name).write_text(content, "utf-8")
    compute(replace(job, inputs=(str(tmp_path / "rows"),)))
    assert texts_of(tmp_path / "out") == ["a"]


def test_rows_of_texts_are_asked_of_text_files_only(job: Job) -> None:
    with pytest.raises(InputError, match="--text-rows is for text files, and the input is jsonl: leave it out"):
        compute(replace(job, text_rows=TextRows.LINE))
