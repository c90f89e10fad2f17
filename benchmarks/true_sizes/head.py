"""Turns the last layer of a random reranker to where its encoder tells documents apart.

A trained reranker looks there. A random direction hardly sees what differs between documents, so that rounding alone
would order them, and no int8 export of it would be published.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from conch_export.verification.texts import docstrings, spread
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

if TYPE_CHECKING:
    from pathlib import Path

_QUERIES, _DOCUMENTS, _TOKENS = 6, 24, 256
_SCORES_DEVIATION = 2.0
_HEAD = "classifier.out_proj.weight"


def turn_head(folder: Path) -> None:
    """Rewrite the weight [1, hidden] of the classifier's last layer in the one file of the checkpoint."""
    file = folder / "model.safetensors"
    centred = _differences(folder)
    direction = torch.linalg.svd(centred, full_matrices=False).Vh[0]
    weights = load_file(file)
    weights[_HEAD] = (direction * _SCORES_DEVIATION / (centred @ direction).std())[None].contiguous()
    save_file(weights, file, metadata={"format": "pt"})


@torch.inference_mode()
def _differences(folder: Path) -> torch.Tensor:
    """What the last layer gets for the documents of each query, less the mean of them: [pairs, hidden]."""
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    documents = spread(docstrings(), _DOCUMENTS)
    found = []
    for query in spread([text for text in docstrings() if len(text) < _TOKENS], _QUERIES):
        pairs = tokenizer(
            [query] * len(documents), documents, padding=True, truncation=True, max_length=_TOKENS, return_tensors="pt"
        )
        first = model.base_model(**pairs).last_hidden_state[:, 0]
        features = torch.tanh(model.classifier.dense(first))
        found.append(features - features.mean(0))
    return torch.cat(found)
