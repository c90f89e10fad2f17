"""The fields that each provider documents, by what becomes of them here: honoured, refused by name, or without effect.

The first value of a field is one that says something else than the endpoint's plain body does.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

Fields = dict[str, Any]


@dataclass(frozen=True)
class Endpoint:
    """One provider's requests to one path.

    Attributes:
        body: the plain request that the others vary.
        honoured: change the answer, or what is asked of the model.
        refused: would change the answer, and are refused by name.
        idle: change no number, here or there.
    """

    provider: str
    path: str
    body: Fields
    honoured: Fields
    refused: Fields = field(default_factory=dict)
    idle: Fields = field(default_factory=dict)

    @property
    def known(self) -> set[str]:
        """All its fields."""
        return self.body.keys() | self.honoured.keys() | self.refused.keys() | self.idle.keys()


_RERANK: Fields = {"model": "overlap", "query": "abcd", "documents": ["xyz", "abc", "a"]}
_INPUT: Fields = {"model": "letters", "input": ["a text of more than its limit"]}
_SCHEDULING: Fields = {"priority": 7, "request_id": "mine", "cache_salt": "salt"}
_CUT_BY_VLLM: Fields = {"truncate_prompt_tokens": -1, "truncation_side": "left"}
_INSTRUCTED: Fields = {"instruction": "Find letters.", "chat_template_kwargs": {"instruct": "Find letters."}}
_NO_SPECIAL_TOKENS: Fields = {"add_special_tokens": False}

ENDPOINTS = [
    Endpoint("OpenAI", "/v1/embeddings", _INPUT, {"encoding_format": "base64", "dimensions": 4}, {}, {"user": "me"}),
    Endpoint(
        "Jina",
        "/v1/embeddings",
        _INPUT,
        {
            "embedding_type": "binary",
            "encoding_type": "int8",
            "task": "retrieval.query",
            "dimensions": 4,
            "normalized": False,
            "truncate": False,
            "late_chunking": True,
        },
        {"return_multivector": True},
    ),
    Endpoint("Jina", "/v1/rerank", _RERANK, {"top_n": 1, "return_documents": False}),
    Endpoint(
        "Voyage",
        "/v1/embeddings",
        _INPUT,
        {
            "input_type": "query",
            "truncation": False,
            "output_dimension": 4,
            "output_dtype": "int8",
            "encoding_format": "base64",
        },
    ),
    Endpoint("Voyage", "/v1/rerank", _RERANK, {"top_k": 1, "truncation": False, "return_documents": True}),
    Endpoint(
        "NIM",
        "/v1/embeddings",
        _INPUT,
        {
            "input_type": "query",
            "truncate": "NONE",
            "embedding_type": "ubinary",
            "dimensions": 4,
            "encoding_format": "base64",
        },
        {"modality": "image"},
        {"user": "me"},
    ),
    Endpoint(
        "NIM",
        "/v1/ranking",
        {"model": "overlap", "query": {"text": "abcd"}, "passages": [{"text": "abc"}]},
        {"truncate": "NONE"},
    ),
    Endpoint(
        "vLLM",
        "/v1/embeddings",
        {**_INPUT, "encoding_format": "base64", **_CUT_BY_VLLM},
        {
            "encoding_format": "float",
            "dimensions": 4,
            "embed_dtype": "float16",
            "endianness": "big",
            "normalize": False,
            "use_activation": False,
            "truncation_side": "right",
        },
        {"messages": [{"role": "user", "content": "a"}], "truncate_prompt_tokens": 3, **_NO_SPECIAL_TOKENS},
        {**_SCHEDULING, "user": "me", "mm_processor_kwargs": {}},
    ),
    Endpoint(
        "vLLM",
        "/pooling",
        {**_INPUT, "encoding_format": "base64", **_CUT_BY_VLLM},
        {
            "encoding_format": "float",
            "dimensions": 4,
            "embed_dtype": "bfloat16",
            "endianness": "big",
            "normalize": False,
            "use_activation": False,
            "task": "token_embed",
            "truncation_side": "right",
        },
        {"truncate_prompt_tokens": 3, **_NO_SPECIAL_TOKENS},
        {**_SCHEDULING, "user": "me"},
    ),
    Endpoint(
        "vLLM",
        "/score",
        {"model": "overlap", "text_1": "abcd", "text_2": ["abc"], **_CUT_BY_VLLM},
        {"use_activation": False, "activation": False, "softmax": False, "truncation_side": "right", **_INSTRUCTED},
        {"truncate_prompt_tokens": 3, **_NO_SPECIAL_TOKENS},
        _SCHEDULING,
    ),
    Endpoint(
        "vLLM",
        "/rerank",
        {**_RERANK, **_CUT_BY_VLLM},
        {
            "top_n": 1,
            "use_activation": False,
            "activation": False,
            "softmax": False,
            "truncation_side": "right",
            **_INSTRUCTED,
        },
        {"truncate_prompt_tokens": 3, **_NO_SPECIAL_TOKENS},
        _SCHEDULING,
    ),
    Endpoint("infinity", "/rerank", _RERANK, {"top_n": 1, "return_documents": False, "raw_scores": True}),
    Endpoint(
        "Cohere 1",
        "/v1/embed",
        {"model": "letters", "texts": ["ab"]},
        {"input_type": "search_query", "embedding_types": ["int8"], "truncate": "NONE"},
        {"images": ["data:image/png;base64,"]},
    ),
    Endpoint(
        "Cohere 2",
        "/v2/embed",
        {"model": "letters", "texts": ["ab"]},
        {
            "input_type": "search_query",
            "embedding_types": ["int8"],
            "truncate": "NONE",
            "output_dimension": 4,
        },
        {"images": ["data:image/png;base64,"], "max_tokens": 1},
        {"priority": 7},
    ),
    Endpoint(
        "Cohere 2",
        "/v2/embed",
        {"model": "letters", "inputs": [{"content": [{"type": "text", "text": "ab"}]}]},
        {"inputs": [{"content": [{"type": "text", "text": "cd"}]}]},
    ),
    Endpoint(
        "Cohere 1",
        "/v1/rerank",
        {**_RERANK, "documents": [{"text": "xyz", "title": "abc"}, {"text": f"ab{'x' * 20}cd", "title": "x"}]},
        {"top_n": 1, "rank_fields": ["title"], "return_documents": False, "max_chunks_per_doc": 5},
    ),
    Endpoint(
        "Cohere 2",
        "/v2/rerank",
        _RERANK,
        {"top_n": 1, "max_tokens_per_doc": 1},
        {"relevant_spans": {"mode": "enabled"}},
        {"priority": 7},
    ),
    Endpoint(
        "TEI",
        "/embed",
        {"inputs": ["ab"], "truncate": True},
        {
            "truncate": False,
            "truncation_direction": "Left",
            "prompt_name": "query",
            "normalize": False,
            "dimensions": 4,
        },
        {"encoding_format": "base64"},
    ),
    Endpoint(
        "TEI",
        "/rerank",
        {"query": "abcd", "texts": ["xyz", "abc"], "truncate": True},
        {"truncate": False, "truncation_direction": "Left", "raw_scores": True, "return_text": True},
    ),
    Endpoint(
        "TEI",
        "/predict",
        {"inputs": ["abcd", "abc"], "truncate": True},
        {"truncate": False, "truncation_direction": "Left", "raw_scores": True},
    ),
    Endpoint("TEI", "/tokenize", {"inputs": ["ab"]}, {"add_special_tokens": False, "prompt_name": "query"}),
    Endpoint("TEI", "/decode", {"ids": [101, 97]}, {"skip_special_tokens": False}),
    Endpoint(
        "Ollama",
        "/api/embed",
        {"model": "letters", "input": ["ab"]},
        {"truncate": False, "dimensions": 4},
        {},
        {"options": {"num_ctx": 8}, "keep_alive": "5m"},
    ),
    Endpoint(
        "Ollama",
        "/api/embeddings",
        {"model": "letters", "prompt": "ab"},
        {"prompt": "cd"},
        {},
        {"options": {"num_ctx": 8}, "keep_alive": "5m"},
    ),
]


def known_to(provider: str, path: str) -> set[str]:
    """All fields of a provider at a path."""
    return set().union(*(one.known for one in ENDPOINTS if (one.provider, one.path) == (provider, path)))
