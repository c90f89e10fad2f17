"""The table of an upstream in the models file: its address, and what its model can do. The upstream is not asked."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path
from typing import Annotated, Literal

import httpx
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, model_validator

from conch_gateway.errors import ModelsFileError
from conch_gateway.operators_file import read_operators_file
from conch_gateway.settings import header_secret

VectorType = Literal["dense", "late", "sparse"]


def _url(url: str) -> str:
    with contextlib.suppress(httpx.InvalidURL):
        port = httpx.URL(url).port
        if re.fullmatch(r"https?://[^\s/?#]+(/[^\s?#]*)?", url) and (port is None or 0 < port < 2**16):
            return url
    raise ValueError("must be an address such as http://HOST:PORT/v1")


def _some(urls: tuple[str, ...]) -> tuple[str, ...]:
    if not urls:
        raise ValueError("must name at least one server, such as http://HOST:PORT/v1")
    return urls


Url = Annotated[str, AfterValidator(_url)]
Urls = Annotated[
    tuple[Url, ...],
    BeforeValidator(lambda given: (given,) if isinstance(given, str) else given),
    AfterValidator(_some),
]
Name = Annotated[str, Field(min_length=1, max_length=256)]

_OF_DENSE = frozenset({"dimension", "matryoshka_dimensions"})
_OF_EMBEDDINGS = _OF_DENSE | {"vector_types", "prompts", "default_prompt_name"}


class UpstreamTable(BaseModel):
    """A model of a server that speaks OpenAI's `/embeddings`, or Jina's and Cohere's `/rerank`.

    Attributes:
        url: what comes before `/embeddings` and `/rerank`; several, if several servers have the model.
        model: its name there.
        api_key_env: variable that holds the key of the server.
        api_key_file: file that holds it.
        task: what the model is for.
        vector_types: which kinds of vectors it gives; late and sparse ones in conch's own shape.
        dimension: length of its dense vectors.
        matryoshka_dimensions: lengths that they may be shortened to; any up to `dimension` where it is not said.
        prompts: texts to put before texts, by name. With them the gateway adds the prompt and does not send
            `input_type` and `prompt_name`; without them it sends these.
        default_prompt_name: the prompt of texts whose purpose the request does not state.
        extensions: whether the server takes other fields than OpenAI's and Cohere's.
        max_length: most tokens of a text.
        max_rows: most texts or documents in one call; longer lists are split.
        calls: most calls under way to each server at once.
        timeout_s: how long a request may take, waiting for its slot and further attempts included; a call of one in the
            background, attempts included.
        retries: further attempts of a call after a failure that may be temporary.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    url: Urls
    model: Name
    api_key_env: Name | None = None
    api_key_file: Path | None = None
    task: Literal["embedding", "rerank"] = "embedding"
    vector_types: tuple[VectorType, ...] = Field(("dense",), min_length=1)
    dimension: int | None = Field(None, ge=1)
    matryoshka_dimensions: tuple[Annotated[int, Field(ge=1)], ...] | None = None
    prompts: dict[Name, str] | None = None
    default_prompt_name: Name | None = None
    extensions: bool = True
    max_length: int = Field(8192, ge=1)
    max_rows: int = Field(32, ge=1, le=2048)
    calls: int = Field(8, ge=1)
    timeout_s: float = Field(600.0, gt=0)
    retries: int = Field(2, ge=0, le=10)

    @model_validator(mode="after")
    def _is_consistent(self) -> UpstreamTable:
        if self.api_key_env and self.api_key_file:
            raise ValueError("give api_key_env or api_key_file, not both")
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
            raise ValueError("default_prompt_name is none of prompts; name one of them, or add it")
        return self

    def api_key(self) -> SecretStr | None:
        """Return the key from where the table says it is; raises ModelsFileError where there is none."""
        if self.api_key_env is None and self.api_key_file is None:
            return None
        try:
            return SecretStr(header_secret(self._stated_key()))
        except ValueError as error:
            place = self.api_key_file or f"the variable {self.api_key_env}"
            raise ModelsFileError(f"the key in {place}, which the models file names, {error}") from error

    def _stated_key(self) -> str:
        if self.api_key_file is not None:
            return _read(self.api_key_file)
        key = os.environ.get(self.api_key_env or "")
        if not key:
            raise ModelsFileError(f"the environment has no {self.api_key_env}, which api_key_env names; set it")
        return key


def _read(path: Path) -> str:
    try:
        return read_operators_file(path).decode()
    except OSError as error:
        msg = f"cannot read api_key_file {path}: {error.strerror}; name a file that the gateway can read"
        raise ModelsFileError(msg) from error
    except UnicodeDecodeError as error:
        msg = f"api_key_file {path} is not in UTF-8; write the key alone into it"
        raise ModelsFileError(msg) from error
