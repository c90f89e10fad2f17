"""Memory, time and vectors of long texts in the browser: WebAssembly's memory, and the whole process of the page."""

from __future__ import annotations

import contextlib
import json
import time
from dataclasses import asdict
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
from conch_client import Client
from conch_export import browser_plan

from benchmarks import workloads
from benchmarks.browser.prepared import JINA, PRECISIONS
from benchmarks.browser.server import Served
from benchmarks.true_sizes.shapes import SHAPES
from tests.serving import Serving
from tests.web.browser import Chromium

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from benchmarks.browser.prepared import Prepared

LENGTHS = {"minilm": (128, 256), JINA: (512, 1024, 2048, 4096, 8192)}
FACTS = {"minilm": {"layers": 6, "hidden": 384, "inner": 1536, "heads": 12, "vocabulary": 30522}}
FIELDS = {
    "layers": "num_hidden_layers",
    "hidden": "hidden_size",
    "inner": "intermediate_size",
    "heads": "num_attention_heads",
    "vocabulary": "vocab_size",
}
"""Names in config.json."""
SAMPLE_S = 0.05
EMPTY = "async () => { await new Promise((resolve) => setTimeout(resolve, 1000)); }"
ONE_TEXT = """async ({model: name, threads, text}) => {
    const { load } = await import("/conch-web/conch-web.js");
    const channel = new BroadcastChannel("memory");
    const bytes = () => new Promise((resolve) => {
        channel.onmessage = ({ data }) => resolve(data);
        channel.postMessage("");
    });
    const model = await load(`/${name}/`, {threads});
    const loaded = await bytes();
    const began = performance.now();
    const vector = await model.embed(text);
    const seconds = (performance.now() - began) / 1000;
    const [ids] = await model.tokenize([text]);
    const memory = {loaded, peak: await bytes()};
    model.dispose();
    return {...memory, seconds, vector: Array.from(vector), tokens: ids.length, threads: model.threads};
}"""


def name_of(row: dict[str, Any]) -> str:
    """What distinguishes a row from others: `jina-small-int8-8192`, and `-2-threads` where there are more than one."""
    return f"{row['shape']}-{row['precision']}-{row['tokens']}" + ("-2-threads" if row["threads"] == 2 else "")


def measure(files: Prepared, only: Sequence[str] = ()) -> dict[str, Any]:
    """Every shape, precision and length on one thread, and the longest on two."""
    wanted: list[dict[str, Any]] = [
        {"shape": shape, "precision": precision, "tokens": tokens, "threads": threads}
        for shape, lengths in LENGTHS.items()
        for precision in PRECISIONS
        for tokens in lengths
        for threads in ((1, 2) if tokens == max(lengths) else (1,))
    ]
    chosen = [row for row in wanted if not only or name_of(row) in only]
    texts = {row["tokens"]: text_of(files, row["tokens"]) for row in chosen}
    expected = served_vectors(files, chosen, texts)
    with Served(files.web) as served:
        rows = [_measured(files, row, texts[row["tokens"]], expected[_key(row)], served.url) for row in chosen]
    return {"rows": rows}


def text_of(files: Prepared, tokens: int) -> str:
    """A text of so many tokens, special ones included."""
    words = np.array(workloads.single_token_words(files.tokenizer))
    return " ".join(np.random.default_rng(tokens).choice(words, tokens - workloads.SPECIAL_TOKENS))


def served_vectors(files: Prepared, rows: Sequence[dict[str, Any]], texts: dict[int, str]) -> dict[Any, Any]:
    """The server's vectors of the same texts, from a Triton that ends before anything is measured."""
    place = files.repository.parent / "serving"
    place.mkdir(exist_ok=True)
    with Serving(files.repository, place) as serving, Client(serving.grpc_url, timeout_s=300) as client:
        return {
            _key(row): client.embed([texts[row["tokens"]]], model=f"{row['shape']}-{row['precision']}")[0]
            for row in rows
        }


def _key(row: dict[str, Any]) -> tuple[str, str, int]:
    return row["shape"], row["precision"], row["tokens"]


def _measured(files: Prepared, row: dict[str, Any], text: str, expected: Any, url: str) -> dict[str, Any]:
    model = f"{row['shape']}-{row['precision']}"
    with Chromium() as chromium, _peak(chromium) as idle:
        chromium.run(url, EMPTY)
    with Chromium() as chromium, _peak(chromium) as busy:
        found = chromium.run(url, ONE_TEXT, {"model": model, "threads": row["threads"], "text": text})
    assert (found["tokens"], found["threads"]) == (row["tokens"], row["threads"])
    vector = np.array(found["vector"])
    sizes = _sizes(files, model)
    return {
        **row,
        **_facts(row["shape"]),
        "rows": 1,
        **sizes,
        "wasm_bytes_loaded": found["loaded"],
        "wasm_bytes_peak": found["peak"],
        "process_bytes_idle": idle.bytes,
        "process_bytes_peak": busy.bytes,
        "seconds": round(found["seconds"], 2),
        "cosine": float(vector @ expected / np.linalg.norm(vector) / np.linalg.norm(expected)),
        "largest_difference": float(np.abs(vector - expected).max()),
        "plan": asdict(browser_plan(files.exports[model])),
    }


def _facts(shape: str) -> dict[str, int]:
    if shape in FACTS:
        return FACTS[shape]
    config = SHAPES[shape].config
    return {ours: config[theirs] for ours, theirs in FIELDS.items()}


def _sizes(files: Prepared, model: str) -> dict[str, int]:
    manifest = json.loads((files.web / model / "conch.json").read_text("utf-8"))
    sizes = {name: each["bytes"] for name, each in manifest["files"].items()}
    tokenizer = sizes.pop(manifest["tokenizer"])
    return {"graph_bytes": sum(sizes.values()), "tokenizer_bytes": tokenizer}


class _Peak:
    bytes = 0


@contextlib.contextmanager
def _peak(chromium: Chromium) -> Iterator[_Peak]:
    """The largest sum of the proportional shares (PSS) of a browser's pages, while it is entered."""
    peak, ended = _Peak(), Event()

    def sample() -> None:
        while not ended.is_set():
            peak.bytes = max(peak.bytes, sum(map(_pss, _pages(chromium.pid))))
            time.sleep(SAMPLE_S)

    thread = Thread(target=sample)
    thread.start()
    try:
        yield peak
    finally:
        ended.set()
        thread.join()


def _pages(pid: int) -> list[psutil.Process]:
    with contextlib.suppress(psutil.Error):
        children = psutil.Process(pid).children(recursive=True)
        return [child for child in children if "--type=renderer" in _command(child)]
    return []


def _command(process: psutil.Process) -> list[str]:
    with contextlib.suppress(psutil.Error):
        return process.cmdline()
    return []


def _pss(process: psutil.Process) -> int:
    with contextlib.suppress(psutil.Error):
        return int(process.memory_full_info().pss)
    return 0
