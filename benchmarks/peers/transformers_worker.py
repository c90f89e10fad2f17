"""transformers on torch in fp32 as people write it: `padding="longest"`, the mean over real tokens, length 1.

python -m benchmarks.peers.transformers_worker FOLDER THREADS BATCH < TEXTS.json     writes seconds, tokens, vectors
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import torch
from transformers import AutoModel, AutoTokenizer

KEPT = 4
"""Vectors that are written, for a comparison."""


def main(folder: str, threads: int, batch: int) -> dict[str, Any]:
    torch.set_num_threads(threads)
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)  # type: ignore[no-untyped-call]
    model = AutoModel.from_pretrained(folder, local_files_only=True).eval()
    texts = json.load(sys.stdin)
    embed(model, tokenizer, texts[:1])
    began, vectors, tokens, cells = time.perf_counter(), [], 0, 0
    for start in range(0, len(texts), batch):
        found, real, padded = embed(model, tokenizer, texts[start : start + batch])
        vectors += found
        tokens, cells = tokens + real, cells + padded
    seconds = time.perf_counter() - began
    return {"seconds": seconds, "tokens": tokens, "padded_tokens": cells, "vectors": vectors[:KEPT]}


@torch.inference_mode()
def embed(model: Any, tokenizer: Any, texts: list[str]) -> tuple[list[list[float]], int, int]:
    inputs = tokenizer(texts, padding="longest", truncation=True, max_length=8192, return_tensors="pt")
    hidden, mask = model(**inputs).last_hidden_state, inputs["attention_mask"][..., None].float()
    pooled = (hidden * mask).sum(1) / mask.sum(1)
    units = torch.nn.functional.normalize(pooled, dim=-1)
    return units.tolist(), int(mask.sum()), mask.numel()


if __name__ == "__main__":
    folder, threads, batch = sys.argv[1:]
    print(json.dumps(main(folder, int(threads), int(batch))))
