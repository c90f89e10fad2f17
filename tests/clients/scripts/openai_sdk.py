"""OpenAI's SDK."""

from __future__ import annotations

import json
import sys
import time

import openai

url, work = sys.argv[1], json.load(sys.stdin)
client = openai.OpenAI(base_url=f"{url}/v1", api_key=work["key"])

embedded = client.embeddings.create(model=work["model"], input=work["texts"])
floats = client.embeddings.create(model=work["model"], input=work["texts"][0], encoding_format="float")
try:
    client.embeddings.create(model="no-such-model", input="a")
except openai.NotFoundError as error:
    refusal = error

narrow = openai.OpenAI(base_url=f"{url}/v1", api_key=work["narrow key"], max_retries=0)
try:
    for _ in range(20):
        narrow.embeddings.create(model=work["model"], input="a")
except openai.RateLimitError as error:
    busy = error
after_a_pause = narrow.with_options(max_retries=2).embeddings.create(model=work["model"], input=work["texts"])

requests = [
    {"custom_id": str(number), "method": "POST", "url": "/v1/embeddings", "body": body}
    for number, body in enumerate({"model": work["model"], "input": text} for text in work["texts"])
]
file = client.files.create(file=("input.jsonl", "\n".join(map(json.dumps, requests)).encode()), purpose="batch")
batch = client.batches.create(input_file_id=file.id, endpoint="/v1/embeddings", completion_window="24h")
while (batch := client.batches.retrieve(batch.id)).status in {"validating", "in_progress", "finalizing"}:
    time.sleep(0.1)
answers = [json.loads(line) for line in client.files.content(batch.output_file_id).text.splitlines()]

said = {
    "vectors of a batch": [answer["response"]["body"]["data"][0]["embedding"] for answer in answers],
    "vectors": [item.embedding for item in embedded.data],
    "vectors after a pause": [item.embedding for item in after_a_pause.data],
    "first vector as floats": floats.data[0].embedding,
    "models": [model.id for model in client.models.list()],
    "tokens": embedded.usage.total_tokens,
    "refusal": refusal.message,
    "busy": busy.message,
    "fields": {"/v1/embeddings": list(openai.types.EmbeddingCreateParams.__annotations__)},
}
print(json.dumps(said))
