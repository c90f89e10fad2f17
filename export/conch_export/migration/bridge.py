"""Fits and publishes a bridge: a model that maps the vectors of a new model close to those of an old one.

With its vectors, the index of the old model can be searched approximately. The map is learned from texts that both
models embed, measured on held-out texts, and published as another head of the new model. It has a vector space of its
own: callers get its vectors in place of the old model's only if they accept an approximation.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from conch_contract import REPORT, Task, bridge_name, head_name

from conch_export.errors import ExportError, UnsupportedError, VerificationError
from conch_export.migration.comparison import distinct
from conch_export.migration.evaluation import Pairs, Recalls
from conch_export.migration.head import bridge_graph, bridge_info, bridge_models
from conch_export.migration.in_process import InProcess
from conch_export.progress import silent
from conch_export.triton.configuration import save
from conch_export.triton.ensemble import Published
from conch_export.triton.publish import staged
from conch_export.triton.published import refuse_misfits
from conch_export.triton.repository import graph_path, refuse_taken
from conch_export.verification.standards import MAX_DIFFERENCE_FP32, MAX_MERGED_DIFFERENCE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from conch_contract import ModelInfo

    from conch_export.migration.learning import Candidate
    from conch_export.migration.neighbours import Floats
    from conch_export.model.heads import HeadLayer
    from conch_export.progress import Progress

FEWEST_TEXTS = 200
LEAST_RECALL = 0.5
_MERGED_TEXTS = 16
_PACKAGES = ("conch", "numpy", "onnx", "onnxruntime", "torch")


@dataclass(frozen=True)
class Bridge:
    """A published bridge.

    Attributes:
        name: name of the public model.
        old: name of the model whose index it searches.
        new: name of the model that it is derived from.
        old_prompt: name of the prompt with which the old index is searched; empty for none.
        new_prompt: name of the prompt before its texts; empty for none.
        space_id: vector space of its own vectors.
        bridges_to: vector space of the old model.
        method: the method that was chosen.
        validation: recall@10 of every method on the validation texts.
        texts: number of texts for fitting, validation and measuring together.
        texts_sha256: SHA-256 of these texts.
        held_out: recall on the held-out texts.
        max_difference: largest difference of a component between the graph's vectors and the map as computed by
            PyTorch, relative to the length of the vectors.
    """

    name: str
    old: str
    new: str
    old_prompt: str
    new_prompt: str
    space_id: str | None
    bridges_to: str | None
    method: str
    validation: Mapping[str, float]
    texts: int
    texts_sha256: str
    held_out: Recalls
    max_difference: float

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def fit(
    old: str,
    new: str,
    repository: Path,
    texts: Sequence[str],
    progress: Progress = silent,
    *,
    old_prompt: str | None = None,
    new_prompt: str | None = None,
    least_recall: float = LEAST_RECALL,
) -> Bridge:
    """Learn a bridge from a new model into the vector space of an old one, and publish it as `NEW-as-OLD`.

    Args:
        old: name of the public model that made the index.
        new: name of the public model that embeds queries from now on.
        repository: Triton's model repository, which has both.
        texts: texts like the queries; equal ones count once.
        progress: receives every step and its progress.
        old_prompt: name of the prompt with which the old index is searched; None for the default, "" for none.
        new_prompt: name of a prompt of the new model, which becomes the bridge's; None for its default, "" for none.
        least_recall: least share of the old model's neighbours that held-out texts must find.

    Raises:
        UnsupportedError: no bridge is needed, or none can be fitted to these models or texts.
        SourceError: a model is not in the repository, or damaged.
        VerificationError: the graphs do not compute the map, or recall is too low; nothing is published.
        ExportError: another export is running, the new model was exported again meanwhile, or the name is taken.
    """
    # Imported here, because only fitting needs PyTorch, which takes seconds to load.
    from conch_export.migration.learning import Parts, applied, learned  # noqa: PLC0415

    exported = Published.find(repository, new).graphs_sha256()
    before, after = InProcess(repository, old, old_prompt), InProcess(repository, new, new_prompt)
    _refuse_unbridgeable(before, after)
    texts = distinct(texts, FEWEST_TEXTS, (before, after))
    y, x = (model.embed(texts, progress).vectors for model in (before, after))
    pairs, held_out = Pairs(before.info, after.info, x, y), Parts.of(len(texts)).held_out
    candidates = learned(pairs, Parts.of(len(texts)), progress)
    layers = candidates[0].layers
    info = bridge_info(bridge_name(new, old), pairs.old, pairs.new, after.prompt_name, layers)
    with staged(repository) as folder:
        _refuse_exported_again(Published.find(repository, new), exported)
        bridged = after.behind(_write(folder, repository, info, layers), info)
        progress("verifying")
        expected = applied(layers, pairs.x[held_out])
        found, difference = _verified(bridged, [texts[place] for place in held_out], expected)
        recalls = Recalls.of(pairs, held_out, found)
        bridge = _bridge(info, before, texts, candidates, recalls=recalls, max_difference=difference)
        _judge(bridge, least_recall)
        report = json.dumps(_report(bridge, info, folder), indent=2)
        (folder / info.name / REPORT).write_text(report + "\n", encoding="utf-8")
        progress("publishing")
    return bridge


def _refuse_unbridgeable(old: InProcess, new: InProcess) -> None:
    for model in (old, new):
        if model.info.base is not None:
            raise UnsupportedError(f"{model.info.name} is derived from {model.info.base}: name an exported model")
    if not new.has_head:
        raise UnsupportedError(f"{new.info.name} is a static model without a head, to which a map could be added")
    if old.info.space_id is None:
        raise UnsupportedError(f"{old.info.name} states no vector space, as older exports do not: export it again")
    if new.info.space_id == old.info.space_id:
        msg = (
            f"{new.info.name} and {old.info.name} answer in the same vector space, {old.info.space_id}: search the "
            "index with the new model as it is (`conch migrate compare` shows how far their precisions agree)"
        )
        raise UnsupportedError(msg)


def _refuse_exported_again(new: Published, graphs_sha256: str) -> None:
    """Refuse graphs that are not those whose vectors the map was learned from: the bridge would run behind them."""
    if new.graphs_sha256() != graphs_sha256:
        name = new.info.name
        raise ExportError(f"{name} was exported again while its bridge was learned: run `conch migrate fit` again")


def _write(folder: Path, repository: Path, info: ModelInfo, layers: Sequence[HeadLayer]) -> Path:
    """Write the bridge's Triton models into a folder; return the path of its head's graph."""
    configs = bridge_models(repository, info)
    refuse_taken(repository, configs)
    save(configs, folder)
    head = graph_path(folder, head_name(info.name, Task.EMBEDDING))
    bridge_graph(repository, info, layers).save(head.parent)
    refuse_misfits(folder, configs)
    return head


def _verified(bridged: InProcess, texts: Sequence[str], expected: Floats) -> tuple[Floats, float]:
    """Return the vectors of the graphs for texts, and their largest difference from those of the map.

    Raises:
        VerificationError: they differ from the map of the new model's vectors, or merging texts changes them.
    """
    vectors = bridged.embed(texts).vectors
    length = max(float(np.linalg.norm(expected, axis=1).mean()), 1e-30)
    difference = float(np.abs(vectors - expected).max()) / length
    alone = bridged.alone(texts[:_MERGED_TEXTS])
    merged = float(np.abs(vectors[:_MERGED_TEXTS] - alone).max()) / length
    # Written so that NaN fails both conditions.
    if difference <= MAX_DIFFERENCE_FP32 and merged <= MAX_MERGED_DIFFERENCE:
        return vectors, difference
    msg = (
        f"{bridged.info.name} is not published: its graph differs from the map that was learned by {difference:.1e}, "
        f"and merging texts changes vectors by {merged:.1e}; report this with the versions of onnxruntime and torch"
    )
    raise VerificationError(msg)


def _bridge(
    info: ModelInfo,
    old: InProcess,
    texts: Sequence[str],
    candidates: Sequence[Candidate],
    *,
    recalls: Recalls,
    max_difference: float,
) -> Bridge:
    return Bridge(
        name=info.name,
        old=old.info.name,
        new=str(info.base),
        old_prompt=old.prompt_name,
        new_prompt=info.default_prompt_name or "",
        space_id=info.space_id,
        bridges_to=info.bridges_to,
        method=candidates[0].method,
        validation={each.method: each.recall_at_10 for each in candidates},
        texts=len(texts),
        texts_sha256=hashlib.sha256("\0".join(texts).encode()).hexdigest(),
        held_out=recalls,
        max_difference=max_difference,
    )


def _judge(bridge: Bridge, least: float) -> None:
    found = bridge.held_out.bridged
    if not found >= least:
        msg = (
            f"{bridge.name} is not published: it finds {found:.0%} of the old model's ten nearest neighbours, and at "
            f"least {least:.0%} are required (--least-recall); give more texts like your queries, or embed the index "
            "anew before you switch"
        )
        raise VerificationError(msg)


def _report(bridge: Bridge, info: ModelInfo, folder: Path) -> dict[str, Any]:
    versions = {name: importlib.metadata.version(name) for name in _PACKAGES}
    return {
        "name": info.name,
        "task": info.task.value,
        "precision": info.precision,
        "source": info.source,
        "revision": info.revision,
        "weights_sha256": info.weights_sha256,
        "bridge_sha256": info.bridge_sha256,
        "bridge": bridge.as_dict(),
        "versions": {"python": platform.python_version(), **versions},
        "files": {str(p.relative_to(folder)): p.stat().st_size for p in sorted(folder.rglob("1/*"))},
    }
