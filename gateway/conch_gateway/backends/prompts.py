"""Chooses the prompt of a request: one table maps every dialect's purpose of a text to the names of prompts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from conch_client import ModelInfo
from conch_contract import PLAIN_PROMPT

from conch_gateway.errors import InvalidValueError
from conch_gateway.jobs import EmbeddingJob, InputType

# Names under which models' authors put a prompt, most usual first: sentence-transformers' own order for queries and
# documents, then nomic's, Jina's and EmbeddingGemma's names.
_QUERY = ("query", "search_query", "retrieval.query", "Retrieval-query")
_DOCUMENT = ("document", "passage", "corpus", "search_document", "retrieval.passage", "Retrieval-document")
_CLUSTERING = ("clustering", "separation", "Clustering")

PROMPT_NAMES: Mapping[InputType, tuple[str, ...]] = {
    "query": _QUERY,
    "document": _DOCUMENT,
    "passage": _DOCUMENT,
    "search_query": _QUERY,
    "search_document": _DOCUMENT,
    "retrieval.query": _QUERY,
    "retrieval.passage": _DOCUMENT,
    "code.query": ("code.query", "code_query", "nl2code_query", *_QUERY),
    "code.passage": ("code.passage", "code_passage", "nl2code_document", *_DOCUMENT),
    "classification": ("classification", "Classification"),
    "clustering": _CLUSTERING,
    "separation": _CLUSTERING,
    "text-matching": ("text-matching", "STS", "sts"),
}
_INSTRUCTED = re.compile(r"(Instruct: ).+(\nQuery: ?)", re.DOTALL)
"""Pattern of a prompt with an instruction, as e5-mistral, Qwen3, GTE-Qwen2 and others have it."""
_OF_QUERIES = {purpose: names for purpose, names in PROMPT_NAMES.items() if set(_QUERY) <= set(names)}
_NAMES_OF_QUERIES = frozenset(name for names in _OF_QUERIES.values() for name in names)
_HAS_A_PURPOSE = frozenset(name for names in PROMPT_NAMES.values() for name in names)


class Prompt(NamedTuple):
    """A prompt as the client takes it: a text, or a name, or neither for the model's default."""

    prompt: str | None
    prompt_name: str | None


def is_query(job: EmbeddingJob) -> bool:
    """Tell whether texts are said to be queries: by the name of a prompt, else by their purpose or an instruction."""
    if job.prompt_name is not None:
        return job.prompt_name in _NAMES_OF_QUERIES
    return job.input_type in _OF_QUERIES if job.input_type is not None else job.instruction is not None


def choose_prompt(
    info: ModelInfo, prompt_name: str | None, input_type: InputType | None, instruction: str | None = None
) -> Prompt:
    """Return the prompt of that name, or else the one that the model has for such input.

    Where its author gave none for such input, the model's default applies, unless that is for another kind of input:
    a passage gets no query's prompt. An instruction takes the place of the one in a prompt for queries.

    Raises:
        InvalidValueError: the model has no prompt of that name, or none with an instruction in it; it names no model,
            which may be known by an alias only.
    """
    if instruction is not None:
        chosen = info.prompt_text(*choose_prompt(info, prompt_name, input_type or "query"))
        place = _INSTRUCTED.fullmatch(chosen)
        if place is None:
            msg = "instruction: the model's prompt for such texts has no instruction in it; leave it out"
            raise InvalidValueError(msg, param="instruction")
        return Prompt(place[1] + instruction + place[2], None)
    if prompt_name is not None and prompt_name not in info.prompts:
        known = ", ".join(sorted(info.prompts)) or "none"
        msg = f"prompt_name: the model has no prompt {prompt_name!r}; it has: {known}"
        raise InvalidValueError(msg, param="prompt_name")
    if prompt_name is not None or input_type is None:
        return Prompt(None, prompt_name)
    name = next((name for name in PROMPT_NAMES[input_type] if name in info.prompts), None)
    if name is None and info.default_prompt_name in _HAS_A_PURPOSE:
        return Prompt(None, PLAIN_PROMPT) if PLAIN_PROMPT in info.prompts else Prompt("", None)
    return Prompt(None, name)
