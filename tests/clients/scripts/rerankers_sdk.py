"""`rerankers`: one interface over several providers' APIs."""

from __future__ import annotations

import json
import sys

from rerankers import Reranker

url, work = sys.argv[1], json.load(sys.stdin)


def ranking(provider, path, model):
    own = {"api_key": work["key"], "api_provider": provider, "url": f"{url}{path}"}
    ranker = Reranker(model, model_type="APIRanker", verbose=0, **own)
    return [result.document.doc_id for result in ranker.rank(query=work["query"], docs=work["documents"]).results]


said = {
    "ranking of Voyage": ranking("voyage", "/v1/rerank", work["reranker"]),
    "ranking of Jina": ranking("jina", "/v1/rerank", work["reranker"]),
    "ranking of Cohere": ranking("cohere", "/v1/rerank", work["reranker"]),
    "ranking of TEI": ranking("text-embeddings-inference", "/rerank", work["reranker"]),
}
print(json.dumps(said))
