"""Retrieve with vectors, then put the best candidates in order with a reranker.

    python examples/rerank.py "where is the cat?"

The default reranker is late interaction over the embedding model, which was not trained for reranking; name a
cross-encoder of your own with --reranker.
"""

from __future__ import annotations

import argparse

import numpy as np
from conch_client import Client

DOCUMENTS = [
    "A cat sat on the mat.",
    "Cats are kept by people on every continent but one.",
    "The dog is in the garden, and it barks.",
    "It is a quarter past nine.",
    "Nobody has seen the cat since breakfast; it may be in the barn.",
    "Mats are woven from sisal, wool or plastic.",
]


def main() -> None:
    """Retrieve, rerank, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("query")
    parser.add_argument("--url", default="127.0.0.1:8001", help="Triton's gRPC endpoint (default: %(default)s)")
    parser.add_argument("--reranker", help="name of a served reranker (default: the first by name)")
    options = parser.parse_args()
    with Client(options.url) as client:
        similarity = client.embed(DOCUMENTS) @ client.embed([options.query])[0]
        candidates = [DOCUMENTS[index] for index in np.argsort(-similarity)[:4]]
        for rank in client.rerank(options.query, candidates, model=options.reranker):
            print(f"{rank.score:.3f}  {candidates[rank.index]}")


if __name__ == "__main__":
    main()
