"""A Hugging Face Hub on this machine: a real HTTP server of the part of its protocol that fetching a model takes.

It can be told to misbehave in the ways that networks and mirrors do.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import unquote, urlsplit

import huggingface_hub
from huggingface_hub import file_download
from huggingface_hub.utils._http import reset_sessions

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pytest

_API = re.compile(r"/api/models/(?P<id>[^/]+/[^/]+)(/revision/(?P<revision>.+))?")
_FILE = re.compile(r"/(?P<id>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<name>.+)")


@dataclass
class Faults:
    """What goes wrong, until it is set back.

    Attributes:
        status: every answer has this status, with `code` as the Hub's own name for the error.
        break_after: weights end after so many bytes of an answer, with the connection.
        breaks: how many answers are broken off; None breaks all.
        cut: weights are said to be as long as they are, but so many bytes shorter.
        corrupt: weights have another last byte.
        claimed_size: what the listing says about the size of the weights.
        stall: weights stop half-way until the event is set.
    """

    status: int = 0
    code: str = ""
    break_after: int | None = None
    breaks: int | None = None
    cut: int = 0
    corrupt: bool = False
    claimed_size: int | None = None
    stall: threading.Event | None = None


@dataclass
class Repo:
    """One model on the Hub: branches to commits to files."""

    branches: dict[str, str] = field(default_factory=dict)
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)


class LocalHub:
    """The server; `with` starts and ends it.

    Attributes:
        repos: what it has, by id.
        faults: what goes wrong.
        requests: (method, path, Range header) of all it was asked.
    """

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.faults = Faults()
        self.requests: list[tuple[str, str, str]] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.daemon_threads = True
        cast("Any", self._server).hub = self
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> LocalHub:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def push(self, hub_id: str, folder: Path, *, branch: str = "main", **changed: bytes) -> str:
        """Put a checkpoint's files on a branch, some with other content; returns the commit."""
        files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        return self.push_files(
            hub_id, files | {name.replace("__", "."): content for name, content in changed.items()}, branch
        )

    def push_files(self, hub_id: str, files: dict[str, bytes], branch: str = "main") -> str:
        """Put files on a branch; returns the commit, which depends on them."""
        repo = self.repos.setdefault(hub_id, Repo())
        commit = hashlib.sha1(repr(sorted(files.items())).encode(), usedforsecurity=False).hexdigest()
        repo.commits[commit] = files
        repo.branches[branch] = commit
        return commit

    def fetched(self) -> list[str]:
        """Names of the files whose content was asked for."""
        return [
            unquote(found["name"])
            for method, path, _ in self.requests
            if method == "GET" and (found := _FILE.match(path))
        ]


@contextmanager
def only_hub(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Iterator[LocalHub]:
    """A Hub that this process takes for the only one, and an empty cache below the folder."""
    constants = huggingface_hub.constants
    with LocalHub() as server:
        template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        monkeypatch.setattr(file_download, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder / "cache"))
        monkeypatch.setattr(constants, "HF_ASSETS_CACHE", str(folder / "assets"))
        monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 100_000)  # what is kept when it breaks
        go_online(monkeypatch)
        yield server
    reset_sessions()


def go_online(monkeypatch: pytest.MonkeyPatch, *, online: bool = True) -> None:
    """Let this process ask the Hub, or not."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", not online)
    reset_sessions()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    @property
    def _hub(self) -> LocalHub:
        return cast("LocalHub", cast("Any", self.server).hub)

    def log_message(self, *_: object) -> None:
        """Keep quiet."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        self._hub.requests.append((self.command, self.path, self.headers.get("Range", "")))
        path = unquote(urlsplit(self.path).path)
        if self._hub.faults.status:
            self._refuse(self._hub.faults.status, self._hub.faults.code)
        elif listing := _API.fullmatch(path):
            self._list(listing)
        elif wanted := _FILE.fullmatch(path):
            self._file(wanted)
        else:
            self._refuse(404, "")

    def _commit(self, wanted: re.Match[str]) -> tuple[str, dict[str, bytes]] | None:
        repo = self._hub.repos.get(wanted["id"])
        if repo is None:
            self._refuse(404, "RepoNotFound")
            return None
        revision = wanted["revision"] or "main"
        commit = repo.branches.get(revision, revision)
        if commit not in repo.commits:
            self._refuse(404, "RevisionNotFound")
            return None
        return commit, repo.commits[commit]

    def _list(self, wanted: re.Match[str]) -> None:
        if found := self._commit(wanted):
            commit, files = found
            siblings = [self._sibling(name, content) for name, content in files.items()]
            body = json.dumps({"id": wanted["id"], "sha": commit, "siblings": siblings}).encode()
            self._send(200, {"Content-Type": "application/json"}, body)

    def _sibling(self, name: str, content: bytes) -> dict[str, Any]:
        claimed = self._hub.faults.claimed_size if _is_large(name) else None
        return {"rfilename": name, "size": claimed or len(content), "blobId": _git_sha1(content)}

    def _file(self, wanted: re.Match[str]) -> None:
        found = self._commit(wanted)
        if found is None:
            return
        commit, files = found
        name, faults = wanted["name"], self._hub.faults
        if name not in files:
            self._refuse(404, "EntryNotFound")
            return
        content = files[name]
        headers = {"X-Repo-Commit": commit, "ETag": f'"{_git_sha1(content)}"'}
        if _is_large(name):
            digest = hashlib.sha256(content).hexdigest()
            headers |= {"X-Linked-Etag": f'"{digest}"', "X-Linked-Size": str(len(content))}
            content = content[: len(content) - faults.cut]
            content = content[:-1] + bytes([content[-1] ^ 1]) if faults.corrupt else content
        status, start = 200, 0
        if asked := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "")):
            status, start = 206, int(asked[1])
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self._send(status, headers, content[start:], fragile=_is_large(name))

    def _send(self, status: int, headers: dict[str, str], body: bytes, *, fragile: bool = False) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self._write(body, fragile=fragile)

    def _write(self, body: bytes, *, fragile: bool) -> None:
        faults = self._hub.faults
        if fragile and faults.stall is not None:
            self.wfile.write(body[: len(body) // 2])
            faults.stall.wait(30)
            self.close_connection = True
        elif fragile and faults.break_after is not None and faults.breaks != 0:
            faults.breaks = None if faults.breaks is None else faults.breaks - 1
            self.wfile.write(body[: faults.break_after])
            self.close_connection = True
        else:
            self.wfile.write(body)

    def _refuse(self, status: int, code: str) -> None:
        self._send(status, {"X-Error-Code": code} if code else {}, b"{}")


def _is_large(name: str) -> bool:
    return name.endswith((".safetensors", ".bin"))


def _git_sha1(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
