"""Voyage's SDK."""

from __future__ import annotations

import inspect
import json
import sys

import voyageai


def parameters(call, *renamed):
    return [name for name in inspect.signature(call).parameters if name not in {"self", *renamed}]


url, work = sys.argv[1], json.load(sys.stdin)
client = voyageai.Client(api_key=work["key"], base_url=f"{url}/v1", max_retries=2)

embedded = client.embed(work["texts"], model=work["model"], input_type=None)
small = client.embed(work["texts"], model=work["model"], output_dtype="int8")
reranked = client.rerank(work["query"], work["documents"], model=work["reranker"], top_k=3)
try:
    client.embed(["a"], model=work["model"], input_type="picture")
except voyageai.error.InvalidRequestError as error:
    refusal = error
narrow = voyageai.Client(api_key=work["narrow key"], base_url=f"{url}/v1", max_retries=0)
try:
    for _ in range(20):
        narrow.embed(["a"], model=work["model"])
except voyageai.error.RateLimitError as error:
    busy = error
patient = voyageai.Client(api_key=work["narrow key"], base_url=f"{url}/v1", max_retries=6)
after_a_pause = patient.embed(work["texts"], model=work["model"])

said = {
    "vectors": embedded.embeddings,
    "vectors after a pause": after_a_pause.embeddings,
    "int8": small.embeddings,
    "ranking": [result.index for result in reranked.results],
    "found": reranked.results[0].document,
    "refusal": str(refusal),
    "busy": str(busy),
    "fields": {
        "/v1/embeddings": ["input", *parameters(voyageai.Client.embed, "texts")],
        "/v1/rerank": parameters(voyageai.Client.rerank),
    },
}
print(json.dumps(said))
