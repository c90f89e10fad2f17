"""Haystack's components for text-embeddings-inference, one by one and as a pipeline that retrieves and reranks."""

import json
import sys

from haystack import Document, Pipeline
from haystack.components.retrievers.in_memory import InMemoryEmbeddingRetriever
from haystack.document_stores.in_memory import InMemoryDocumentStore
from haystack.utils import Secret
from haystack_integrations.components.embedders.huggingface_api import (
    HuggingFaceAPIDocumentEmbedder,
    HuggingFaceAPITextEmbedder,
)
from haystack_integrations.components.rankers.huggingface_api import HuggingFaceTEIRanker
from huggingface_hub.errors import HfHubHTTPError

url, work = sys.argv[1], json.load(sys.stdin)
key = Secret.from_token(work["key"])
server = {"api_type": "text_embeddings_inference", "api_params": {"url": url}, "token": key}
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

said = {
    "vectors": [document.embedding for document in embedded(work["texts"])],
    "ranking": [document.meta["index"] for document in ranked],
    "found": found[0].content,
    "refusal": str(refusal),
}
print(json.dumps(said))
