"""OpenAI's SDK against conch: only the address changes.

    python examples/openai_sdk.py

The SDK's own environment variables work too: OPENAI_BASE_URL=http://127.0.0.1:8080/v1 and any OPENAI_API_KEY.
"""

from __future__ import annotations

import argparse

import numpy as np
from openai import NotFoundError, OpenAI

TEXTS = ["A cat sat on the mat.", "There is a cat on the rug.", "It is a quarter past nine."]


def main() -> None:
    """Embed, compare, and meet an error."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="http://127.0.0.1:8080/v1", help="the gateway (default: %(default)s)")
    with OpenAI(base_url=parser.parse_args().url, api_key="not checked") as client:
        print("served:", ", ".join(model.id for model in client.models.list()))
        answer = client.embeddings.create(model="all-minilm-l6-v2", input=TEXTS)
        vectors = np.array([item.embedding for item in answer.data])
        print(f"{answer.usage.total_tokens} tokens; cosines to the first text:", (vectors @ vectors[0]).round(3))
        try:
            client.embeddings.create(model="no-such-model", input="a text")
        except NotFoundError as error:
            print("as expected:", error.code)


if __name__ == "__main__":
    main()
