"""Hugging Face's InferenceClient, which takes the address of a server for the name of a model."""

from __future__ import annotations

import inspect
import json
import sys

from huggingface_hub import InferenceClient
from huggingface_hub.errors import HfHubHTTPError

url, work = sys.argv[1], json.load(sys.stdin)
client = InferenceClient(model=url, token=work["key"])

vectors = client.feature_extraction(work["texts"])
similarities = client.sentence_similarity(work["query"], other_sentences=work["documents"])
try:
    client.feature_extraction("")
except HfHubHTTPError as error:
    refusal = error

parameters = inspect.signature(InferenceClient.feature_extraction).parameters
said = {
    "vectors": vectors.tolist(),
    "similarities": similarities,
    "refusal": str(refusal),
    "fields": {"/embed": ["inputs", *(name for name in parameters if name not in {"self", "text", "model"})]},
}
print(json.dumps(said))
