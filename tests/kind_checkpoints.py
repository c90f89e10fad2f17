"""A small checkpoint of every kind of head, their exports, and what transformers answers for them."""

from __future__ import annotations

import string
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch
import transformers
from conch_export import Options, Overrides, Precision

from tests import head_checkpoints, lookup_checkpoints
from tests.exports import ONE_CORE, export_once
from tests.saved_checkpoints import restore

if TYPE_CHECKING:
    from pathlib import Path

LATE: dict[str, dict[str, Any]] = {
    "colbert": {"punctuation": string.punctuation},
    "attending": {"punctuation": string.punctuation, "attends": True},
    "pylate": {},
    "unfilled": {"fills": False},
}
LABELS = {0: "contradiction", 1: "entailment", 2: "neutral"}
CLASSIFIERS = {"bert-pairs": "bert", "xlm-roberta-pairs": "xlm-roberta", "modernbert-pairs": "modernbert"}
TEMPLATE = "[CLS] {instruction} [SEP] {document} [SEP] answer [SEP] {query} [SEP] ? answer : "
FACTS: dict[str, tuple[str, str | None, int | None]] = {
    "splade": ("sparse", None, 30522),
    "free": ("sparse", None, 30522),
    "static": ("embedding", None, 48),
    "m3": ("embedding", None, 48),
    "m3-sparse": ("sparse", "m3", 30522),
    "m3-tokens": ("multi-vector", "m3", 24),
    "m3-maxsim": ("late-interaction", "m3", None),
    "words": ("cross-encoder", None, None),
    "chat": ("embedding", None, 16),
    "judge": ("cross-encoder", None, None),
    "asymmetric-query": ("embedding", None, 16),
    "asymmetric-document": ("embedding", None, 16),
    "dense": ("embedding", None, 16),
    "dense-chunks": ("late-chunking", "dense", 16),
    "instructor": ("embedding", None, 16),
    "nli": ("classification", None, None),
    **dict.fromkeys(LATE, ("multi-vector", None, 16)),
    **{f"{name}-maxsim": ("late-interaction", name, None) for name in LATE},
    **dict.fromkeys(CLASSIFIERS, ("cross-encoder", None, None)),
}
"""Task, base and dimension of every model that is exported from them."""


def make_all(folder: Path) -> dict[str, Path]:
    """Make the checkpoints, by the names of their models."""
    return {
        "splade": head_checkpoints.splade(folder / "splade", words=head_checkpoints.WORDS),
        "m3": head_checkpoints.bge_m3(folder / "m3"),
        "colbert": head_checkpoints.colbert(folder / "colbert", attend_to_mask_tokens=False),
        "attending": head_checkpoints.colbert(folder / "attending", attend_to_mask_tokens=True),
        "pylate": head_checkpoints.pylate(folder / "pylate", "modernbert"),
        "unfilled": head_checkpoints.pylate(folder / "unfilled", do_query_expansion=False),
        "free": lookup_checkpoints.inference_free(folder / "free", head_checkpoints.WORDS),
        "static": lookup_checkpoints.static(folder / "static"),
        "nli": head_checkpoints.make(folder / "nli", "bert", "ForSequenceClassification", id2label=LABELS),
        "dense": head_checkpoints.with_dense(folder / "dense", "torch.nn.modules.activation.Tanh"),
        "instructor": head_checkpoints.instructor(folder / "instructor"),
        "words": head_checkpoints.make(folder / "words", "qwen3", "ForCausalLM"),
        **{name: restore(name, folder) for name in ("chat", "judge", "asymmetric-query", "asymmetric-document")},
        **{
            name: head_checkpoints.make(folder / name, kind, "ForSequenceClassification", num_labels=1)
            for name, kind in CLASSIFIERS.items()
        },
    }


def export_all(made: dict[str, Path], repository: Path) -> None:
    """Export them in fp32."""
    overrides = {
        "dense": Overrides(late_chunking=True),
        "words": Overrides(score_tokens=("yes", "no"), pair_template=TEMPLATE, default_instruction="does"),
    }
    for name, checkpoint in made.items():
        late_interaction = True if name == "m3" else None
        chosen = Options(str(checkpoint), repository, precision=Precision.FP32, plan=ONE_CORE)
        chosen = replace(chosen, late_interaction=late_interaction, overrides=overrides.get(name, Overrides()))
        export_once(chosen)


@torch.inference_mode()
def outputs(checkpoint: Path, head: str, ids: list[int]) -> Any:
    """What transformers' class for that head gives for one text."""
    return _model(checkpoint, head)(input_ids=torch.tensor([ids]))


@lru_cache(maxsize=1)
def _model(checkpoint: Path, head: str) -> Any:
    """The model, which is kept for the next text."""
    return getattr(transformers, f"AutoModel{head}").from_pretrained(checkpoint, attn_implementation="eager").eval()


def tokens(checkpoint: Path, text: str, length: int = 128) -> list[int]:
    """The ids of a text, special tokens among them."""
    tokenizer = head_checkpoints.tokenizer_of(checkpoint)
    tokenizer.enable_truncation(length)
    ids: list[int] = tokenizer.encode(text).ids
    return ids


def framed(query: str, document: str, instruction: str = "does") -> str:
    """A pair as the template has it."""
    return TEMPLATE.replace("{instruction}", instruction).replace("{document}", document).replace("{query}", query)
