"""Cohere's SDK: both versions of its API."""

from __future__ import annotations

import inspect
import json
import sys

import cohere


def parameters(call):
    return [name for name in inspect.signature(call).parameters if name not in {"request_options", "batching"}]


url, work = sys.argv[1], json.load(sys.stdin)
client = cohere.ClientV2(base_url=url, api_key=work["key"])

embedded = client.embed(
    model=work["model"], texts=work["texts"], input_type="search_document", embedding_types=["float", "int8", "ubinary"]
)
first = cohere.Client(base_url=url, api_key=work["key"])
by_title = first.rerank(
    model=work["reranker"],
    query=work["query"],
    documents=[{"title": text} for text in work["documents"]],
    rank_fields=["title"],
    return_documents=True,
)
reranked = client.rerank(model=work["reranker"], query=work["query"], documents=work["documents"])
long = " ".join(work["documents"] * 99)
cut = client.rerank(model=work["reranker"], query=work["query"], documents=[long], max_tokens_per_doc=5)
split = first.rerank(model=work["reranker"], query=work["query"], documents=[long], max_chunks_per_doc=5)
narrow = cohere.ClientV2(base_url=url, api_key=work["narrow key"])
try:
    for _ in range(20):
        narrow.rerank(model=work["reranker"], query="a", documents=["a"], request_options={"max_retries": 0})
except cohere.TooManyRequestsError as error:
    busy = error
after_a_pause = narrow.embed(
    model=work["model"], texts=work["texts"], input_type="search_document", embedding_types=["float"]
)
try:
    client.embed(model="no-such-model", texts=["a"], input_type="search_query", embedding_types=["float"])
except cohere.NotFoundError as error:
    refusal = error

said = {
    "vectors": embedded.embeddings.float_,
    "vectors after a pause": after_a_pause.embeddings.float_,
    "int8": embedded.embeddings.int8,
    "ubinary": embedded.embeddings.ubinary,
    "ranking": [result.index for result in reranked.results],
    "ranking by title": [result.index for result in by_title.results],
    "warnings": [cut.meta.warnings, split.meta.warnings],
    "found": by_title.results[0].document.title,
    "models": [model.name for model in client.models.list().models],
    "refusal": str(refusal),
    "busy": str(busy),
    "fields": {
        "/v2/embed": parameters(client.embed),
        "/v2/rerank": parameters(client.rerank),
        "/v1/embed": parameters(first.embed),
        "/v1/rerank": parameters(first.rerank),
    },
}
print(json.dumps(said))
