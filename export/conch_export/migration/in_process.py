"""Runs a published embedding model in process, on texts as clients send them, and measures the time."""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from conch_contract import Task

from conch_export.errors import UnsupportedError
from conch_export.migration.neighbours import refuse_distances
from conch_export.model.description import EmbeddingModel
from conch_export.onnx.engine import EncoderGraph, HeadGraph, can_run
from conch_export.progress import counted, silent
from conch_export.triton.ensemble import Published
from conch_export.triton.published import published
from conch_export.triton.repository import graph_path
from conch_export.verification.rows import Rows
from conch_export.verification.samples import Item, Role

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from conch_contract import ModelInfo

    from conch_export.migration.neighbours import Floats
    from conch_export.onnx.engine import Row
    from conch_export.progress import Progress

_ROWS = 8
"""Rows of a run, as many as Triton merges on a CPU."""


@dataclass(frozen=True)
class Embedded:
    """Vectors of texts, and the cost of computing them.

    Attributes:
        vectors: float32 [texts, dimension], as served.
        tokens: tokens of all texts, including special tokens.
        processor_s: seconds of processor time on one thread, including tokenising.
    """

    vectors: Floats
    tokens: int
    processor_s: float


class InProcess:
    """An embedding model of a repository; it may be a bridge.

    Args:
        repository: Triton's model repository.
        name: name of the public model.
        prompt_name: name of the prompt before each text; None for the model's default, "" for none.

    Attributes:
        info: description of the public model.
        description: description of the exported model; for a bridge, of its base with the bridge's prompts.
        target: hardware that its encoder runs on.
        encoder: path of its encoder's graph.
        prompt_name: name of the prompt that is used; empty for none.

    Raises:
        SourceError: there is no such model, or it is damaged.
        UnsupportedError: it does not give one vector for a text, compares vectors otherwise than here, has no such
            prompt, or cannot be run here.
    """

    def __init__(self, repository: Path, name: str, prompt_name: str | None = None) -> None:
        found = Published.find(repository, name)
        self.info, self.target = found.info, found.target
        description, _ = published(repository, self.info.base or name)
        if self.info.task is not Task.EMBEDDING or not isinstance(description, EmbeddingModel):
            msg = f"{name} is for {self.info.task}: only models with one vector per text can be compared and bridged"
            raise UnsupportedError(msg)
        refuse_distances(self.info)
        if not can_run(self.target):
            raise UnsupportedError(
                f"{name} is for {self.target.value}, which this machine does not have: use a machine with a GPU"
            )
        self.prompt_name = _prompt(self.info, prompt_name)
        self.description = replace(description, prompts=self.info.prompts, default_prompt_name=self.prompt_name)
        self.encoder, *heads = (graph_path(repository, step) for step in found.steps)
        self._encode = EncoderGraph(self.encoder, target=self.target)
        self._head = HeadGraph(heads[0]) if heads else None
        self._rows_of = Rows(self.description)

    @property
    def has_head(self) -> bool:
        """Whether a head follows its encoder."""
        return self._head is not None

    def behind(self, head: Path, info: ModelInfo) -> InProcess:
        """Return the model that `info` describes: the same encoder with another head."""
        other = copy.copy(self)
        other.info, other._head = info, HeadGraph(head)
        return other

    def reads(self, text: str) -> bool:
        """Whether it reads a token of a text: the vector of one without any is NaN, and clients do not send it."""
        return self._rows_of.is_sent(Item(Role.TEXT, text))

    def embed(self, texts: Sequence[str], progress: Progress = silent) -> Embedded:
        """Embed texts, those of similar length together; see `Embedded`."""
        begun = time.process_time()
        rows = [self._rows_of(Item(Role.TEXT, text)) for text in texts]
        order = sorted(range(len(rows)), key=lambda place: len(rows[place].ids))
        groups = [order[i : i + _ROWS] for i in range(0, len(order), _ROWS)]
        vectors = np.empty((len(rows), self.info.dimension or 0), np.float32)
        for group in counted(progress, f"embedding with {self.info.name}", groups, len(groups)):
            vectors[group] = self.answers([rows[place] for place in group])
        spent = time.process_time() - begun
        return Embedded(vectors, sum(len(row.ids) for row in rows), spent)

    def alone(self, texts: Sequence[str]) -> Floats:
        """Embed each text by itself: float32 [texts, dimension]."""
        return np.concatenate([self.answers([self._rows_of(Item(Role.TEXT, text))]) for text in texts])

    def answers(self, rows: list[Row]) -> Floats:
        """Embed rows that are merged into one run: float32 [rows, dimension]."""
        encoded = self._encode(rows)
        return encoded if self._head is None else self._head(rows, encoded)[self.info.output]


def _prompt(info: ModelInfo, wanted: str | None) -> str:
    name = (info.default_prompt_name or "") if wanted is None else wanted
    if name and name not in info.prompts:
        known = ", ".join(sorted(info.prompts)) or "none"
        raise UnsupportedError(f"{info.name} has no prompt {name!r}; it has: {known}")
    return name
