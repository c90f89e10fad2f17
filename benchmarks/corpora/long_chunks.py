"""A corpus of long chunks: 2,587 chunks of 850 tokens with nomic-embed-text-v1.5; `results/long-chunks.json`.

    python -m benchmarks.corpora.long_chunks [--folder FOLDER] [--chunks 48] [--batches 2] [--single 8]

The checkpoint has the model's true shape and random weights: what is computed, and how long that takes, is the same.
Chunks are joined paragraphs of docstrings, of lengths as a splitter of documents makes them (600 to 1,100 tokens).
`conch embed` computes a sample of them, int8 and fp32; transformers, on as many cores, the first of these in batches of
16 padded to the longest, and one by one. Hours are seconds per chunk of the sample times 2,587.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from conch_batch import Embedding, Job, Workers
from conch_contract import usable_cores
from conch_export import Precision
from conch_export.verification.texts import docstrings
from tokenizers import Tokenizer

from benchmarks import nomic, venvs
from benchmarks.corpora.watching import timed
from benchmarks.disturbance import Disturbance
from benchmarks.machine import ROOT, keep

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

RESULT = ROOT / "benchmarks" / "results" / "long-chunks.json"
CHUNKS, TOKENS, DEVIATION, SHORTEST, LONGEST = 2587, 850, 100, 600, 1100
BATCH = 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=ROOT / ".run" / "nomic", help="of the models, about 2 GB")
    parser.add_argument("--chunks", type=int, default=48, help="that conch computes")
    parser.add_argument("--batches", type=int, default=2, help=f"of {BATCH} that transformers computes")
    parser.add_argument("--single", type=int, default=8, help="that transformers computes one by one")
    parser.add_argument("--precisions", nargs="*", choices=["int8", "fp32"], default=["int8", "fp32"])
    options = parser.parse_args()
    folder = options.folder.resolve()
    repositories = {each: nomic.exported(folder, Precision(each)) for each in options.precisions}
    checkpoint = folder / "checkpoint"
    texts = chunks(checkpoint, max(options.chunks, BATCH * options.batches))
    path = folder / "chunks.parquet"
    pq.write_table(pa.table({"text": texts[: options.chunks]}), path)
    disturbance = Disturbance()
    found = {f"conch embed, {each}": ours(repository, path, folder) for each, repository in repositories.items()}
    found["transformers, batches of 16"] = transformers(checkpoint, texts[: BATCH * options.batches], BATCH)
    found["transformers, one by one"] = transformers(checkpoint, texts[: options.single], 1)
    vectors = pq.read_table(folder / "vectors", columns=["vector"])["vector"].to_pylist()
    theirs = found["transformers, one by one"].pop("vectors")
    found["transformers, batches of 16"].pop("vectors")
    result = {
        "others_cores": disturbance.cores(),
        "chunks": CHUNKS,
        "mean_tokens": round(float(np.mean(_lengths(checkpoint, texts))), 1),
        "cosine_to_transformers": round(
            float(np.mean([np.dot(a, b) for a, b in zip(vectors, theirs, strict=False)])), 5
        ),
        "ways": found,
    }
    command = " ".join(["python -m benchmarks.corpora.long_chunks", *sys.argv[1:]])
    keep(RESULT, command, result, **{"transformers (peer)": venvs.versions("transformers")["transformers"]})


def chunks(checkpoint: Path, count: int) -> list[str]:
    """Texts of about so many tokens each, the same at every call."""
    tokenizer = _tokenizer(checkpoint)
    rng = np.random.default_rng(0)
    lengths = np.clip(rng.normal(TOKENS, DEVIATION, count), SHORTEST, LONGEST).astype(int)
    paragraphs = _paragraphs()
    return [_chunk(tokenizer, paragraphs, int(length)) for length in lengths]


def _chunk(tokenizer: Tokenizer, paragraphs: Iterator[str], length: int) -> str:
    text = next(paragraphs)
    while len(encoding := tokenizer.encode(text)) < length:
        text = f"{text}\n\n{next(paragraphs)}"
    return text[: encoding.offsets[length - 2][1]]


def _paragraphs() -> Iterator[str]:
    while True:
        yield from (part for text in docstrings() for part in text.split("\n\n") if part.strip())


def _lengths(checkpoint: Path, texts: Sequence[str]) -> list[int]:
    return [len(encoding) for encoding in _tokenizer(checkpoint).encode_batch(list(texts))]


def _tokenizer(checkpoint: Path) -> Tokenizer:
    tokenizer = Tokenizer.from_file(str(checkpoint / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def ours(repository: Path, path: Path, folder: Path) -> dict[str, Any]:
    """One run of `conch embed`; without the plan and the start of processes, which are stated beside it."""
    output = folder / "vectors"
    shutil.rmtree(output, ignore_errors=True)
    rows = pq.read_metadata(path).num_rows
    task = Embedding()
    job = Job(
        inputs=(str(path),),
        output=str(output),
        task=task,
        model=nomic.NAME,
        repository=repository.resolve(),
        shard_rows=max(1, rows // (4 * usable_cores())),
    )
    found = timed(job, Workers(cores=usable_cores()))
    return _way(found["texts"], found["tokens"], found["seconds"]) | {"start_seconds": _start(found)}


def _start(found: dict[str, Any]) -> float:
    return round(float(found["command_seconds"]) - float(found["seconds"]), 1)


def transformers(checkpoint: Path, texts: Sequence[str], batch: int) -> dict[str, Any]:
    command = [str(venvs.python("transformers")), "-m", "benchmarks.peers.transformers_worker"]
    command += [str(checkpoint), str(usable_cores()), str(batch)]
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        command, input=json.dumps(texts), capture_output=True, text=True, check=True, cwd=ROOT, env=environment
    )
    said = json.loads(done.stdout.splitlines()[-1])
    way = _way(len(texts), said["tokens"], said["seconds"])
    return way | {"computed_tokens": said["padded_tokens"], "vectors": said["vectors"]}


def _way(texts: int, tokens: int, seconds: float) -> dict[str, Any]:
    return {
        "sample": texts,
        "tokens": tokens,
        "seconds": round(seconds, 2),
        "seconds_per_chunk": round(seconds / texts, 3),
        "hours_in_all": round(seconds / texts * CHUNKS / 3600, 2),
    }


if __name__ == "__main__":
    main()
