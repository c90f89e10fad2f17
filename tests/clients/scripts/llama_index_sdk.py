"""LlamaIndex: embeddings and rerankers over the dialects of six providers, and retrieval from local files with both."""

from __future__ import annotations

import json
import sys

import openai
from llama_index.core import SimpleDirectoryReader, VectorStoreIndex
from llama_index.core.llms import MockLLM
from llama_index.core.schema import NodeWithScore, TextNode
from llama_index.embeddings.cohere import CohereEmbedding
from llama_index.embeddings.jinaai import JinaEmbedding
from llama_index.embeddings.nvidia import NVIDIAEmbedding
from llama_index.embeddings.ollama import OllamaEmbedding
from llama_index.embeddings.openai_like import OpenAILikeEmbedding
from llama_index.embeddings.text_embeddings_inference import TextEmbeddingsInference
from llama_index.postprocessor.cohere_rerank import CohereRerank
from llama_index.postprocessor.jinaai_rerank import JinaRerank
from llama_index.postprocessor.nvidia_rerank import NVIDIARerank
from llama_index.postprocessor.tei_rerank import TextEmbeddingInference as TeiRerank

url, work = sys.argv[1], json.load(sys.stdin)
documents = work["documents"]

embedding = OpenAILikeEmbedding(model_name=work["model"], api_base=f"{url}/v1", api_key=work["key"], max_retries=0)
of_tei = TextEmbeddingsInference(model_name=work["model"], base_url=url, auth_token=work["key"])
# Cohere's component takes Cohere's names only, which the gateway's models file gives to ours.
of_cohere = CohereEmbedding(model_name="embed-english-v3.0", base_url=url, api_key=work["key"])
of_jina = JinaEmbedding(model=work["model"], api_key=work["key"])
of_jina._api.api_url = f"{url}/v1/embeddings"  # it has no argument for it
of_nim = NVIDIAEmbedding(model=work["model"], base_url=f"{url}/v1", api_key=work["key"], truncate="END")
of_ollama = OllamaEmbedding(
    model_name=work["model"],
    base_url=url,
    client_kwargs={"headers": {"authorization": f"Bearer {work['key']}"}},
)
by_cohere = CohereRerank(model=work["reranker"], base_url=url, api_key=work["key"], top_n=len(documents))
by_jina = JinaRerank(model=work["reranker"], base_url=f"{url}/v1", api_key=work["key"], top_n=len(documents))
by_nim = NVIDIARerank(model=work["reranker"], base_url=f"{url}/v1", api_key=work["key"], top_n=len(documents))
by_tei = TeiRerank(base_url=url, auth_token=f"Bearer {work['key']}", top_n=len(documents))


def ranking(reranker):
    nodes = [NodeWithScore(node=TextNode(text=text, id_=str(index))) for index, text in enumerate(documents)]
    return [int(node.node_id) for node in reranker.postprocess_nodes(nodes, query_str=work["query"])]


index = VectorStoreIndex.from_documents(SimpleDirectoryReader(work["folder"]).load_data(), embed_model=embedding)
engine = index.as_query_engine(llm=MockLLM(), similarity_top_k=3, node_postprocessors=[by_tei])
sources = engine.query(work["query"]).source_nodes

try:
    OpenAILikeEmbedding(
        model_name="no-such-model", api_base=f"{url}/v1", api_key=work["key"], max_retries=0
    ).get_text_embedding("a")
except openai.NotFoundError as error:
    refusal = error

said = {
    "vectors": embedding.get_text_embedding_batch(work["texts"]),
    "vectors over TEI": of_tei.get_text_embedding_batch(work["texts"]),
    "vectors of Cohere": of_cohere.get_text_embedding_batch(work["texts"]),
    "vectors of Jina": of_jina.get_text_embedding_batch(work["texts"]),
    "vectors of NIM": of_nim.get_text_embedding_batch(work["texts"]),
    "vectors of Ollama": of_ollama.get_text_embedding_batch(work["texts"]),
    "ranking": ranking(by_cohere),
    "ranking of Jina": ranking(by_jina),
    "ranking of NIM": ranking(by_nim),
    "ranking over TEI": ranking(by_tei),
    "found": sources[0].text,
    "refusal": refusal.message,
}
print(json.dumps(said))
