"""semantic-router: encoders over the dialects of three providers, and a router on top."""

from __future__ import annotations

import json
import sys

import openai
from semantic_router import IndexedRouter, Route
from semantic_router.encoders import CohereEncoder, JinaEncoder, NimEncoder

url, work = sys.argv[1], json.load(sys.stdin)
own = {"api_key": work["key"], "base_url": f"{url}/v1"}
encoder = NimEncoder(name=work["model"], **own)
routes = [Route(name=str(index), utterances=[text]) for index, text in enumerate(work["documents"])]
router = IndexedRouter(encoder, routes)
try:
    JinaEncoder(name="no-such-model", **own)(["a"])
except (openai.NotFoundError, ValueError) as error:
    refusal = error

# Cohere's SDK, which one of the encoders uses, reads its address from CO_API_URL.
said = {
    "vectors of NIM": encoder(work["texts"]),
    "vectors of Jina": JinaEncoder(name=work["model"], **own)(work["texts"]),
    "vectors of Cohere": CohereEncoder(name=work["model"], cohere_api_key=work["key"])(work["texts"]),
    "found": work["documents"][int(router(work["query"]).name)],
    "refusal": str(refusal),
}
print(json.dumps(said))
