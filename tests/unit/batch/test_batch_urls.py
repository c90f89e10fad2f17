"""Files that are read from a web server."""

from __future__ import annotations

import gzip
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest
from conch_batch import TextRows
from conch_batch.inputs.files import find
from conch_batch.inputs.rows import Reader

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """A web server of the files in `tmp_path`."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
def test_what_follows_the_path_of_a_url_is_no_part_of_the_name(name: str, address: str, tmp_path: Path) -> None:
    content = b'{"text": "a"}\n'
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    (file,) = find([f"{address}/{name}?download=true&signature=a.b/c"])
    assert file.name == name
    reader = Reader(TextRows.FILE)
    assert [table.to_pylist() for table in reader.tables(file, reader.scan(file).schema)] == [[{"text": "a"}]]
