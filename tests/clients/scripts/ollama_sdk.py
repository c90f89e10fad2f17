"""Ollama's SDK."""

from __future__ import annotations

import json
import sys

import ollama
from ollama._types import EmbeddingsRequest, EmbedRequest

url, work = sys.argv[1], json.load(sys.stdin)
client = ollama.Client(host=url, headers={"authorization": f"Bearer {work['key']}"})

embedded = client.embed(model=work["model"], input=work["texts"])
one = client.embeddings(model=work["model"], prompt=work["texts"][0])
try:
    client.embed(model="no-such-model", input="a")
except ollama.ResponseError as error:
    refusal = error

said = {
    "vectors": [list(vector) for vector in embedded.embeddings],
    "first vector as floats": list(one.embedding),
    "models": [model.model for model in client.list().models],
    "length": client.show(work["model"]).modelinfo["bert.context_length"],
    "nothing": client.embed(model=work["model"], input="").embeddings,
    "pulled": client.pull(work["model"]).status,
    "fields": {
        "/api/embed": list(EmbedRequest.model_fields),
        "/api/embeddings": list(EmbeddingsRequest.model_fields),
    },
    "refusal": f"{refusal.status_code} {refusal.error}",
}
print(json.dumps(said))
