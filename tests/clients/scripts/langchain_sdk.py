"""LangChain: embeddings over two dialects, and a vector store on top."""

import json
import sys

import openai
from huggingface_hub import InferenceClient
from langchain_core.vectorstores import InMemoryVectorStore
from langchain_huggingface import HuggingFaceEndpointEmbeddings
from langchain_openai import OpenAIEmbeddings

url, work = sys.argv[1], json.load(sys.stdin)

# check_embedding_ctx_length would send the token ids of OpenAI's own models.
embeddings = OpenAIEmbeddings(
    base_url=f"{url}/v1", api_key=work["key"], model=work["model"], check_embedding_ctx_length=False
)
store = InMemoryVectorStore.from_texts(work["documents"], embeddings)
(found,) = store.similarity_search(work["query"], k=1)

# It refuses an address for a model by now, but not a client that has one.
of_hugging_face = HuggingFaceEndpointEmbeddings(huggingfacehub_api_token=work["key"])
of_hugging_face.client = InferenceClient(model=url, token=work["key"])

try:
    OpenAIEmbeddings(
        base_url=f"{url}/v1", api_key=work["key"], model="no-such-model", check_embedding_ctx_length=False
    ).embed_query("a")
except openai.NotFoundError as error:
    refusal = error

said = {
    "vectors": embeddings.embed_documents(work["texts"]),
    "vectors over TEI": of_hugging_face.embed_documents(work["texts"]),
    "found": found.page_content,
    "refusal": refusal.message,
}
print(json.dumps(said))
