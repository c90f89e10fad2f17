"""Which public model every Triton model of a repository belongs to, as their configurations say; names never decide."""

from __future__ import annotations

from typing import TYPE_CHECKING

from conch_contract import FORMAT_PARAMETER
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from conch_export.errors import UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_CONFIG = "config.pbtxt"


def owners(repository: Path) -> dict[str, str]:
    """The public model that each Triton model was exported with, by its name; itself for that one.

    A model that no export wrote has the owner "".
    """
    configs = dict(_configs(repository))
    found = dict.fromkeys(configs, "")
    for name, config in configs.items():
        if FORMAT_PARAMETER in config.parameters:
            base = config.parameters["base"].string_value or name
            steps = [step.model_name for step in config.ensemble_scheduling.step]
            found.update(dict.fromkeys([name, config.parameters["tokenizer"].string_value, *steps], base))
    return found


def owned(repository: Path, public: str) -> list[str]:
    """Names of the Triton models of a public one, itself and those derived from it included."""
    return sorted(name for name, owner in owners(repository).items() if owner == public)


def refuse_taken(repository: Path, staged: Path) -> None:
    """Refuse to publish models in the place of somebody else's.

    Args:
        repository: where they would be published.
        staged: the folder that holds them, of which only the configurations need to be there.

    Raises:
        UnsupportedError: a name belongs to another model.
    """
    there = owners(repository)
    for name, owner in sorted(owners(staged).items()):
        other = there.get(name, owner)
        if other == owner or (not other and name.startswith(f"{owner}.")):
            continue
        whose = f"is derived from {other!r}" if other != name else "is a model of its own"
        whose = f"{whose}: choose another --name" if other else "was not exported by conch: move it elsewhere"
        message = f"{owner!r} needs the name {name!r}, which {repository} has already; it {whose}"
        raise UnsupportedError(message)


def _configs(repository: Path) -> Iterator[tuple[str, pb.ModelConfig]]:
    for path in sorted(repository.glob(f"[!.]*/{_CONFIG}")):
        if (config := _parsed(path)) is not None:
            yield path.parent.name, config


def _parsed(path: Path) -> pb.ModelConfig | None:
    try:
        return text_format.Parse(path.read_text("utf-8"), pb.ModelConfig())
    except (OSError, ValueError, text_format.ParseError):
        return None  # it owns nothing, and an export may mend it
