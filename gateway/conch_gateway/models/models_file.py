"""The models file: what public names mean beyond the models of the repository; its shape is decided here.

A TOML table per public name. Which keys it has says which of three things the name is:

    [code-search]                       # another name of a model
    model = "all-minilm-l6-v2"

    [bge-large-en]                      # a model of the repository that is not loaded at the start
    load = "lazy"

    [jina-v4]                           # a model of another server
    url = "http://vllm:8000/v1"
    model = "jinaai/jina-embeddings-v4"
    api_key_env = "JINA_API_KEY"

What another server's model can do is not asked but declared: an upstream is asked for nothing else.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator

from conch_gateway.errors import ModelsFileError
from conch_gateway.operators_file import read_operators_file

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Load = Literal["start", "lazy", "demand"]
VectorType = Literal["dense", "late", "sparse"]
_Name = Annotated[str, Field(min_length=1, max_length=256)]


_OF_DENSE = frozenset({"dimension", "matryoshka_dimensions"})
_OF_EMBEDDINGS = _OF_DENSE | {"vector_types", "prompts", "default_prompt_name"}


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


_Kind = TypeVar("_Kind", bound=_Table)


class AliasTable(_Table):
    """Another name of a model of the repository or of an upstream."""

    model: _Name


class LocalTable(_Table):
    """When a model of the repository is loaded: at the start, by its first request, or by an administrator only."""

    load: Load


class UpstreamTable(_Table):
    """A model of another server that speaks OpenAI's `/embeddings`, or Jina's and Cohere's `/rerank`.

    Attributes:
        url: what comes before `/embeddings` and `/rerank`.
        model: its name there.
        api_key_env: variable that holds the key of the server.
        api_key_file: file that holds it.
        task: what the model is for.
        vector_types: which kinds of vectors it gives; late and sparse ones in conch's own shape.
        dimension: length of its dense vectors.
        matryoshka_dimensions: lengths that they may be shortened to; any up to `dimension` where it is not said.
        prompts: texts to put before texts, by name: the server is told nothing of what texts are for. Without, it is.
        default_prompt_name: the prompt where nothing is said of what texts are for.
        extensions: whether the server takes fields that are conch's own or others' than OpenAI's and Cohere's.
        max_length: most tokens of a text.
        max_rows: most texts or documents in one call; longer lists are split.
        calls: most calls under way to it at once.
        timeout_s: how long a request may take, waiting for its turn and further attempts included.
        retries: further attempts of a call after what may pass.
    """

    url: str = Field(pattern=r"^https?://[^\s/]+(/\S*)?$")
    model: _Name
    api_key_env: _Name | None = None
    api_key_file: Path | None = None
    task: Literal["embedding", "rerank"] = "embedding"
    vector_types: tuple[VectorType, ...] = Field(("dense",), min_length=1)
    dimension: int | None = Field(None, ge=1)
    matryoshka_dimensions: tuple[Annotated[int, Field(ge=1)], ...] | None = None
    prompts: dict[_Name, str] | None = None
    default_prompt_name: _Name | None = None
    extensions: bool = True
    max_length: int = Field(8192, ge=1)
    max_rows: int = Field(32, ge=1, le=2048)
    calls: int = Field(8, ge=1)
    timeout_s: float = Field(600.0, gt=0)
    retries: int = Field(2, ge=0, le=10)

    @model_validator(mode="after")
    def _one_key(self) -> UpstreamTable:
        if self.api_key_env and self.api_key_file:
            msg = "give api_key_env or api_key_file, not both"
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _what_fits_its_task(self) -> UpstreamTable:
        unfit = self.model_fields_set & (_OF_EMBEDDINGS if self.task == "rerank" else frozenset())
        if "dense" not in self.vector_types:
            unfit |= self.model_fields_set & _OF_DENSE
        if unfit:
            msg = f"leave out {', '.join(sorted(unfit))}, or say in task and vector_types that it gives such vectors"
            raise ValueError(msg)
        if set(self.vector_types) != {"dense"} and not self.extensions:
            msg = "late and sparse vectors are asked for by vector_type, which is no field of OpenAI's; set extensions"
            raise ValueError(msg)
        if self.default_prompt_name is not None and self.default_prompt_name not in (self.prompts or {}):
            msg = "default_prompt_name is none of prompts"
            raise ValueError(msg)
        return self

    def api_key(self) -> SecretStr | None:
        """Return the key from where the table says it is.

        Raises:
            ModelsFileError: it is not there.
        """
        if self.api_key_env is not None:
            if not os.environ.get(self.api_key_env):
                msg = f"the environment has no {self.api_key_env}, which api_key_env names; set it"
                raise ModelsFileError(msg)
            return SecretStr(os.environ[self.api_key_env])
        if self.api_key_file is not None:
            try:
                return SecretStr(read_operators_file(self.api_key_file).decode().strip())
            except OSError as error:
                msg = f"cannot read api_key_file {self.api_key_file}: {error.strerror}"
                raise ModelsFileError(msg) from error
        return None


@dataclass(frozen=True, slots=True)
class ModelsFile:
    """The checked tables, by public name and kind."""

    aliases: dict[str, AliasTable] = field(default_factory=dict)
    local: dict[str, LocalTable] = field(default_factory=dict)
    upstreams: dict[str, UpstreamTable] = field(default_factory=dict)

    def resolve(self, name: str) -> str:
        """Return the name of the model that this name stands for."""
        return self.aliases[name].model if name in self.aliases else name


def read_models_file(path: Path | None) -> ModelsFile:
    """Read and check the file; without one every name is just a model of the repository.

    Raises:
        ModelsFileError: it cannot be read, or says something that cannot be; the message says where.
    """
    if path is None:
        return ModelsFile()
    try:
        return _sorted_out(tomllib.loads(read_operators_file(path).decode()))
    except OSError as error:
        msg = f"cannot read the models file {path} (CONCH_MODELS_FILE): {error.strerror}"
        raise ModelsFileError(msg) from error
    except ValueError as error:
        msg = f"the models file {path} is wrong: {error}"
        raise ModelsFileError(msg) from error


def _sorted_out(tables: dict[str, Any]) -> ModelsFile:
    found = ModelsFile()
    for name, table in tables.items():
        if not isinstance(table, dict):
            msg = f'{name} stands outside of a table; begin with a public name, as in ["{name}"]'
            raise ValueError(msg)
        if "url" in table:
            found.upstreams[name] = _checked(UpstreamTable, name, table)
        elif "load" in table:
            found.local[name] = _checked(LocalTable, name, table)
        else:
            found.aliases[name] = _checked(AliasTable, name, table)
    for name, alias in found.aliases.items():
        if alias.model in found.aliases:
            msg = f"[{name}] is an alias of an alias; name the model that {alias.model} stands for"
            raise ValueError(msg)
    return found


def _checked(kind: type[_Kind], name: str, table: dict[str, Any]) -> _Kind:
    try:
        return kind.model_validate(table)
    except ValidationError as error:
        told = "; ".join(
            f"{'.'.join(map(str, detail['loc']))}: {detail['msg']}".removeprefix(": ") for detail in error.errors()
        )
        msg = f"[{name}] {told}"
        raise ValueError(msg) from error
