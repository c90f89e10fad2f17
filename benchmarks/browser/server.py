"""A web server over a folder that isolates pages, and lets a page ask how much memory WebAssembly has."""

from __future__ import annotations

from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from typing_extensions import Self

_REPORTS = b"""
const memories = [], Memory = WebAssembly.Memory;
WebAssembly.Memory = class extends Memory { constructor(limits) { super(limits); memories.push(this); } };
const asked = new BroadcastChannel("memory");
asked.onmessage = () => asked.postMessage(Math.max(0, ...memories.map((memory) => memory.buffer.byteLength)));
"""
"""Before the worker's own code: WebAssembly's memory, which only grows."""


class Files(SimpleHTTPRequestHandler):
    """Answers with files, in silence."""

    extensions_map = SimpleHTTPRequestHandler.extensions_map | {
        ".mjs": "text/javascript",
        ".wasm": "application/wasm",
    }

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Say nothing."""


class _Isolating(Files):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer a file, and the worker with what reports its memory."""
        if self.path != "/conch-web/worker.js":
            super().do_GET()
            return
        with open(self.translate_path(self.path), "rb") as file:  # noqa: PTH123
            content = _REPORTS + file.read()
        self.send_response(200)
        self.send_header("Content-Type", "text/javascript")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def end_headers(self) -> None:
        """Add what isolates pages from other origins."""
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        super().end_headers()


class Served:
    """The folder, while it is entered."""

    def __init__(self, folder: Path, files: type[Files] = _Isolating) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), partial(files, directory=str(folder)))
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
