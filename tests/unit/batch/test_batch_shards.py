"""What is planned and written, with an engine that counts instead of computing."""

from __future__ import annotations

import errno
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conch_batch import ChangedError, Embedding, InputError, Job, Numbers, OutputError, Reranking, RowError, TextRows
from conch_batch.engines.engine import Answers, items_of
from conch_batch.engines.refusals import answered
from conch_batch.inputs.files import find
from conch_batch.inputs.rows import Reader
from conch_batch.model import Model
from conch_batch.outputs.columns import vector_array
from conch_batch.outputs.store import Store
from conch_batch.planning.manifest import Identity, Manifest, refuse_changes
from conch_batch.planning.plan import Piece, Plan, plan, rows_of
from conch_batch.shards import Corpus, Done, Shards, check_columns
from conch_client import InvalidInputError, ModelInfo
from conch_contract import Task
from fsspec.implementations.memory import MemoryFileSystem

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from conch_batch.engines.engine import Item

TEXTS = ["a", "b", None, "a", "bad", "c", "a", "NaN"]


class Counting:
    """Gives a text its length, and remembers what it was asked."""

    schema = pa.schema([("vector", pa.list_(pa.float32(), 1)), ("tokens", pa.int32())], metadata={"conch.model": "m"})

    def __init__(self) -> None:
        self.asked: list[Item] = []

    def close(self) -> None:
        pass

    def compute(self, items: Sequence[Item]) -> Answers:
        return answered(self.schema, items, self._compute, lambda item: "the text is bad" if item == "bad" else None)

    def _compute(self, items: Sequence[Item]) -> Answers:
        for wrong in ("bad", "NaN"):
            if wrong in items:
                raise InvalidInputError("texts[0] is wrong", (items.index(wrong),))
        self.asked += items
        lengths = [len(item) for item in items]
        arrays = [pa.array([[float(n)] for n in lengths], self.schema.field(0).type), pa.array(lengths, pa.int32())]
        return Answers(pa.RecordBatch.from_arrays(arrays, schema=self.schema), sum(lengths), {})


def model() -> Model:
    info = ModelInfo(
        name="m", task=Task.EMBEDDING, max_length=9, max_rows=9, inputs=(), output="", tokenizer="",
        tokenizer_sha256="", tokenizer_bytes=0,
    )  # fmt: skip
    return Model(info, "1", Counting.schema, {})


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    path = tmp_path / "in.jsonl"
    path.write_text("".join(json.dumps({"id": n, "text": text}) + "\n" for n, text in enumerate(TEXTS)), "utf-8")
    job = Job(inputs=(str(path),), output=str(tmp_path / "out"), task=Embedding(), model="m")
    files = find(job.inputs)
    return Corpus(job, model(), files, Reader(TextRows.FILE).scan(files[0]).schema)


def compute(corpus: Corpus) -> tuple[Done, Counting, pa.Table]:
    engine, (file,) = Counting(), corpus.files
    places = Reader(TextRows.FILE).scan(file).places
    piece = Piece(0, 0, int(places[-1]), len(places) - 1)
    done = Shards(corpus, engine, Store(corpus.job.output)).compute(3, [piece])
    return done, engine, pq.read_table(f"{corpus.job.output}/part-00003.parquet")


def test_repeated_texts_are_computed_once_and_rows_keep_their_order_and_columns(corpus: Corpus) -> None:
    done, engine, table = compute(corpus)
    assert engine.asked == ["a", "b", "c"]
    assert done == Done(shard=3, rows=8, failed=3, tokens=3, seconds=done.seconds)
    assert table.column_names == ["id", "text", "vector", "tokens"]
    assert table["id"].to_pylist() == [0, 1, 3, 5, 6]
    assert table["vector"].to_pylist() == [[1.0]] * 5
    assert table.schema.metadata[b"conch.model"] == b"m"


def test_rows_that_fail_go_to_a_side_file_with_the_reason(corpus: Corpus) -> None:
    compute(corpus)
    with open(f"{corpus.job.output}/_failed/part-00003.jsonl", encoding="utf-8") as file:  # noqa: PTH123
        failed = [json.loads(line) for line in file]
    assert [(line["row"]["id"], line["error"]) for line in failed] == [
        (2, "text is null"),
        (4, "the text is bad"),
        (7, "the model answers NaN to it"),
    ]


@pytest.mark.parametrize(("column", "task"), [("text", Embedding()), ("query", Reranking())])
def test_a_text_that_is_not_in_utf_8_is_shown_with_its_column(column: str, task: Embedding | Reranking) -> None:
    texts = pa.array([b"good", b"na\xefve"], pa.binary()).view(pa.string())
    table = pa.table({column: texts, "documents": [["a"], ["b"]]})
    with pytest.raises(InputError, match=rf"column '{column}' has a text that is not in UTF-8, b'na\\xefve'"):
        items_of(table, task)


def test_a_row_that_fails_may_have_times_that_python_has_not(corpus: Corpus) -> None:
    nanoseconds, far = pa.scalar(1, pa.timestamp("ns")), pa.scalar(5_000_000, pa.date32())
    columns = {
        "text": [None, "a"],
        "at": pa.array([nanoseconds] * 2),
        "in_utc": pa.array([1, 1], pa.timestamp("ns", "UTC")),
        "day": pa.array([far] * 2),
        "time": pa.array([1, 1], pa.time64("ns")),
        "took": pa.array([1, 1], pa.duration("ns")),
        "about": pa.array([{"seen": [nanoseconds]}] * 2, pa.struct([("seen", pa.list_(pa.timestamp("ns")))])),
        "two": pa.array([[nanoseconds] * 2] * 2, pa.list_(pa.timestamp("ns"), 2)),
        "by_name": pa.array([[("a", nanoseconds)]] * 2, pa.map_(pa.string(), pa.timestamp("ns"))),
    }
    table = pa.table(columns)
    path = Path(corpus.job.output).with_name("in.parquet")
    pq.write_table(table, path)
    done, _, published = compute(corpus._replace(files=find([str(path)]), schema=table.schema))
    assert (done.failed, published.select(table.column_names)) == (1, table.slice(1))
    side = Path(corpus.job.output) / "_failed" / "part-00003.jsonl"
    row = json.loads(side.read_text("utf-8"))["row"]
    at = "1970-01-01 00:00:00.000000001"
    assert (row["text"], row["at"], row["in_utc"], row["about"]) == (None, at, f"{at}Z", {"seen": [at]})
    assert (row["two"], row["by_name"]) == ([at, at], [["a", at]])


def test_an_empty_text_is_no_text_whatever_would_compute_it() -> None:
    table = pa.table({"text": ["a", "", None]})
    assert items_of(table, Embedding()) == (["a", None, None], {1: "text is empty", 2: "text is null"})
    questions = pa.table({"query": ["a", "", "b"], "documents": [["", "c"], ["c"], []]})
    items, failures = items_of(questions, Reranking())
    assert items == [("a", ("", "c")), None, None]
    assert list(failures) == [1, 2]
    assert "query is null or empty" in failures[1]


def test_or_stop_the_run_before_the_shard_is_there(corpus: Corpus) -> None:
    stopping = corpus._replace(job=replace(corpus.job, on_error="stop"))
    with pytest.raises(RowError, match="row 2 of shard 3 cannot be computed: text is null"):
        compute(stopping)
    assert Store(corpus.job.output).done() == set()


def test_the_same_rows_make_the_same_bytes(corpus: Corpus, tmp_path: Path) -> None:
    compute(corpus)
    compute(corpus._replace(job=replace(corpus.job, output=str(tmp_path / "again"))))
    for name in ("part-00003.parquet", "_failed/part-00003.jsonl"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_rows_that_no_longer_fail_are_in_no_side_file(corpus: Corpus, tmp_path: Path) -> None:
    store = Store(corpus.job.output)
    store.publish(3, pa.table({"n": [1]}), b"{}\n")
    side = tmp_path / "out" / "_failed" / "part-00003.jsonl"
    assert side.read_bytes() == b"{}\n"
    store.publish(3, pa.table({"n": [1, 2]}), b"")  # the run was killed before it wrote the shard, and goes on
    assert not side.exists()


def test_a_file_that_has_lost_rows_since_it_was_planned_is_noticed(corpus: Corpus) -> None:
    shards = Shards(corpus, Counting(), Store(corpus.job.output))
    with pytest.raises(InputError, match="has changed"):
        shards.compute(0, [Piece(0, 0, 1 << 20, len(TEXTS) + 1)])


def test_a_column_that_is_there_already_is_refused_and_a_prefix_mends_it(corpus: Corpus) -> None:
    clashing = corpus._replace(schema=pa.schema([*corpus.schema, ("tokens", pa.int64())]))
    with pytest.raises(InputError, match=r"'tokens' already.*--prefix"):
        Shards(clashing, Counting(), Store(corpus.job.output))
    Shards(clashing._replace(job=replace(corpus.job, prefix="conch_")), Counting(), Store(corpus.job.output))


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        (pa.schema([("body", pa.string())]), "no column 'text'; it has: body. --text"),
        (pa.schema([("text", pa.int64())]), "holds int64 and not texts"),
    ],
)
def test_an_input_without_texts_is_refused(schema: pa.Schema, message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_columns(schema, Embedding())


@pytest.mark.parametrize(
    "kind",
    [
        pa.large_list(pa.large_string()),
        pa.list_(pa.string(), 2),
        pa.list_(pa.dictionary(pa.int8(), pa.string())),
    ],
    ids=str,
)
def test_documents_may_be_in_lists_of_any_type(kind: pa.DataType) -> None:
    table = pa.table({"query": ["a"], "documents": pa.array([["b", "c"]], kind)})
    check_columns(table.schema, Reranking())
    assert items_of(table, Reranking()) == ([("a", ("b", "c"))], {})


@pytest.mark.parametrize(
    ("numbers", "expected", "kind"),
    [
        (Numbers.FLOAT32, [0.5, -0.25, 0.0, 1.0, -1.0, 0.1, 0.0, -0.0], pa.float32()),
        (Numbers.FLOAT16, [0.5, -0.25, 0.0, 1.0, -1.0, 0.1, 0.0, -0.0], pa.float16()),
        (Numbers.INT8, [64, -32, 0, 127, -127, 13, 0, 0], pa.int8()),
        (Numbers.BINARY, [0b10110111], pa.uint8()),
    ],
)
def test_numbers_are_of_the_type_that_was_asked(numbers: Numbers, expected: list[Any], kind: pa.DataType) -> None:
    vector = np.array([[0.5, -0.25, 0.0, 1.0, -1.0, 0.1, 0.0, -0.0]], np.float32)
    found = vector_array(vector, numbers)
    assert found.type == pa.list_(kind, len(expected))
    assert found.to_pylist()[0] == pytest.approx(expected, abs=1e-4)


def plan_of(corpus: Corpus, shard_rows: int | None) -> Plan:
    files = [*corpus.files, *corpus.files]
    return plan(files, Reader(TextRows.FILE), shard_rows=shard_rows, most_rows=4096, on_file=lambda *_: None)


def test_shards_have_equal_numbers_of_rows_whatever_files_they_are_in(corpus: Corpus) -> None:
    planned = plan_of(corpus, 5)
    assert [rows_of(shard) for shard in planned.shards] == [5, 5, 5, 1]
    assert [piece.file for piece in planned.shards[1]] == [0, 1]
    assert planned == plan_of(corpus, 5)
    assert [rows_of(shard) for shard in plan_of(corpus, None).shards] == [16]


CHANGES: dict[str, tuple[Callable[[Identity], Identity], str]] = {
    "model": (lambda it: replace(it, model={"name": "m", "space_id": "2"}), "model has changed: space_id was '1'"),
    "option": (lambda it: replace(it, options={"prefix": "x"}), "option has changed: prefix was ''"),
    "content": (lambda it: replace(it, files=[("a", "2"), ("b", "1")]), "a has another content"),
    "order": (lambda it: replace(it, files=[("b", "1"), ("a", "1")]), "where a was is b"),
    "gone": (lambda it: replace(it, files=[("a", "1")]), "where b was is nothing"),
    "new": (lambda it: replace(it, files=[("a", "1"), ("b", "1"), ("c", "1")]), "where nothing was is c"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_has_changed_since_the_output_was_begun_is_refused_by_name(change: str, corpus: Corpus) -> None:
    begun = Identity({"name": "m", "space_id": "1"}, {"prefix": ""}, [("a", "1"), ("b", "1")])
    stored = Manifest.from_json(Manifest(begun, plan_of(corpus, 5)).to_json(), "out")
    assert stored.plan == plan_of(corpus, 5)
    refuse_changes(stored.identity, begun, "out")
    changed, message = CHANGES[change]
    with pytest.raises(ChangedError, match=message):
        refuse_changes(stored.identity, changed(begun), "out")


def test_a_folder_of_somebody_elses_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "part-00000.parquet").touch()
    with pytest.raises(OutputError, match="and no manifest"):
        Store(str(tmp_path)).read_manifest()


def test_another_file_system_gets_each_shard_in_one_piece() -> None:
    store = Store("memory://a-corpus")
    store.publish(7, pa.table({"n": [1]}), b"")
    assert store.done() == {7}


def test_a_server_whose_disk_is_full_has_no_half_of_a_shard(monkeypatch: pytest.MonkeyPatch) -> None:
    def rename(self: MemoryFileSystem, path1: str, path2: str) -> None:
        assert path2 not in self.store  # as servers of SMB, FTP and HDFS want it
        self.store[path2] = self.store.pop(path1)

    def half(self: MemoryFileSystem, path: str, value: bytes) -> None:
        self.open(path, "wb", data=value[: len(value) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(MemoryFileSystem, "mv", rename)  # which makes it a server: object stores have no renames
    store, table = Store("memory://a-server"), pa.table({"n": [1]})
    with monkeypatch.context() as context:
        context.setattr(MemoryFileSystem, "pipe_file", half)
        with pytest.raises(OutputError, match="No space left"):
            store.publish(0, table, b"")
    assert store.done() == set()
    for failed in (b"1\n", b"2\n"):
        store.publish(0, table, failed)
    assert store.read(0, ["n"]) == table
    store.clear_unfinished()
    assert store.done() == {0}
