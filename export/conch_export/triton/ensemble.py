"""A published model in process: its encoder and head, put together as its `config.pbtxt` says, without Triton.

Tensors in and out are those of the public Triton model, so that whoever makes its requests can run them here.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from conch_contract import INNER_NAMES, DescriptionError, Task

from conch_export.errors import SourceError
from conch_export.onnx.engine import EncoderGraph, HeadGraph, QueryGraph, Row, can_run
from conch_export.onnx.layout import EMBEDDINGS, IDS, MASK, TYPES
from conch_export.triton.repository import graph_path, info_of, owners, read_config, target_of, whole_report

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from conch_contract import ModelInfo
    from numpy.typing import NDArray

    from conch_export.model.description import Target

_PIECE = 1 << 22


@dataclass(frozen=True)
class Published:
    """A public model of a repository, as far as it is needed to run it.

    Attributes:
        info: what it says of itself.
        steps: names of the Triton models that its requests pass, the encoder first.
        tokenizer: path of its `tokenizer.json`.
        target: what its encoder runs on.
        repository: where it is.
    """

    info: ModelInfo
    steps: tuple[str, ...]
    tokenizer: Path
    target: Target
    repository: Path

    @classmethod
    def find(cls, repository: Path, name: str) -> Published:
        """Read the model's configurations.

        Raises:
            SourceError: the repository has no such public model, or it is damaged.
        """
        found = owners(repository)
        if not (repository / name / "config.pbtxt").exists() or not found.get(name):
            have = sorted(each for each, owner in found.items() if owner and each.rpartition(".")[2] not in INNER_NAMES)
            msg = f"{repository} has no model {name!r}; it has: {', '.join(have) or 'none'}. `conch export` adds models"
            raise SourceError(msg)
        config, base = read_config(repository, name), found[name]
        whole_report(repository, base)
        try:
            info = info_of(name, config)
        except DescriptionError as error:
            raise SourceError(f"{name}: {error}") from error
        steps = tuple(step.model_name for step in config.ensemble_scheduling.step)
        path = repository / info.tokenizer / "1" / "tokenizer.json"
        return cls(info, steps, path, target_of(read_config(repository, steps[0])), repository)

    def graphs_sha256(self) -> str:
        """SHA-256 over the files of all its graphs and its tokenizer: another export of one checkpoint has another."""
        digest = hashlib.sha256()
        parts = [*self.steps, *filter(None, [self.info.query_model])]
        files = [path for part in parts for path in sorted((self.repository / part / "1").iterdir())]
        for path in [*files, self.tokenizer]:
            digest.update(f"{path.name} {path.stat().st_size}\n".encode())
            with path.open("rb") as file:
                while piece := file.read(_PIECE):
                    digest.update(piece)
        return digest.hexdigest()


class Ensemble:
    """Runs the requests of one public model.

    Args:
        model: the model.
        threads: onnxruntime's threads inside one operator.

    Raises:
        SourceError: nothing here runs its graphs.
    """

    def __init__(self, model: Published, threads: int = 1) -> None:
        if not can_run(model.target):
            msg = f"{model.info.name} is for {model.target.value}, which cannot be run here; export it for the CPU"
            raise SourceError(msg)
        paths = [graph_path(model.repository, name) for name in model.steps]
        self._info = model.info
        self._encoder = EncoderGraph(paths[0], threads, model.target)
        self._head = HeadGraph(paths[1], threads) if len(paths) > 1 else None
        looked_up = model.info.query_model
        self._queries = QueryGraph(graph_path(model.repository, looked_up)) if looked_up else None

    def __call__(self, tensors: Mapping[str, NDArray[np.int64]], *, looked_up: bool = False) -> dict[str, Any]:
        """The outputs of one request by name, each with one row for each of the request's.

        Args:
            tensors: int64 [rows, width] by name; `attention_mask` is 0 where a row has ended.
            looked_up: whether it is for the model that looks queries up.
        """
        rows = _rows(tensors)
        if looked_up and self._queries is not None:
            return self._queries(rows)
        encoded = self._encoder(rows)
        if self._head is None:
            return {self._info.output: self._shaped(encoded, tensors)}
        outputs = self._head(rows, encoded)
        if self._info.task is Task.MULTI_VECTOR:  # the head's own name for it is another
            return {EMBEDDINGS: self._shaped(next(iter(outputs.values())), tensors)}
        return outputs

    def _shaped(self, answer: NDArray[np.float32], tensors: Mapping[str, NDArray[np.int64]]) -> NDArray[np.float32]:
        """Token vectors [tokens, dimension] as [rows, width, dimension]; a static model's vectors stay as they are."""
        if self._info.task is not Task.MULTI_VECTOR:
            return answer
        mask = tensors[MASK]
        scattered = np.zeros((*mask.shape, answer.shape[-1]), np.float32)
        scattered[mask > 0] = answer.reshape(-1, answer.shape[-1])
        return scattered


def _rows(tensors: Mapping[str, NDArray[np.int64]]) -> list[Row]:
    ids, mask = tensors[IDS], tensors[MASK]
    types = tensors.get(TYPES, np.zeros_like(ids))
    lengths, masked, prompts = ((mask > 0).sum(axis=1), (mask == 2).sum(axis=1), (mask == 3).sum(axis=1))
    return [
        Row(row[:length].tolist(), kind[:length].tolist(), int(hidden), prompt=int(prompt))
        for row, kind, length, hidden, prompt in zip(ids, types, lengths, masked, prompts, strict=True)
    ]
