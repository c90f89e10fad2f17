"""LangChain: embeddings and rerankers over the dialects of seven providers, and a vector store on top."""

from __future__ import annotations

import json
import sys

import openai
from huggingface_hub import InferenceClient
from langchain_cohere import CohereEmbeddings, CohereRerank
from langchain_community.document_compressors import JinaRerank, jina_rerank
from langchain_community.embeddings import JinaEmbeddings, jina
from langchain_core.documents import Document
from langchain_core.vectorstores import InMemoryVectorStore
from langchain_huggingface import HuggingFaceEndpointEmbeddings
from langchain_nvidia_ai_endpoints import NVIDIAEmbeddings, NVIDIARerank
from langchain_ollama import OllamaEmbeddings
from langchain_openai import AzureOpenAIEmbeddings, OpenAIEmbeddings
from langchain_voyageai import VoyageAIRerank

url, work = sys.argv[1], json.load(sys.stdin)
key, model, reranker = work["key"], work["model"], work["reranker"]

# check_embedding_ctx_length would send the token ids of OpenAI's own models.
embeddings = OpenAIEmbeddings(
    base_url=f"{url}/v1", api_key=work["key"], model=work["model"], check_embedding_ctx_length=False
)
store = InMemoryVectorStore.from_texts(work["documents"], embeddings)
(found,) = store.similarity_search(work["query"], k=1)

# It refuses an address for a model by now, but not a client that has one.
of_hugging_face = HuggingFaceEndpointEmbeddings(huggingfacehub_api_token=work["key"])
of_hugging_face.client = InferenceClient(model=url, token=work["key"])

# The address of Jina is a constant of its modules.
jina.JINA_API_URL, jina_rerank.JINA_API_URL = f"{url}/v1/embeddings", f"{url}/v1/rerank"
documents = [Document(text, metadata={"index": index}) for index, text in enumerate(work["documents"])]


def ranking(compressor):
    return [document.metadata["index"] for document in compressor.compress_documents(documents, work["query"])]


try:
    OpenAIEmbeddings(
        base_url=f"{url}/v1", api_key=key, model="no-such-model", check_embedding_ctx_length=False
    ).embed_query("a")
except openai.NotFoundError as error:
    refusal = error
try:
    JinaEmbeddings(jina_api_key=key, model_name="no-such-model").embed_query("a")
except RuntimeError as error:
    refusal_of_jina = error

texts = work["texts"]
of_nvidia = NVIDIAEmbeddings(model=model, base_url=f"{url}/v1", api_key=key, truncate="END")
of_azure = AzureOpenAIEmbeddings(
    azure_endpoint=url, api_key=key, model=model, api_version="2024-10-21", check_embedding_ctx_length=False
)
headers = {"headers": {"authorization": f"Bearer {key}"}}
said = {
    "vectors": embeddings.embed_documents(texts),
    "vectors over TEI": of_hugging_face.embed_documents(texts),
    "vectors of Azure": of_azure.embed_documents(texts),
    "vectors of Cohere": CohereEmbeddings(model=model, base_url=url, cohere_api_key=key).embed_documents(texts),
    "vectors of Jina": JinaEmbeddings(jina_api_key=key, model_name=model).embed_documents(texts),
    "vectors of NIM": of_nvidia.embed_documents(texts),
    "vectors of Ollama": OllamaEmbeddings(
        model=model, base_url=url, client_kwargs=headers, validate_model_on_init=True
    ).embed_documents(texts),
    "ranking of Cohere": ranking(CohereRerank(model=reranker, base_url=url, cohere_api_key=key, top_n=4)),
    "ranking of Jina": ranking(JinaRerank(model=reranker, jina_api_key=key, top_n=4)),
    "ranking of NIM": ranking(NVIDIARerank(model=reranker, base_url=f"{url}/v1", api_key=key, top_n=4)),
    "ranking of Voyage": ranking(VoyageAIRerank(model=reranker, base_url=f"{url}/v1", api_key=key, top_k=4)),
    "found": found.page_content,
    "refusal": refusal.message,
    "refusal of Jina": str(refusal_of_jina),
}
print(json.dumps(said))
