"""Files become rows in a fixed order, and any part of them can be read by itself."""

from __future__ import annotations

import errno
import gzip
import json
import lzma
import os
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conch_batch import InputError, TextRows
from conch_batch.inputs import csv, jsonl, parquet
from conch_batch.inputs.files import find
from conch_batch.inputs.rows import Reader, unified
from fsspec.core import url_to_fs

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ROWS: list[dict[str, Any]] = [{"id": str(n), "text": f'a "{n}",\n\nwith lines, 2020-01-0{n}'} for n in range(1, 8)]


def write_parquet(path: Path) -> None:
    pq.write_table(pa.Table.from_pylist(ROWS), path, row_group_size=3)


def write_stream(path: Path) -> None:
    table = pa.Table.from_pylist(ROWS)
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
        stream.write_table(table, max_chunksize=3)


def write_feather(path: Path) -> None:
    table = pa.Table.from_pylist(ROWS)
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as whole:
        whole.write_table(table, max_chunksize=3)


def write_jsonl(path: Path) -> None:
    lines = [json.dumps(row) for row in ROWS]
    path.write_text("\n\n".join(lines) + "\n", encoding="utf-8")


def write_compressed(path: Path) -> None:
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.write("\n".join(json.dumps(row) for row in ROWS))


def write_csv(path: Path) -> None:
    quoted = [(row["id"], row["text"].replace('"', '""')) for row in ROWS]
    path.write_text("id,text\n" + "".join(f'{number},"{text}"\n' for number, text in quoted), encoding="utf-8")


def write_tsv(path: Path) -> None:
    quoted = [(row["id"], row["text"].replace('"', '""')) for row in ROWS]
    path.write_text("\ufeffid\ttext\r\n" + "\r\n".join(f'{number}\t"{text}"' for number, text in quoted), "utf-8")


FORMATS: dict[str, Callable[[Path], None]] = {
    "a.parquet": write_parquet,
    "stream.arrow": write_stream,
    "feather.arrow": write_feather,
    "a.jsonl": write_jsonl,
    "a.jsonl.gz": write_compressed,
    "a.csv": write_csv,
    "a.tsv": write_tsv,
}


def read(path: Path, begin: int, end: int, rows: TextRows = TextRows.FILE) -> list[dict[str, Any]]:
    (file,), reader = find([str(path)]), Reader(rows)
    scan = reader.scan(file)
    found: list[dict[str, Any]] = reader.read(
        file, int(scan.places[begin]), int(scan.places[end]), scan.schema
    ).to_pylist()
    return found


@pytest.mark.parametrize("name", FORMATS)
def test_any_part_of_a_file_is_read_by_itself(name: str, tmp_path: Path) -> None:
    FORMATS[name](tmp_path / name)
    (file,) = find([str(tmp_path / name)])
    assert len(Reader(TextRows.FILE).scan(file).places) == len(ROWS) + 1
    for begin in range(len(ROWS)):
        for end in range(begin + 1, len(ROWS) + 1):
            assert read(tmp_path / name, begin, end) == ROWS[begin:end]


@pytest.mark.parametrize("batch", [1, 2, 5, 100])
def test_parts_of_parquet_files_are_the_same_in_any_order(
    batch: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "_BATCH", batch)
    tables = {}
    for name, size in (("a.parquet", 3), ("b.parquet", 1), ("c.parquet", 7)):
        tables[name] = pa.table({"n": [f"{name} {n}" for n in range(40)]})
        pq.write_table(tables[name], tmp_path / name, row_group_size=size)
    files, kept = find([str(tmp_path)]), Reader(TextRows.FILE)
    random = np.random.default_rng(batch)
    for _ in range(80):
        begin, end = sorted(random.integers(0, 41, 2).tolist())
        file = files[random.integers(len(files))]
        found = kept.read(file, begin, end, tables[file.name].schema)
        alone = Reader(TextRows.FILE).read(file, begin, end, found.schema)
        assert found == tables[file.name].slice(begin, end - begin)
        assert [len(each) for each in found["n"].chunks] == [len(each) for each in alone["n"].chunks]


def test_one_row_group_is_read_once_for_all_parts_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "_BATCH", 10)
    table, begun = pa.table({"n": range(100)}), list[list[int]]()
    pq.write_table(table, tmp_path / "a.parquet")
    (file,), reader, real = find([str(tmp_path)]), Reader(TextRows.FILE), pq.ParquetFile.iter_batches

    def counted(self: Any, *arguments: Any, **options: Any) -> Any:
        begun.append(options["row_groups"])
        return real(self, *arguments, **options)

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", counted)
    for begin in range(0, 100, 7):
        assert reader.read(file, begin, begin + 7, table.schema) == table.slice(begin, 7)
    assert begun == [[0]]


@pytest.mark.parametrize(
    ("name", "piece"), [*((name, 100) for name in [*FORMATS, "a.txt"]), ("a.csv", 1), ("a.tsv", 1), ("a.csv", 10_000)]
)
def test_all_rows_of_a_file_are_read_one_after_another_with_the_columns_that_are_asked(
    name: str, piece: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jsonl, "_ROWS", 3)
    monkeypatch.setattr(csv, "_PIECE", piece)
    FORMATS.get(name, lambda path: path.write_text(ROWS[0]["text"], "utf-8"))(tmp_path / name)
    (file,) = find([str(tmp_path / name)])
    wanted = pa.schema([("text", pa.large_string()), ("missing", pa.int64())])
    tables = list(Reader(TextRows.FILE).tables(file, wanted))
    assert pa.concat_tables(tables).schema == wanted
    expected = ROWS[:1] if name == "a.txt" else ROWS
    assert pa.concat_tables(tables).to_pylist() == [{"text": row["text"], "missing": None} for row in expected]


def test_texts_that_look_like_dates_or_numbers_stay_texts(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text\n2020-01-01\n007\n", encoding="utf-8")
    (tmp_path / "a.jsonl").write_text('{"text": "2020-01-01"}\n{"text": "007"}\n', encoding="utf-8")
    expected = [{"text": "2020-01-01"}, {"text": "007"}]
    assert read(tmp_path / "a.csv", 0, 2) == read(tmp_path / "a.jsonl", 0, 2) == expected


def test_tabs_separate_values_where_the_file_ends_in_tsv_whatever_else_is_called_so(tmp_path: Path) -> None:
    for name in ("from.tsv/a.csv", "from.tsv/b.tsv.csv", "from.tsv/c.csv.TSV"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("n\ttext\n1\ta\n" if name.endswith("TSV") else "n,text\n1,a\n", encoding="utf-8")
    files = find([str(tmp_path)])
    assert [Reader(TextRows.FILE).scan(file).schema.names for file in files] == [["n", "text"]] * 3


def test_empty_lines_of_a_csv_file_are_no_rows(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b'n,text\r\n1,a\r\n\r\n\n2,"b\n\nc"\n3,\n\n')
    assert read(tmp_path / "a.csv", 0, 3) == [
        {"n": "1", "text": "a"},
        {"n": "2", "text": "b\n\nc"},
        {"n": "3", "text": ""},
    ]
    assert read(tmp_path / "a.csv", 1, 2) == [{"n": "2", "text": "b\n\nc"}]


def test_a_column_that_only_some_rows_have_is_null_in_the_others(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "a"}\n{"text": "b", "n": 2}\n{"n": 2.5}\n', encoding="utf-8")
    assert read(tmp_path / "a.jsonl", 0, 1) == [{"text": "a", "n": None}]
    assert read(tmp_path / "a.jsonl", 1, 3) == [{"text": "b", "n": 2.0}, {"text": None, "n": 2.5}]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (TextRows.FILE, [(1, "one\ntwo\n\n\nthree\n")]),
        (TextRows.PARAGRAPH, [(1, "one\ntwo"), (5, "three")]),
        (TextRows.LINE, [(1, "one"), (2, "two"), (5, "three")]),
    ],
)
def test_rows_of_a_text_file_are_what_was_asked(
    rows: TextRows, expected: list[tuple[int, str]], tmp_path: Path
) -> None:
    (tmp_path / "a.md").write_text("one\ntwo\n\n\nthree\n", encoding="utf-8")
    found = read(tmp_path / "a.md", 0, len(expected), rows)
    assert [(row["path"], row["line"], row["text"]) for row in found] == [("a.md", *row) for row in expected]


@pytest.mark.parametrize("pattern", ["part-0?.jsonl", "part-0[01].jsonl", "part-*.jsonl"])
@pytest.mark.parametrize("where", ["local", "memory"])
def test_a_pattern_is_one_with_any_wildcard(pattern: str, where: str, tmp_path: Path) -> None:
    folder = str(tmp_path) if where == "local" else f"memory://{tmp_path.name}"
    for name in ("part-00.jsonl", "part-01.jsonl", "other.jsonl"):
        filesystem, path = url_to_fs(f"{folder}/{name}")
        filesystem.pipe_file(path, b"{}\n")
    assert [file.name for file in find([f"{folder}/{pattern}"])] == ["part-00.jsonl", "part-01.jsonl"]


def test_files_of_a_folder_come_by_name_and_tables_without_the_texts_beside_them(tmp_path: Path) -> None:
    for name in ("b/2.jsonl", "b/10.jsonl", "a.jsonl", "README.md", ".hidden/x.jsonl", "_failed/part.jsonl", "x.bin"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("{}\n", encoding="utf-8")
    assert [file.name for file in find([str(tmp_path)])] == ["a.jsonl", "b/10.jsonl", "b/2.jsonl"]
    assert [file.name for file in find([str(tmp_path / "b" / "*.jsonl")])] == ["10.jsonl", "2.jsonl"]


@pytest.mark.parametrize(
    ("files", "given", "message"),
    [
        ({}, "none.jsonl", "does not exist"),
        ({"a.bin": ""}, "a.bin", "ends in none of"),
        ({"a.bin": ""}, "", "has no file that ends in"),
        ({"a.csv": "", "b.jsonl": ""}, "", "files of several formats"),
    ],
    ids=["missing", "unknown", "empty", "mixed"],
)
def test_inputs_that_are_no_corpus_are_refused(files: dict[str, str], given: str, message: str, tmp_path: Path) -> None:
    for name, content in files.items():
        (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        find([str(tmp_path / given)])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b'{"text": "a"}\nnonsense\n', "line 2 is no JSON"),
        ("a.jsonl", b"[1]\n", "line 1 is no JSON object"),
        ("a.jsonl", b'{"n": 1}\n{"n": "a"}\n', "values of different kinds"),
        ("a.jsonl", b'{"n": 1}\n{"text": "\\ud83d"}\n', "line 2 has half of a surrogate pair"),
        ("a.jsonl", b'{"n": 123456789012345678901234567890}\n', "too large|too big|out of bounds|overflow"),
        ("a.jsonl", b'{"n": ' + b"[" * 100_000 + b"\n", "recursion"),
        ("a.csv", b'text\n"open\n', "quote is not closed"),
        ("a.csv", b"text,text\na,b\n", "names a column twice"),
        ("a.csv", b"", "no header line"),
        ("a.csv", b'"te"xt,n\na,1\n', "first line holds no names"),
        ("a.parquet", b"nonsense", "cannot be read as parquet"),
        ("a.txt", b"\xff\xfe", "cannot be read as text"),
        ("a.txt", "a".encode("utf-16"), r"not in UTF-8: byte 0 \(line 1\) is 0xff; convert it .* iconv -f UTF-16"),
        ("a.txt", b"a\nb\xe9", r"not in UTF-8: byte 3 \(line 2\) is 0xe9; convert it .* iconv -f WINDOWS-1252"),
        ("a.jsonl", b'{"n": 1}\n{"text": "\xe9"}\n', r"not in UTF-8: byte 19 \(line 2\) is 0xe9; convert it"),
        ("a.jsonl", b'{"text": "\xed\xa0\xbd"}\n', r"not in UTF-8: byte 10 \(line 1\) is 0xed; convert it"),
        ("a.csv", b"t\xe9xt\na\n", r"not in UTF-8: byte 1 \(line 1\) is 0xe9; convert it"),
        ("a.csv", b"text\na\nna\xefve\n", r"not in UTF-8: byte 9 \(line 3\) is 0xef; convert it"),
        ("a.csv", b"text\na\xc3", r"not in UTF-8: byte 6 \(line 2\) is 0xc3; convert it"),
        ("a.jsonl.gz", b"nonsense", "cannot be read as jsonl"),
        ("a.jsonl.gz", gzip.compress(b'{"text": "a"}\n', mtime=0)[:-3], "cannot be read as jsonl"),
        ("a.jsonl.gz", gzip.compress(b'{"text": "a"}\n', mtime=0)[:10] + b"\xff" * 9, "cannot be read as jsonl"),
        ("a.jsonl.xz", lzma.compress(b'{"text": "a"}\n')[:20] + b"\xff" * 40, "cannot be read as jsonl"),
    ],
)
def test_a_file_that_cannot_be_read_is_named_with_the_reason(
    name: str, content: bytes, message: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    (file,) = find([str(tmp_path / name)])
    with pytest.raises(InputError, match=f"{name}.*{message}"):
        Reader(TextRows.FILE).scan(file)


def test_files_whose_columns_do_not_agree_are_refused() -> None:
    with pytest.raises(InputError, match="different types"):
        unified([pa.schema([("n", pa.int64())]), pa.schema([("n", pa.string())])])
    with pytest.raises(InputError, match="two columns of one name: n, n"):
        unified([pa.schema([("n", pa.int64()), ("n", pa.int64())])])


def test_objects_in_objects_may_have_other_keys_in_other_parts_of_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jsonl, "_ROWS", 1)
    rows = [{"text": "a", "about": {"n": 1}}, {"text": "b", "about": {"tags": ["x"]}}, {"text": "c", "about": None}]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert [row["about"] for row in read(tmp_path / "a.jsonl", 0, 3)] == [
        {"n": 1, "tags": None},
        {"n": None, "tags": ["x"]},
        None,
    ]


def test_returns_between_the_values_of_an_object_end_no_line(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"n": 1,\r"text": "a"}\r\n{"n": 2, "text": "b"}\r\n')
    assert read(tmp_path / "a.jsonl", 0, 2) == [{"n": 1, "text": "a"}, {"n": 2, "text": "b"}]


def test_a_byte_order_mark_is_no_part_of_a_text(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("\ufeffone".encode())
    assert read(tmp_path / "a.txt", 0, 1)[0]["text"] == "one"


@pytest.mark.parametrize(
    "name", ["a [1].jsonl", "what?.jsonl", "*.jsonl", "größe 🐚.jsonl", "a#b%20c.jsonl", "'a' \"b\".jsonl"]
)
def test_a_file_may_have_any_name(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "a folder [x]"
    folder.mkdir()
    (folder / name).write_text('{"text": "a"}\n', encoding="utf-8")
    (folder / "other.jsonl").write_text('{"text": "b"}\n', encoding="utf-8")
    assert sorted(file.name for file in find([str(folder)])) == sorted([name, "other.jsonl"])
    assert read(folder / name, 0, 1) == [{"text": "a"}]
    assert find([str(folder / name)])[0].fingerprint != find([str(folder / "other.jsonl")])[0].fingerprint


def test_an_output_below_an_input_is_no_part_of_it(tmp_path: Path) -> None:
    for name in ("a.jsonl", "vectors/part-00000.parquet", "vectors-2/b.jsonl"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("{}\n", encoding="utf-8")
    found = find([str(tmp_path)], f"{tmp_path}/vectors/")
    assert [file.name for file in found] == ["a.jsonl", "vectors-2/b.jsonl"]


@pytest.mark.parametrize(
    ("given", "output"),
    [
        ("corpus", "corpus/vectors"),
        ("corpus/notes/..", "corpus/vectors"),
        ("corpus", "notes/../corpus/vectors"),
        ("corpus", "link/vectors"),
        ("link", "corpus/vectors"),
        ("corpus/*.parquet", "corpus/vectors"),
        ("corpus/**/*.parquet", "corpus/vectors"),
        ("link/**/*.parquet", "corpus/vectors"),
    ],
)
def test_an_output_is_no_part_of_its_input_however_both_are_named(
    given: str, output: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("corpus/a.parquet", "corpus/vectors/part-00000.parquet", "corpus/notes/b.txt", "notes/c.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "link").symlink_to("corpus")
    monkeypatch.chdir(tmp_path)
    assert [file.name for file in find([given], output)] == ["a.parquet"]


def test_a_pattern_that_only_the_output_matches_is_refused(tmp_path: Path) -> None:
    (tmp_path / "part-00000.parquet").touch()
    for given in ("", "*.parquet"):
        with pytest.raises(InputError, match="or only in the output"):
            find([str(tmp_path / given)], str(tmp_path))


def test_linked_folders_below_are_read_once(tmp_path: Path) -> None:
    for name in ("corpus/a.jsonl", "corpus/.2026/c.jsonl", "elsewhere/b.jsonl"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("{}\n", encoding="utf-8")
    links = {"linked": "../elsewhere", "again": "../elsewhere", "current": ".2026", "loop": "."}
    for link, to in {**links, "../elsewhere/back": "../corpus"}.items():
        (tmp_path / "corpus" / link).symlink_to(to)
    assert [file.name for file in find([str(tmp_path / "corpus")])] == ["a.jsonl", "again/b.jsonl", "current/c.jsonl"]


def test_a_folder_below_that_cannot_be_read_is_not_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.jsonl", "secret/b.jsonl"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("{}\n", encoding="utf-8")
    scandir = os.scandir

    def refusing(path: str) -> Any:
        if str(path).endswith("secret"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)  # root, who tests are run by in containers, may read everything
    with pytest.raises(InputError, match=r"cannot be read: .*Permission denied.*secret"):
        find([str(tmp_path)])


def test_a_file_that_is_gone_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("{}\n", encoding="utf-8")
    (file,) = find([str(tmp_path)])
    (tmp_path / "a.jsonl").unlink()
    for attempt in (lambda: file.fingerprint, file.stamp, file.open):
        with pytest.raises(InputError, match=r"a\.jsonl cannot be read"):
            attempt()


def test_a_fingerprint_follows_the_content(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("a", encoding="utf-8")
    before = find([str(path)])[0].fingerprint
    assert find([str(path)])[0].fingerprint == before
    path.write_text("b", encoding="utf-8")
    assert find([str(path)])[0].fingerprint != before
