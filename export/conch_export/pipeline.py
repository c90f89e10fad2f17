"""One export, from checkpoint to published models: resolve, describe, build, quantize, verify, publish."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx
from conch_contract import INNER_NAMES, encoder_name, tokenizer_name

from conch_export.checkpoints.checkpoint import Checkpoint
from conch_export.checkpoints.describe import describe
from conch_export.errors import OutdatedError, UnsupportedError
from conch_export.model.description import Description, Overrides, Precision
from conch_export.model.parts import parts
from conch_export.onnx.build import build_encoder, build_step
from conch_export.onnx.file import file_graph
from conch_export.onnx.inputs import graph_fits
from conch_export.provenance import find, lock_text, write_lock
from conch_export.sources import catalog
from conch_export.sources.lock import FILE as LOCK_FILE
from conch_export.triton.configuration import TOKENIZER_FILE, to_text, triton_models
from conch_export.triton.ownership import owned, refuse_taken
from conch_export.triton.plan import Plan, plan
from conch_export.triton.publish import staged
from conch_export.verification.report import REPORT, read_report
from conch_export.verification.verify import verify

if TYPE_CHECKING:
    from collections.abc import Callable

    from conch_export.onnx.encoder import Target
    from conch_export.verification.agreement import Verification

_LARGE = 1 << 30


@dataclass(frozen=True)
class Options:
    """What is to be exported and how.

    Attributes:
        reference: catalog name, Hub id or folder.
        repository: Triton's model repository.
        name: public name; None takes the catalog's, or the last part of the reference in lower case.
        revision: commit on the Hub; None takes the newest.
        precision: of the encoder's matrix products.
        late_interaction: publish a MaxSim reranker on the same encoder, and an embedding model's token vectors; None
            does what the catalog says, and does it for every multi-vector model.
        plan: instances, threads and rows.
        overrides: what the checkpoint does not say, or says wrongly.
        update_lock: take the checkpoint as it is now, whatever the repository's lock file says.
        trust_remote_code: run the checkpoint's own code, where the model cannot be computed without.
    """

    reference: str
    repository: Path
    name: str | None = None
    revision: str | None = None
    precision: Precision = Precision.INT8
    late_interaction: bool | None = None
    plan: Plan = field(default_factory=plan)
    overrides: Overrides = field(default_factory=Overrides)
    update_lock: bool = False
    trust_remote_code: bool = False


@dataclass(frozen=True)
class Exported:
    """What an export made.

    Attributes:
        description: of the model.
        models: names of all Triton models that serve it.
        verification: what was measured of its public models, by name, its own first.
    """

    description: Description
    models: tuple[str, ...]
    verification: dict[str, Verification]


def export(options: Options, on_step: Callable[[str], None] = lambda _: None) -> Exported:
    """Export, verify and publish one checkpoint.

    Args:
        options: what and how.
        on_step: called with a few words before each long step.

    Raises:
        ExportError: nothing was published, the repository is as it was.
    """
    on_step("finding the checkpoint")
    description, checkpoint = described(options, on_step)
    configs, target = triton_models(description, options.plan), options.plan.target
    with staged(options.repository) as folder:
        for name, config in configs.items():
            (folder / name / "1").mkdir(parents=True)
            (folder / name / "config.pbtxt").write_text(to_text(config), encoding="utf-8")
        refuse_taken(options.repository, folder)
        on_step("building the graphs")
        _write_graphs(folder, description, checkpoint, target)
        on_step("verifying against the authors' libraries")
        verification = verify(description, options.overrides, folder, target)
        report = _report(description, options.overrides, verification, folder)
        (folder / description.name / REPORT).write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
        for name in set(owned(options.repository, description.name)) - configs.keys():
            (folder / name).mkdir()  # an earlier export under this name had it
        write_lock(options.repository, folder, [description.source])
        on_step("publishing")
    return Exported(description, tuple(configs), verification)


def check(options: Options) -> None:
    """Compare the repository's configurations with what an export would write.

    Raises:
        OutdatedError: they differ; the message lists the files.
    """
    description, _ = described(options)
    configs = triton_models(description, options.plan)
    paths = {options.repository / name / "config.pbtxt": to_text(config) for name, config in configs.items()}
    if description.source.key:
        paths[options.repository / LOCK_FILE] = lock_text(options.repository, [description.source])
    differing = [str(path) for path, text in paths.items() if not path.exists() or path.read_text("utf-8") != text]
    if differing:
        message = (
            f"{', '.join(differing)}: not what `conch export {options.reference}` writes; run it and commit the result"
        )
        raise OutdatedError(message)


def is_complete(options: Options) -> bool:
    """Whether the repository already holds this export, weights and report included."""
    if not (options.repository / public_name(options)).exists():
        return False  # before anything is fetched
    try:
        check(options)
    except OutdatedError:
        return False
    report = read_report(options.repository, public_name(options))
    if report is None or report.get("versions", {}).get("conch") != _version("conch"):
        return False
    graphs = [options.repository / path for path in report["files"] if path.endswith("/model.onnx")]
    return all(graph_fits(graph.parents[1]) for graph in graphs)


def public_name(options: Options) -> str:
    """What the exported model will be called.

    Raises:
        UnsupportedError: it cannot be the name of a folder in the repository.
    """
    entry, reference = catalog.find(options.reference), Path(options.reference)
    folder = reference.resolve() if reference.is_dir() else reference
    name = options.name or (entry.name if entry else folder.name.lower())
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        message = f"{name!r} cannot name a model: give letters, digits, '.', '_' and '-' with --name"
        raise UnsupportedError(message)
    _, dot, ending = name.rpartition(".")
    if dot and ending in INNER_NAMES:
        message = f"{name!r} is what the {ending} of a model is called: choose a --name without that ending"
        raise UnsupportedError(message)
    return name


def described(options: Options, on_step: Callable[[str], None] = lambda _: None) -> tuple[Description, Checkpoint]:
    """The description that an export would go by, and the checkpoint that it is of, fetched where it is not here.

    Raises:
        ExportError: the checkpoint was not found, or is not what can be exported.
    """
    source = find(
        options.reference,
        options.revision,
        options.repository,
        update_lock=options.update_lock,
        trust_remote_code=options.trust_remote_code,
        on_bytes=lambda done, total: on_step(f"fetching the checkpoint: {done / 1e6:.0f} of {total / 1e6:.0f} MB"),
    )
    checkpoint = Checkpoint(source.folder)
    wanted = options.late_interaction
    if wanted is None and (entry := catalog.find(options.reference)) is not None:
        wanted = entry.late_interaction or None
    name, overrides = public_name(options), options.overrides
    return describe(checkpoint, source, name, options.precision, overrides, late_interaction=wanted), checkpoint


def _write_graphs(folder: Path, description: Description, checkpoint: Checkpoint, target: Target) -> None:
    tokenizer = folder / tokenizer_name(description.name) / "1"
    (tokenizer / TOKENIZER_FILE).write_bytes(checkpoint.tokenizer)
    save_graph(file_graph(TOKENIZER_FILE, description.tokenizer_bytes), tokenizer)
    encoder = save_graph(build_encoder(description, checkpoint, target), folder / encoder_name(description.name) / "1")
    for part in parts(description):
        if part.step is not None:
            save_graph(build_step(description, part, checkpoint, encoder), folder / part.step / "1")


def save_graph(graph: onnx.ModelProto, folder: Path) -> Path:
    """Write a graph as a folder's `model.onnx`, weights that are too many for one file beside it; returns its path."""
    path = folder / "model.onnx"
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in graph.graph.initializer):
        path.write_bytes(graph.SerializeToString())
        return path
    large = sum(len(tensor.raw_data) for tensor in graph.graph.initializer) > _LARGE
    onnx.save_model(graph, path, save_as_external_data=large, location="model.data" if large else None)
    return path


def _report(
    description: Description, overrides: Overrides, verification: dict[str, Verification], folder: Path
) -> dict[str, Any]:
    packages = ("conch", "onnx", "onnxruntime", "transformers", "sentence-transformers", "torch", "numpy")
    return {
        "name": description.name,
        "task": description.task.value,
        "precision": description.precision.value,
        "packing": description.packing.value,
        "source": description.source.origin,
        "revision": description.source.revision,
        "weights_sha256": description.source.weights_sha256,
        "code_sha256": description.source.code_sha256,
        "overrides": overrides.as_dict(),
        "verification": {name: measured.as_dict() for name, measured in verification.items()},
        "versions": {"python": platform.python_version()} | {name: _version(name) for name in packages},
        "files": {str(p.relative_to(folder)): p.stat().st_size for p in sorted(folder.rglob("1/*"))},
    }


def _version(distribution: str) -> str:
    return importlib.metadata.version(distribution)
