"""Haystack's components over the dialects of five providers, and a pipeline that retrieves and reranks."""

from __future__ import annotations

import json
import sys

from haystack import Document, Pipeline
from haystack.components.embedders import OpenAITextEmbedder
from haystack.components.retrievers.in_memory import InMemoryEmbeddingRetriever
from haystack.document_stores.in_memory import InMemoryDocumentStore
from haystack.utils import Secret
from haystack_integrations.components.embedders.cohere import CohereTextEmbedder
from haystack_integrations.components.embedders.huggingface_api import (
    HuggingFaceAPIDocumentEmbedder,
    HuggingFaceAPITextEmbedder,
)
from haystack_integrations.components.embedders.jina import JinaTextEmbedder
from haystack_integrations.components.embedders.nvidia import NvidiaTextEmbedder
from haystack_integrations.components.rankers.cohere import CohereRanker
from haystack_integrations.components.rankers.huggingface_api import HuggingFaceTEIRanker
from haystack_integrations.components.rankers.jina import JinaRanker
from haystack_integrations.components.rankers.nvidia import NvidiaRanker
from huggingface_hub.errors import HfHubHTTPError

url, work = sys.argv[1], json.load(sys.stdin)
key = Secret.from_token(work["key"])
# At its default it asks for raw vectors, which a model that gives them normalised does not have.
server = {"api_type": "text_embeddings_inference", "api_params": {"url": url}, "token": key, "normalize": True}
query = HuggingFaceAPITextEmbedder(**server)
ranker = HuggingFaceTEIRanker(url=url, token=key)


def embedded(texts):
    documents = [Document(content=text, meta={"index": index}) for index, text in enumerate(texts)]
    return HuggingFaceAPIDocumentEmbedder(**server, progress_bar=False).run(documents)["documents"]


store = InMemoryDocumentStore(embedding_similarity_function="cosine")
store.write_documents(embedded(work["documents"]))
ranked = ranker.run(query=work["query"], documents=store.filter_documents())["documents"]

pipeline = Pipeline()
pipeline.add_component("query", query)
pipeline.add_component("retriever", InMemoryEmbeddingRetriever(store, top_k=3))
pipeline.add_component("ranker", ranker)
pipeline.connect("query.embedding", "retriever.query_embedding")
pipeline.connect("retriever.documents", "ranker.documents")
found = pipeline.run({"query": {"text": work["query"]}, "ranker": {"query": work["query"]}})["ranker"]["documents"]

try:
    HuggingFaceAPITextEmbedder(**server).run("")
except HfHubHTTPError as error:
    refusal = error

model = {"model": work["model"], "api_key": key}
embedders = {
    "OpenAI": OpenAITextEmbedder(**model, api_base_url=f"{url}/v1"),
    "Cohere": CohereTextEmbedder(**model, api_base_url=url),
    "Jina": JinaTextEmbedder(**model, base_url=f"{url}/v1/embeddings"),
    "NIM": NvidiaTextEmbedder(**model, api_url=f"{url}/v1", truncate="END"),
}
reranker = {"model": work["reranker"], "api_key": key, "top_k": 4}
rankers = {
    "Cohere": CohereRanker(**reranker, api_base_url=url),
    "Jina": JinaRanker(**reranker, base_url=f"{url}/v1/rerank"),
    "NIM": NvidiaRanker(**reranker, api_url=f"{url}/v1"),
}


def vectors(embedder):
    if hasattr(embedder, "warm_up"):
        embedder.warm_up()
    return [embedder.run(text)["embedding"] for text in work["texts"]]


def ranking(ranker):
    if hasattr(ranker, "warm_up"):
        ranker.warm_up()
    documents = [Document(content=text, meta={"index": index}) for index, text in enumerate(work["documents"])]
    return [document.meta["index"] for document in ranker.run(query=work["query"], documents=documents)["documents"]]


said = {
    **{f"vectors of {name}": vectors(embedder) for name, embedder in embedders.items()},
    **{f"ranking of {name}": ranking(ranker) for name, ranker in rankers.items()},
    "vectors": [document.embedding for document in embedded(work["texts"])],
    "ranking": [document.meta["index"] for document in ranked],
    "found": found[0].content,
    "refusal": str(refusal),
}
print(json.dumps(said))
