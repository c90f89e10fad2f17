"""What bridges find: all-MiniLM-L6-v2 to and from other spaces; `results/bridge.json`.

    python benchmarks/bridge.py

makes the other spaces from the same checkpoint: int8, pooled by its first token, and the first three of its six
layers, which stand in for another model. Maps are learned from docstrings of installed packages, and measured twice: on
held-out ones, and in a search with right answers, where the first sentence of a docstring of the standard library has
to find the rest of it. Everything is computed in process by the exported graphs.
"""

from __future__ import annotations

import ast
import inspect
import json
import shutil
import sys
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from itertools import permutations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from conch_export import Options, Overrides, Pooling, Precision, export, is_complete, plan
from conch_export.migration.evaluation import Pairs, Recalls
from conch_export.migration.in_process import InProcess
from conch_export.migration.learning import Parts, applied, learned
from conch_export.migration.neighbours import compared, nearest, recall
from conch_export.sources.finder import resolve
from conch_export.verification.texts import docstrings
from safetensors import safe_open
from safetensors.numpy import save_file

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
from benchmarks.machine import keep  # noqa: E402 - the folder of the script is not its package's
from benchmarks.retrieval import pairs as questions_and_answers  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

RESULT = ROOT / "benchmarks" / "results" / "bridge.json"
WORK = ROOT / ".run" / "benchmarks" / "bridge"
NAME = "all-minilm-l6-v2"
TEXTS, SIZES = 2000, (500, 1000)
QUESTIONS = 600
LEAST_CHARACTERS, MOST_CHARACTERS = 30, 250
KEPT_LAYERS = 3
PACKAGES = (
    *("fastapi", "httpx", "huggingface_hub", "hypothesis", "numpy", "prometheus_client", "pydantic", "pytest", "rich"),
    *("sentence_transformers", "starlette", "typer", "uvicorn"),
)
"""Whose docstrings maps are learned from."""
SEED = 0


@dataclass(frozen=True)
class Model:
    """One of the measured models, and its vectors.

    Attributes:
        what: it is, for readers.
        model: in process.
        texts: vectors of the texts that maps are learned from.
        questions: vectors of first sentences.
        answers: vectors of the rests.
    """

    what: str
    model: InProcess
    texts: Floats
    questions: Floats
    answers: Floats


def packages_docstrings() -> list[str]:
    """Distinct docstrings of installed packages that the standard library does not have, drawn at random."""
    known = set(docstrings())
    found: dict[str, None] = {}
    for package in PACKAGES:
        spec = find_spec(package)
        folders = (spec.submodule_search_locations if spec is not None else None) or []
        for path in sorted(path for folder in folders for path in Path(folder).rglob("*.py")):
            found.update(dict.fromkeys(text for text in _docstrings(path) if text not in known))
    texts = [text for text in found if LEAST_CHARACTERS <= len(text) <= MOST_CHARACTERS]
    chosen = np.random.default_rng(SEED).permutation(len(texts))[:TEXTS]
    return [texts[place] for place in sorted(chosen.tolist())]


def _docstrings(path: Path) -> Iterator[str]:
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            text = ast.get_docstring(node)
            if text:
                yield inspect.cleandoc(text)


def first_layers(folder: Path) -> Path:
    """The checkpoint with its first layers alone, as a checkpoint of its own."""
    source = resolve(NAME).folder
    shutil.copytree(source, folder, dirs_exist_ok=True)
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": KEPT_LAYERS}), encoding="utf-8")
    dropped = tuple(f"encoder.layer.{layer}." for layer in range(KEPT_LAYERS, config["num_hidden_layers"]))
    with safe_open(source / "model.safetensors", "np") as weights:
        kept = {name: weights.get_tensor(name) for name in weights.keys() if not name.startswith(dropped)}  # noqa: SIM118
    save_file(kept, folder / "model.safetensors", {"format": "pt"})
    return folder


def exported() -> dict[str, str]:
    """Export what is missing; what each model is, by its name."""
    truncated = str(first_layers(WORK / "first-three-layers"))
    one_core: dict[str, Any] = {"plan": plan(cores=1), "late_interaction": False}
    options = {
        "fp32": (
            "as its authors have it, fp32",
            Options(NAME, WORK / "models", "fp32", precision=Precision.FP32, **one_core),
        ),
        "int8": ("the same in int8", Options(NAME, WORK / "models", "int8", **one_core)),
        "cls": (
            "pooled by the first token, fp32",
            Options(
                NAME,
                WORK / "models",
                "cls",
                precision=Precision.FP32,
                overrides=Overrides(pooling=Pooling.CLS),
                **one_core,
            ),
        ),
        "three": (
            f"the first {KEPT_LAYERS} of its layers, fp32",
            Options(truncated, WORK / "models", "three", precision=Precision.FP32, **one_core),
        ),
    }
    for _, each in options.values():
        if not is_complete(each):
            export(each)
    return {name: what for name, (what, _) in options.items()}


def embedded(texts: Sequence[str], questions: Sequence[str], answers: Sequence[str]) -> dict[str, Model]:
    """Every model's vectors."""
    found = {}
    for name, what in exported().items():
        model = InProcess(WORK / "models", name)
        vectors = [model.embed(each).vectors for each in (texts, questions, answers)]
        found[name] = Model(what, model, *vectors)
        print(f"embedded with {name}", flush=True)
    return found


def measured(old: Model, new: Model, texts: int) -> dict[str, Any]:
    """A bridge from one model to another, learned from so many texts."""
    x, y = new.texts[:texts], old.texts[:texts]
    pairs, parts = Pairs(old.model.info, new.model.info, x, y), Parts.of(texts)
    candidates = learned(pairs, parts)
    layers = candidates[0].layers
    return {
        "texts": texts,
        "method": candidates[0].method,
        "validation": {each.method: each.recall_at_10 for each in candidates},
        "held_out": asdict(Recalls.of(pairs, parts.held_out, applied(layers, x[parts.held_out]))),
        "bridged_search": searched(applied(layers, new.questions), old),
    }


def searched(questions: Floats, old: Model) -> float:
    """The share of questions whose own answer is among the ten nearest by a model's index."""
    info = old.model.info
    found = nearest(compared(questions, info), compared(old.answers, info))
    own = np.arange(len(questions))[:, None]
    return float((found == own).any(axis=1).mean())


def same_space(old: Model, new: Model) -> dict[str, float]:
    """Two precisions of one space, which need no bridge."""
    own = np.arange(len(old.texts))
    by_old = nearest(old.texts, old.texts, own)
    return {
        "recall_at_10": recall(nearest(new.texts, old.texts, own), by_old),
        "search": searched(new.questions, old),
    }


def main() -> None:
    """Measure and write the result."""
    texts = packages_docstrings()
    texts = [texts[place] for place in np.random.default_rng(SEED + 1).permutation(len(texts))]
    asked = [pair for pair in zip(*questions_and_answers(docstrings()), strict=True) if len(pair[1]) <= MOST_CHARACTERS]
    questions, answers = zip(*asked[:QUESTIONS], strict=True)
    models = embedded(texts, questions, answers)
    bridges = []
    for old, new in permutations(("fp32", "cls", "three"), 2):
        if "fp32" not in (old, new):
            continue
        sizes = [*(SIZES if "three" in (old, new) else ()), len(texts)]
        found = {
            "old": old,
            "new": new,
            "native_search": searched(models[old].questions, models[old]),
            "new_search": searched(models[new].questions, models[new]),
            "unbridged_search": searched(models[new].questions, models[old]),
            "learned": [measured(models[old], models[new], size) for size in sizes],
        }
        bridges.append(found)
        print(json.dumps(found, indent=1), flush=True)
    result = {
        "texts": len(texts),
        "questions": len(questions),
        "models": {name: each.what for name, each in models.items()},
        "int8": same_space(models["fp32"], models["int8"]),
        "bridges": bridges,
    }
    keep(RESULT, "python benchmarks/bridge.py", result)


if __name__ == "__main__":
    main()
