"""mteb's harness, unmodified, on texts that it is given; runs in an environment of its own, in front of conch's.

    python -m benchmarks.peers.mteb_worker

reads one JSON object and writes one line of JSON, mteb's version and the nDCG@10 of each model by its name:

    {"queries": [...], "documents": [...], "models": {NAME: MODEL, ...}}     document i answers query i
    {"mteb": "2.0.0", "ndcg_at_10": {NAME: 0.5, ...}}

A MODEL is one of

    {"url": URL, "model": ID}                               of a gateway, by mteb's own client of OpenAI's API
    {"encoder": PATH, "head": PATH, "tokenizer": PATH, "max_length": N}    conch's graphs, in this process
    {"checkpoint": FOLDER}                                  sentence-transformers, in this process
"""

from __future__ import annotations

import json
import sys
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mteb  # type: ignore[import-not-found, unused-ignore]
import numpy as np
from conch_export.onnx.engine import Row
from datasets import Dataset  # type: ignore[import-not-found, unused-ignore]
from mteb.abstasks import AbsTaskRetrieval  # type: ignore[import-not-found, unused-ignore]
from mteb.abstasks.task_metadata import TaskMetadata  # type: ignore[import-not-found, unused-ignore]
from mteb.models import ModelMeta  # type: ignore[import-not-found, unused-ignore]
from mteb.models.abs_encoder import AbsEncoder  # type: ignore[import-not-found, unused-ignore]
from mteb.models.openai_wrappers import OpenAIAPIEncodeWrapper  # type: ignore[import-not-found, unused-ignore]
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer

from benchmarks.engine import Engine

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

BATCH, MERGED = 32, 8


class Docstrings(AbsTaskRetrieval):  # type: ignore[misc, unused-ignore]
    """Each query has one document that answers it."""

    metadata = TaskMetadata(
        name="PythonDocstrings",
        description="The rest of a docstring of Python's standard library, by its first sentence.",
        type="Retrieval",
        category="t2t",
        modalities=["text"],
        dataset={"path": "local/docstrings", "revision": "local"},
        eval_splits=["test"],
        eval_langs=["eng-Latn"],
        main_score="ndcg_at_10",
        domains=["Programming", "Written"],
        task_subtypes=["Code retrieval"],
        annotations_creators="derived",
        sample_creation="found",
    )

    def __init__(self, queries: Sequence[str], documents: Sequence[str]) -> None:
        super().__init__()
        self._texts = {"q": queries, "d": documents}

    def load_data(self, num_proc: int | None = None, **_: Any) -> None:
        """Make the data set of the texts; nothing is fetched."""
        queries, documents = (
            Dataset.from_dict({"id": [f"{kind}{n}" for n in range(len(texts))], "text": list(texts)})
            for kind, texts in self._texts.items()
        )
        answers = {f"q{n}": {f"d{n}": 1} for n in range(len(self._texts["q"]))}
        split = {"corpus": documents, "queries": queries, "relevant_docs": answers, "top_ranked": None}
        self.dataset, self.data_loaded = {"default": {"test": split}}, True


class Graphs(AbsEncoder):  # type: ignore[misc, unused-ignore]
    """conch's graphs in process, as an encoder of mteb's."""

    mteb_model_meta = ModelMeta.create_empty(overwrites={"name": "conch/graphs", "modalities": ["text"]})

    def __init__(self, encoder: str, head: str, tokenizer: str, max_length: int) -> None:
        self._engine = Engine(Path(encoder), Path(head))
        self._tokenizer = Tokenizer.from_file(tokenizer)
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(max_length)

    def encode(self, inputs: Iterable[dict[str, list[str]]], **_: Any) -> NDArray[np.float32]:
        """float32 [texts, dimension]."""
        texts = [text for batch in inputs for text in batch["text"]]
        rows = [Row(encoding.ids, encoding.type_ids) for encoding in self._tokenizer.encode_batch(texts)]
        return np.concatenate([self._engine(rows[begin : begin + MERGED]) for begin in range(0, len(rows), MERGED)])


def encoder(model: dict[str, Any]) -> Any:
    """The encoder of a MODEL as mteb takes it."""
    if "url" in model:
        # By default it asks as vLLM's models for chats and images want to be asked.
        return OpenAIAPIEncodeWrapper(model["url"], model["model"], modalities=["text"], use_chat_template=False)
    if "checkpoint" in model:
        return SentenceTransformer(model["checkpoint"], device="cpu")
    return Graphs(**model)


def ndcg_at_10(task: Docstrings, model: dict[str, Any]) -> float:
    """What mteb says of a MODEL."""
    chosen = {"batch_size": BATCH, "show_progress_bar": False}
    result = mteb.evaluate(encoder(model), task, cache=None, co2_tracker=False, encode_kwargs=chosen)
    (found,) = result.task_results
    return float(found.scores["test"][0]["ndcg_at_10"])


def main() -> None:
    """Answer one request."""
    asked = json.load(sys.stdin)
    scores = {
        name: ndcg_at_10(Docstrings(asked["queries"], asked["documents"]), model)
        for name, model in asked["models"].items()
    }
    print(json.dumps({"mteb": version("mteb"), "ndcg_at_10": scores}))


if __name__ == "__main__":
    main()
