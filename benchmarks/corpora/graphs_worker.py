"""The graphs alone over a part of a corpus: tokenised and sorted by length before the clock runs, one thread.

python -m benchmarks.corpora.graphs_worker REPOSITORY MODEL CORPUS.parquet FIRST STEP

Says when it is ready, begins when it is told to, and writes texts, tokens and seconds.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
from conch_export.onnx.engine import Row
from tokenizers import Tokenizer

from benchmarks.engine import Engine

TOKENS = 1024
"""Of one run, as `conch embed` and the client have it."""
MAX_LENGTH = 256


def main(repository: Path, model: str, corpus: str, first: int, step: int) -> dict[str, float]:
    tokenizer = Tokenizer.from_file(str(repository / f"{model}.tokenizer" / "1" / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(MAX_LENGTH)
    texts = pq.read_table(corpus, columns=["text"])["text"].to_pylist()[first::step]
    ids = sorted((encoding.ids for encoding in tokenizer.encode_batch_fast(texts)), key=len, reverse=True)
    runs: list[list[Row]] = [[]]
    for each in ids:
        if runs[-1] and (len(runs[-1]) + 1) * len(runs[-1][0].ids) > TOKENS:
            runs.append([])
        runs[-1].append(Row(each, [0] * len(each)))
    encoder, pooling = (repository / f"{model}.{part}" / "1" / "model.onnx" for part in ("encoder", "pooling"))
    engine = Engine(encoder, pooling)
    engine(runs[0])
    print("ready", flush=True)
    sys.stdin.readline()
    began = time.perf_counter()
    for rows in runs:
        engine(rows)
    return {"texts": len(ids), "tokens": sum(map(len, ids)), "seconds": time.perf_counter() - began}


if __name__ == "__main__":
    repository, model, corpus, first, step = sys.argv[1:]
    print(json.dumps(main(Path(repository), model, corpus, int(first), int(step))))
