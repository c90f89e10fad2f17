"""ColBERT and BGE-M3 in PyTorch, written down from papers and libraries: what served ones are compared with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file
from transformers import AutoModel

from tests.head_checkpoints import layer_of, tokenizer_of
from tests.kind_checkpoints import outputs

if TYPE_CHECKING:
    from pathlib import Path

QUERY_LENGTH, DOCUMENT_LENGTH = 12, 40


@dataclass
class ColBert:
    """A checkpoint of `head_checkpoints.colbert` or `head_checkpoints.pylate`.

    Attributes:
        folder: of the checkpoint.
        fills: whether queries are filled with [MASK].
        attends: whether they attend to it.
        punctuation: characters that do not count in documents.
    """

    folder: Path
    fills: bool = True
    attends: bool = False
    punctuation: str = "!.,?"

    def __post_init__(self) -> None:
        self._tokenizer = tokenizer_of(self.folder)
        self._model = AutoModel.from_pretrained(self.folder, attn_implementation="eager").eval()
        of_pylate = self.folder / "1_Dense" / "model.safetensors"
        weights = load_file(of_pylate if of_pylate.exists() else self.folder / "model.safetensors")
        self._linear = weights["linear.weight"]

    def query(self, text: str) -> torch.Tensor:
        """Vectors of a query's tokens, fillers included."""
        ids = self._marked(text, "[unused0]", QUERY_LENGTH)
        fillers = QUERY_LENGTH - len(ids) if self.fills else 0
        mask = [1] * len(ids) + [int(self.attends)] * fillers
        return self._vectors(ids + [self._tokenizer.token_to_id("[MASK]")] * fillers, mask)

    def document(self, text: str) -> torch.Tensor:
        """Vectors of the tokens of a document that count."""
        ids = self._marked(text, "[unused1]", DOCUMENT_LENGTH)
        skipped = {self._tokenizer.token_to_id(character) for character in self.punctuation}
        return self._vectors(ids, [1] * len(ids))[[token not in skipped for token in ids]]

    def score(self, query: str, document: str) -> float:
        """The sum of the best matches, divided by the number of the query's tokens."""
        matches = self.query(query) @ self.document(document).T
        return float(matches.max(dim=1).values.sum() / len(matches))

    def _marked(self, text: str, marker: str, length: int) -> list[int]:
        self._tokenizer.enable_truncation(length - 1)
        first, *rest = self._tokenizer.encode(text).ids
        return [first, self._tokenizer.token_to_id(marker), *rest]

    @torch.inference_mode()
    def _vectors(self, ids: list[int], mask: list[int]) -> torch.Tensor:
        inputs: dict[str, Any] = {"input_ids": torch.tensor([ids]), "attention_mask": torch.tensor([mask])}
        hidden = self._model(**inputs).last_hidden_state[0]
        return torch.nn.functional.normalize(hidden @ self._linear.T, dim=1)


@torch.inference_mode()
def bge_m3_vectors(folder: Path, ids: list[int]) -> torch.Tensor:
    """Vectors that BGE-M3 compares, as FlagEmbedding has it: `colbert_linear(last_hidden_state[:, 1:])`, then units."""
    hidden = outputs(folder, "", ids).last_hidden_state[0]
    return torch.nn.functional.normalize(layer_of(folder / "colbert_linear.safetensors")(hidden[1:]), dim=-1)


def bge_m3_score(query: torch.Tensor, document: torch.Tensor) -> float:
    """The sum of the best matches of a query's vectors, divided by their number (FlagEmbedding, `colbert_score`)."""
    return float(torch.einsum("in,jn->ij", query, document).max(-1).values.sum() / len(query))
