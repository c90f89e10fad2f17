"""One export, from checkpoint to published models: resolve, describe, build, quantize, verify, publish."""

from __future__ import annotations

import importlib.metadata
import json
import platform
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from conch_contract import KNOWN_ANSWER, REPORT, SPACE_PARAMETER

from conch_export.build import refuse_unbuildable, write_graphs
from conch_export.errors import OutdatedError
from conch_export.freed import give_back
from conch_export.options import Options, described, public_name
from conch_export.planning.exporting import refuse_too_large
from conch_export.progress import silent
from conch_export.provenance import lock_text, write_lock
from conch_export.sources.lock import FILE as LOCK_FILE
from conch_export.triton.configuration import save, to_text, triton_models
from conch_export.triton.publish import staged
from conch_export.triton.published import graph_fits, refuse_misfits
from conch_export.triton.repository import read_report, refuse_taken, superseded, take_out_earlier
from conch_export.verification.verify import expectations, known_answer, refuse_unverifiable, verify

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tritonclient.grpc.model_config_pb2 import ModelConfig

    from conch_export.model.description import Description, Overrides
    from conch_export.progress import Progress
    from conch_export.verification.agreement import Verification


@dataclass(frozen=True)
class Exported:
    """The result of an export.

    Attributes:
        description: of the model.
        models: names of all Triton models that serve it.
        verification: what was measured of its public models, by name, its own first.
    """

    description: Description
    models: tuple[str, ...]
    verification: dict[str, Verification]


def export(options: Options, progress: Progress = silent) -> Exported:
    """Export, verify and publish one checkpoint.

    Args:
        options: what and how.
        progress: told about every step, and how far it is.

    Raises:
        ExportError: nothing was published, the repository is as it was.
    """
    progress("finding the checkpoint")
    description, checkpoint = described(options, progress)
    configs, target = triton_models(description, options.plan), options.plan.target
    refuse_unverifiable(description, target)
    refuse_unbuildable(description, checkpoint, target)
    if not options.ignore_memory:
        refuse_too_large(description, checkpoint)
    give_back()  # several tokenizers of the checkpoint have been made to compare them
    with staged(options.repository) as folder:
        refuse_taken(options.repository, configs)
        save(configs, folder)
        write_graphs(folder, description, checkpoint, target, progress)
        refuse_misfits(folder, configs)
        # Imported late: everything but a verification does without PyTorch, which takes seconds to load.
        from conch_export.verification.reference import Reference  # noqa: PLC0415

        expected = expectations(description, lambda: Reference(description, options.overrides), progress)
        verification = verify(description, expected, folder, target, progress)
        report = _report(description, options.overrides, verification, folder) | {"space_ids": _spaces(configs)}
        if (known := known_answer(description, expected)) is not None:
            report[KNOWN_ANSWER] = known.to_report()
        (folder / description.name / REPORT).write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
        take_out_earlier(options.repository, folder)
        write_lock(options.repository, folder, [description.source])
        progress("publishing")
    return Exported(description, tuple(configs), verification)


def check(options: Options) -> None:
    """Compare the repository's configurations, and what its report says was stated, with what an export would write.

    Raises:
        OutdatedError: they differ; the message lists the files.
    """
    description, _ = described(options)
    configs = triton_models(description, options.plan)
    paths = {options.repository / name / "config.pbtxt": to_text(config) for name, config in configs.items()}
    if description.source.locks:
        paths[options.repository / LOCK_FILE] = lock_text(options.repository, [description.source])
    differing = [str(path) for path, text in paths.items() if not path.exists() or path.read_text("utf-8") != text]
    differing += [str(options.repository / name) for name in superseded(options.repository, description.name, configs)]
    report = read_report(options.repository, description.name)
    if report is not None and report.get("overrides", {}) != json.loads(json.dumps(options.overrides.as_dict())):
        differing.append(str(options.repository / description.name / REPORT))
    if differing:
        msg = (
            f"{', '.join(differing)}: not what `conch export {options.reference}` writes; run it and commit the result"
        )
        raise OutdatedError(msg)


def is_complete(options: Options) -> bool:
    """Whether the repository already holds this export, weights and report included."""
    repository, name = options.repository, public_name(options)
    if not (repository / name).exists():
        return False  # before anything is fetched
    try:
        check(options)
    except OutdatedError:
        return False
    report = read_report(repository, name)
    if report is None or report.get("versions", {}).get("conch") != _version("conch"):
        return False
    models = [path.split("/")[0] for path in report["files"] if path.endswith("/model.onnx")]
    return all(graph_fits(repository, model) for model in models)


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
        "adapter": description.source.adapter,
        "overrides": overrides.as_dict(),
        "verification": {name: measured.as_dict() for name, measured in verification.items()},
        "versions": {"python": platform.python_version()} | {name: _version(name) for name in packages},
        "files": {str(p.relative_to(folder)): p.stat().st_size for p in sorted(folder.rglob("1/*"))},
    }


def _spaces(configs: Mapping[str, ModelConfig]) -> dict[str, str]:
    """The vector space of each public model that answers vectors, by its name."""
    spaces = {name: config.parameters.get(SPACE_PARAMETER) for name, config in configs.items()}
    return {name: space.string_value for name, space in spaces.items() if space is not None}


@cache
def _version(distribution: str) -> str:
    return importlib.metadata.version(distribution)
