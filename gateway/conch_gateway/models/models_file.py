"""The models file: what public names mean beyond the models of the repository; its shape is decided here.

A TOML table per public name. Which keys it has says which of three things the name is:

    [code-search]                       # another name of a model
    model = "all-minilm-l6-v2"

    [search]                            # the same; a share of what it answers is embedded by another model too
    model = "all-minilm-l6-v2"
    shadow = "bge-small-en"
    shadow_share = 0.05

    [leaf]                              # the same; texts that are said to be queries are embedded by another model
    model = "leaf-document"
    queries = "leaf-query"

    [bge-large-en]                      # a model of the repository that is not loaded at the start
    load = "lazy"

    [jina-v4]                           # a model of an upstream
    url = "http://vllm:8000/v1"
    model = "jinaai/jina-embeddings-v4"
    api_key_env = "JINA_API_KEY"
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from conch_gateway.errors import ModelsFileError
from conch_gateway.operators_file import read_operators_file
from conch_gateway.settings import Load
from conch_gateway.validation import sentence

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_Name = Annotated[str, Field(min_length=1, max_length=256)]


class _OwnTable(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class AliasTable(_OwnTable):
    """Another name of a model of the repository or of a backend.

    Attributes:
        model: that it stands for.
        queries: model that answers instead if texts are said to be queries; None for the same. What both answer can be
            compared, which the operator states by this.
        shadow: model that embeds a share of the requests as well, after they were answered; None for none.
        shadow_share: of the requests.
    """

    model: _Name
    queries: _Name | None = None
    shadow: _Name | None = None
    shadow_share: float = Field(0.01, gt=0, le=1)

    @model_validator(mode="after")
    def _a_model_to_share_with(self) -> AliasTable:
        if self.shadow is None and "shadow_share" in self.model_fields_set:
            raise ValueError("shadow_share without shadow; name the model that a share of the requests also goes to")
        if self.shadow == self.model:
            raise ValueError("shadow is the model itself; name another one")
        return self

    @model_validator(mode="after")
    def _two_models_or_one(self) -> AliasTable:
        if self.queries == self.model:
            raise ValueError("queries is the model itself; leave it out")
        if self.queries is not None and self.shadow is not None:
            raise ValueError("shadow is compared with one model, and queries is a second one; leave one of them out")
        return self

    def answering(self, *, query: bool) -> str:
        """Return the model that answers texts of this kind."""
        return self.queries if query and self.queries is not None else self.model


class LocalTable(_OwnTable):
    """When a model of the repository is loaded: at the start, by its first request, or by an administrator only."""

    load: Load


_Shape = TypeVar("_Shape", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class ModelsFile:
    """The checked tables by public name and kind; a backend's comes with the key that marks such tables."""

    aliases: dict[str, AliasTable] = field(default_factory=dict)
    local: dict[str, LocalTable] = field(default_factory=dict)
    backends: dict[str, tuple[str, BaseModel]] = field(default_factory=dict)

    def resolve(self, name: str, *, query: bool = False) -> str:
        """Return the name of the model that this name stands for, where texts are said to be queries or are not."""
        return self.aliases[name].answering(query=query) if name in self.aliases else name


def read_models_file(path: Path | None, backends: Mapping[str, type[BaseModel]]) -> ModelsFile:
    """Read and check the file; without one every name is just a model of the repository.

    Args:
        path: of the file.
        backends: shapes of backends' tables, by the key that marks such a table.

    Raises:
        ModelsFileError: it cannot be read, or says something that cannot be; the message says where.
    """
    if path is None:
        return ModelsFile()
    try:
        return _sorted_out(tomllib.loads(read_operators_file(path).decode()), backends)
    except OSError as error:
        msg = f"cannot read the models file {path} (CONCH_MODELS_FILE): {error.strerror}"
        raise ModelsFileError(msg) from error
    except ValueError as error:
        raise ModelsFileError(f"the models file {path} is wrong: {error}") from error


def _sorted_out(tables: dict[str, Any], backends: Mapping[str, type[BaseModel]]) -> ModelsFile:
    found = ModelsFile()
    for name, table in tables.items():
        if not isinstance(table, dict):
            msg = f'{name} stands outside of a table; begin with a public name, as in ["{name}"]'
            raise ValueError(msg)
        mark = next((key for key in backends if key in table), None)
        if mark is not None:
            found.backends[name] = mark, _checked(backends[mark], name, table)
        elif "load" in table:
            found.local[name] = _checked(LocalTable, name, table)
        else:
            found.aliases[name] = _checked(AliasTable, name, table)
    for name, alias in found.aliases.items():
        if alias.model in found.aliases:
            raise ValueError(f"[{name}] is an alias of an alias; name the model that {alias.model} stands for")
        for key, other in (("shadow", alias.shadow), ("queries", alias.queries)):
            if other in found.aliases:
                raise ValueError(f"[{name}] {key} is an alias; name the model that {other} stands for")
    return found


def _checked(shape: type[_Shape], name: str, table: dict[str, Any]) -> _Shape:
    try:
        return shape.model_validate(table)
    except ValidationError as error:
        raise ValueError(f"[{name}] {'; '.join(map(sentence, error.errors()))}") from error
