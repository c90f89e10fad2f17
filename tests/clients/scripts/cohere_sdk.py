"""Cohere's SDK."""

import json
import sys

import cohere

url, work = sys.argv[1], json.load(sys.stdin)
client = cohere.ClientV2(base_url=url, api_key=work["key"])

embedded = client.embed(
    model=work["model"], texts=work["texts"], input_type="search_document", embedding_types=["float", "int8", "ubinary"]
)
reranked = client.rerank(model=work["reranker"], query=work["query"], documents=work["documents"])
try:
    client.embed(model="no-such-model", texts=["a"], input_type="search_query", embedding_types=["float"])
except cohere.NotFoundError as error:
    refusal = error

said = {
    "vectors": embedded.embeddings.float_,
    "int8": embedded.embeddings.int8,
    "ubinary": embedded.embeddings.ubinary,
    "ranking": [result.index for result in reranked.results],
    "refusal": str(refusal),
}
print(json.dumps(said))
