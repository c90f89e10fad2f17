"""OpenAI's SDK."""

import json
import sys

import openai

url, work = sys.argv[1], json.load(sys.stdin)
client = openai.OpenAI(base_url=f"{url}/v1", api_key=work["key"])

embedded = client.embeddings.create(model=work["model"], input=work["texts"])
floats = client.embeddings.create(model=work["model"], input=work["texts"][0], encoding_format="float")
try:
    client.embeddings.create(model="no-such-model", input="a")
except openai.NotFoundError as error:
    refusal = error

said = {
    "vectors": [item.embedding for item in embedded.data],
    "first vector as floats": floats.data[0].embedding,
    "models": [model.id for model in client.models.list()],
    "tokens": embedded.usage.total_tokens,
    "refusal": refusal.message,
}
print(json.dumps(said))
