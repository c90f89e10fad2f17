"""The reference of exported graphs: the authors' libraries, given the texts themselves.

sentence-transformers tokenises, cuts, prompts, computes and pools as it does for everybody who uses it, over the model
that transformers implements, one text at a time, in float32 with eager attention. It gets nothing of what this package
has read from the checkpoint, only what the operator stated by hand, and prompts and templates of the catalog. What
neither library implements is read by this package and computed by `plain`, so that a mistake in its reading is not
found here: architectures whose code is on the Hub, how ColBERT writes queries and documents, layers for late
interaction, lexical weights. `computed_by` says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from conch_contract import Task

from conch_export.checkpoints.checkpoint import Checkpoint
from conch_export.checkpoints.heads import read_lexical, read_projection
from conch_export.checkpoints.lookups.static import MODEL2VEC
from conch_export.model.description import CrossEncoder, GenerativeReranker, StaticModel, interaction_of
from conch_export.verification import plain
from conch_export.verification.generative import TemplateReranker
from conch_export.verification.libraries import load_library
from conch_export.verification.rows import thirds
from conch_export.verification.samples import Item, Role

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np
    from conch_contract import Interaction
    from numpy.typing import NDArray

    from conch_export.model.description import Description, Overrides
    from conch_export.model.public_models import PublicModel


@dataclass(frozen=True)
class Answer:
    """The reference's outputs for one item.

    Attributes:
        ids: tokens that it computed.
        outputs: by the library's names, those that its modules give: `token_embeddings` FP32 [tokens, hidden],
            `sentence_embedding` FP32 [dimension], `scores` FP32 [labels].
    """

    ids: list[int]
    outputs: dict[str, torch.Tensor]


class Reference:
    """A checkpoint as its authors' libraries run it.

    Args:
        description: names the task; its source is the checkpoint.
        overrides: the facts that the operator stated.

    Attributes:
        name: who computes the token vectors.
    """

    def __init__(self, description: Description, overrides: Overrides) -> None:
        self._description = description
        self._checkpoint = Checkpoint.of(description.source)
        self._rules = interaction_of(description)
        if isinstance(description, GenerativeReranker):
            self._model: Any = TemplateReranker(description, overrides)
        elif isinstance(description, StaticModel) and description.architecture == MODEL2VEC:
            # Imported late: nothing else needs that library.
            from conch_export.verification.model2vec import Model2Vec  # noqa: PLC0415

            self._model = Model2Vec(description, overrides)
        else:
            self._model = load_library(description, overrides)
        self.name: str = self._model.name
        self._answers: dict[Item, Answer] = {}

    def ids(self, item: Item) -> list[int]:
        """The tokens that the library makes of an item."""
        return self._model.ids(item) if self._rules is None else _marked(self._rules, self._model, item)[0]

    def computed_by(self, model: PublicModel) -> str:
        """Return which library computes a public model's answers."""
        by_library = {
            Task.LATE_INTERACTION: False,
            Task.MULTI_VECTOR: model.head is None,
            Task.SPARSE: model.base is None,
        }.get(model.task, True)
        return self.name if by_library or plain.NAME in self.name else f"{plain.NAME}, {self.name}"

    def answers(self, model: PublicModel, items: Iterable[Item]) -> NDArray[np.float32]:
        """The answers that a public model should give to its items.

        Returns:
            [items, dimension] vectors, [chunks of all items, dimension], [tokens of all items, dimension],
            [items, vocabulary] weights, [items, labels] logits or [pairs, 1] raw scores; of late interaction every
            query with all documents, one query after the other.
        """
        if model.task is Task.LATE_INTERACTION:
            return self._late_interaction(items).numpy()
        answers = [self._answer(item) for item in items]
        if model.task is Task.LATE_CHUNKING:
            return torch.cat([self._chunks(answer) for answer in answers]).numpy()
        if model.task is Task.MULTI_VECTOR:
            vectors = [answer.outputs["token_embeddings"] for answer in answers]
            return torch.cat(vectors if model.head is None else list(map(self._projected, vectors))).numpy()
        if model.task is Task.SPARSE and model.base is not None:
            return torch.stack(list(map(self._weighed, answers))).numpy()
        if model.task in (Task.CROSS_ENCODER, Task.CLASSIFICATION):
            return self._scores(torch.stack([answer.outputs["scores"] for answer in answers])).numpy()
        return torch.stack([answer.outputs["sentence_embedding"] for answer in answers]).numpy()

    def _answer(self, item: Item) -> Answer:
        """Computed once, for all public models."""
        if item not in self._answers:
            self._answers[item] = self._computed(item)
        return self._answers[item]

    @torch.inference_mode()
    def _computed(self, item: Item) -> Answer:
        if self._rules is None:
            return Answer(*self._model(item))
        ids, masked = _marked(self._rules, self._model, item)
        return Answer(ids, {"token_embeddings": self._model.token_vectors(ids, masked)})

    @torch.inference_mode()
    def _chunks(self, answer: Answer) -> torch.Tensor:
        """[chunks, dimension]: the library's pooling, and what follows it, of each third of a text's tokens."""
        tokens, ends = answer.outputs["token_embeddings"], thirds(len(answer.ids))
        return torch.stack([self._model.pooled(tokens[begin:end]) for begin, end in pairwise((0, *ends))])

    def _weighed(self, answer: Answer) -> torch.Tensor:
        """FP32 [vocabulary]: the weights of a text's own tokens."""
        return plain.lexical(self._lexical, answer.outputs["token_embeddings"], answer.ids, self._model.weightless)

    def _scores(self, logits: torch.Tensor) -> torch.Tensor:
        """[items, labels] to those that are served: all, or [items, 1] of the label that a reranker scores by."""
        description = self._description
        if not isinstance(description, CrossEncoder) or description.label is None or logits.shape[1] == 1:
            return logits
        return plain.log_odds(logits, description.label) if description.exclusive else logits[:, [description.label]]

    @cached_property
    def _lexical(self) -> Any:
        return plain.in_memory(read_lexical(self._description, self._checkpoint))

    @cached_property
    def _projection(self) -> Any:
        return plain.in_memory(read_projection(self._description, self._checkpoint))

    def _projected(self, tokens: torch.Tensor) -> torch.Tensor:
        """FP32 [tokens, hidden] to vectors that late interaction compares."""
        return plain.through(self._projection.whole, tokens)

    def _late_interaction(self, items: Iterable[Item]) -> torch.Tensor:
        queries, documents = [], []
        skipped = torch.tensor(self._rules.skip_list if self._rules else (), dtype=torch.int64)
        for item in items:
            answer = self._answer(item)
            # A text of one token keeps it, as there is nothing else to compare.
            first = min(int(self._projection.skips_first), len(answer.ids) - 1)
            vectors = self._projected(answer.outputs["token_embeddings"])[first:]
            if item.role is Role.QUERY:
                queries.append(vectors)
            else:
                documents.append(vectors[~torch.isin(torch.tensor(answer.ids[first:]), skipped)])
        return torch.stack([plain.maxsim(query, each) for query in queries for each in documents])[:, None]


def _marked(rules: Interaction, model: Any, item: Item) -> tuple[list[int], int]:
    """Tokens of a query or a document as ColBERT's library and PyLate write them, and how many of them are masked.

    On purpose not by the contract's code, which is what is compared with this.
    """
    is_query = item.role is Role.QUERY
    marker = rules.query_marker if is_query else rules.document_marker
    length = rules.query_length if is_query else rules.document_length
    ids = model.cut_ids(item.text, length - (marker is not None))
    if marker is not None:
        ids = [ids[0], marker, *ids[1:]]
    missing = length - len(ids) if is_query and rules.augmentation is not None else 0
    return ids + [rules.augmentation or 0] * missing, 0 if rules.attends_to_augmentation else missing
