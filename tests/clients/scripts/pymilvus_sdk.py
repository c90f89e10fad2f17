"""pymilvus's embedding and reranking functions over the dialects of three providers."""

from __future__ import annotations

import json
import sys

import openai
from pymilvus.model.dense import CohereEmbeddingFunction, JinaEmbeddingFunction, OpenAIEmbeddingFunction, jinaai
from pymilvus.model.reranker import JinaRerankFunction
from pymilvus.model.reranker import jinaai as jinaai_rerank

url, work = sys.argv[1], json.load(sys.stdin)

# The address of Jina is a constant of its modules; Cohere's SDK reads its own from CO_API_URL.
jinaai.API_URL, jinaai_rerank.API_URL = f"{url}/v1/embeddings", f"{url}/v1/rerank"

texts, model, key = work["texts"], work["model"], work["key"]
of_openai = OpenAIEmbeddingFunction(model, api_key=key, base_url=f"{url}/v1")
of_jina = JinaEmbeddingFunction(model, api_key=key)
of_cohere = CohereEmbeddingFunction(model, api_key=key)
by_jina = JinaRerankFunction(work["reranker"], api_key=key)


def listed(vectors):
    return [vector.tolist() for vector in vectors]


try:
    OpenAIEmbeddingFunction("no-such-model", api_key=key, base_url=f"{url}/v1")(["a"])
except openai.NotFoundError as error:
    refusal = error
try:
    JinaEmbeddingFunction("no-such-model", api_key=key)(["a"])
except RuntimeError as error:
    refusal_of_jina = error

said = {
    "vectors of OpenAI": listed(of_openai.encode_documents(texts)),
    "vectors of Jina": listed(of_jina.encode_documents(texts)),
    "vectors of Cohere": listed(of_cohere.encode_documents(texts)),
    "ranking of Jina": [result.index for result in by_jina(work["query"], work["documents"])],
    "refusal": refusal.message,
    "refusal of Jina": str(refusal_of_jina),
}
print(json.dumps(said))
