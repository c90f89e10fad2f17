"""What transformers 5 and sentence-transformers 6 save and answer, kept as `saved.json` for `tests.saved_checkpoints`.

In an environment of its own: pip install "sentence-transformers>=6" torchvision && python tests/golden/saved.py
With names of checkpoints behind it, the others stay as they are.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import sentence_transformers
import torch
import transformers
from sentence_transformers import CrossEncoder, SentenceTransformer, SparseEncoder
from sentence_transformers.base.modules import Router, Transformer
from sentence_transformers.cross_encoder.modules import LogitScore
from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask
from sentence_transformers.sentence_transformer.modules import Pooling, StaticEmbedding
from sentence_transformers.sparse_encoder.modules import SparseStaticEmbedding, SpladePooling
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.saved_checkpoints import SAVED, TEXTS, draw, golden, kept, write

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

# Not imported by name: type checkers see the installed version, which does not have them.
MultiVectorEncoder: Any = vars(sentence_transformers)["MultiVectorEncoder"]
Dense: Any = vars(sentence_transformers.base.modules)["Dense"]
Normalize: Any = vars(sentence_transformers.base.modules)["Normalize"]

WIDTH = 16
WORDS = [
    "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[unused0]", "[unused1]", "a", "cat", "sat", "on", "the",
    "mat", "quick", "brown", "fox", "jump", "##s", "over", "lazy", "dog", "yes", "no", "?", ".", ",", "!", "##es",
    "query", ":",
]  # fmt: skip
ROWS = [[2, 7, 8, 9, 10, 3], [2, *np.random.default_rng(0).integers(7, len(WORDS), 40).tolist(), 3]]
SMALL = {"num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24, "vocab_size": len(WORDS)}
SIZES: dict[str, Any] = {"hidden_size": WIDTH, **SMALL, "max_position_embeddings": 64, "initializer_range": 0.2}
ROBERTA = {"pad_token_id": 1, "max_position_embeddings": 66, "type_vocab_size": 1}
DECODER = {"num_key_value_heads": 1, "pad_token_id": 0}
LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 50000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}  # fmt: skip
TOKENS = {f"{kind}_token_id": number for kind, number in {"pad": 0, "bos": 2, "eos": 3, "cls": 2, "sep": 3}.items()}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("Bert", {}),
    "roberta": ("Roberta", ROBERTA),
    "xlm-roberta": ("XLMRoberta", ROBERTA),
    "camembert": ("Camembert", ROBERTA),
    "mpnet": ("MPNet", {"pad_token_id": 1, "max_position_embeddings": 66}),
    "distilbert": ("DistilBert", {"dim": WIDTH, "hidden_dim": 24, "n_layers": 2, "n_heads": 2}),
    "electra": ("Electra", {"embedding_size": 12}),
    "modernbert": ("ModernBert", {"num_hidden_layers": 4, "local_attention": 16, **TOKENS}),
    "qwen2": ("Qwen2", DECODER),
    "qwen3": ("Qwen3", {**DECODER, "head_dim": 8}),
    "llama": ("Llama", {**DECODER, "rope_parameters": LLAMA3}),
    "mistral": ("Mistral", {**DECODER, "sliding_window": 8}),
    "nomic_bert": ("NomicBert", {}),
}


def tokenizer(words: Sequence[str] = WORDS, more: Sequence[str] = ()) -> Any:
    """A small cased-down tokenizer of words and more special tokens, as a fast one of transformers."""
    made = Tokenizer(models.WordPiece({word: number for number, word in enumerate(words)}, unk_token="[UNK]"))
    made.normalizer, made.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = {"unk": 1, "pad": 0, "cls": 2, "sep": 3, "mask": 4}
    special = {f"{name}_token": WORDS[number] for name, number in names.items()}
    kept = {"additional_special_tokens": [*WORDS[5:7], *more]}
    make: Any = transformers.PreTrainedTokenizerFast
    return make(tokenizer_object=made, model_max_length=48, **special, **kept)


def save(folder: Path, kind: str, head: str, **more: Any) -> Path:
    """A model of transformers with its tokenizer, its weights drawn by their names."""
    prefix, own = FAMILIES[kind]
    settings_of = getattr(transformers, f"{prefix}Config")
    usual = {key: size for key, size in SIZES.items() if key in settings_of().to_dict()}
    model = getattr(transformers, f"{prefix}{head}")(settings_of(**{**usual, **own, **more}))
    model.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    draw(folder)
    return folder


@torch.inference_mode()
def family(folder: Path, kind: str) -> dict[str, Any]:
    """Means of token vectors."""
    save(folder, kind, "Model")
    model = transformers.AutoModel.from_pretrained(folder, attn_implementation="eager").eval()
    return {"means": [model(input_ids=torch.tensor([row])).last_hidden_state[0].mean(0).tolist() for row in ROWS]}


def encoder(folder: Path, head: str = "Model", **options: Any) -> Any:
    """A BERT as the first module."""
    return Transformer(str(save(folder.with_name("encoder"), "bert", head)), **options)


def saved(folder: Path, model: Any) -> Any:
    """The model as it is loaded again after it was saved and its weights were drawn."""
    model.save_pretrained(str(folder), create_model_card=False)
    draw(folder)
    return type(model)(str(folder), device="cpu").eval()


def embedding(folder: Path) -> dict[str, Any]:
    """Layers with what comes in added, of the same width and of another; prompts."""
    layers = [Dense(WIDTH, WIDTH, use_residual=True), Dense(WIDTH, 8, activation_function=None, use_residual=True)]
    modules = [encoder(folder), Pooling(WIDTH, "mean"), *layers, Normalize()]
    prompts = {"query": "query: ", "document": ""}
    model = saved(folder, SentenceTransformer(modules=modules, prompts=prompts, similarity_fn_name="dot"))
    return {"query": model.encode_query(TEXTS).tolist(), "document": model.encode_document(TEXTS).tolist()}


def unprompted(folder: Path) -> dict[str, Any]:
    """A pooling that leaves the prompt out."""
    modules = [encoder(folder), Pooling(WIDTH, "mean", include_prompt=False)]
    model = saved(folder, SentenceTransformer(modules=modules, prompts={"query": "query: "}))
    return {"query": model.encode_query(TEXTS).tolist()}


def cross_encoder(folder: Path) -> dict[str, Any]:
    """A sequence classifier."""
    made = CrossEncoder(str(save(folder.with_name("encoder"), "bert", "ForSequenceClassification", num_labels=1)))
    model = saved(folder, made)
    pairs = [(TEXTS[0], text) for text in TEXTS]
    return {"scores": model.predict(pairs, activation_fn=torch.nn.Identity()).tolist()}


def splade(folder: Path) -> dict[str, Any]:
    """A masked language model whose logits are pooled."""
    modules = [encoder(folder, "ForMaskedLM", transformer_task="fill-mask"), SpladePooling("max")]
    model = saved(folder, SparseEncoder(modules=modules))
    return {"document": model.encode(TEXTS, convert_to_sparse_tensor=False).tolist()}


def inference_free(folder: Path) -> dict[str, Any]:
    """The same for documents, and one number a token for queries."""
    documents = encoder(folder, "ForMaskedLM", transformer_task="fill-mask")
    router = Router.for_query_document(
        [SparseStaticEmbedding(documents.tokenizer, frozen=True)],
        [documents, SpladePooling("max", activation_function="log1p_relu")],
    )
    model = saved(folder, SparseEncoder(modules=[router], similarity_fn_name="dot"))
    dense = {"convert_to_sparse_tensor": False}
    return {
        "query": model.encode_query(TEXTS, **dense).tolist(),
        "document": model.encode_document(TEXTS, **dense).tolist(),
    }


def multi_vector(folder: Path) -> dict[str, Any]:
    """Late interaction with markers, query augmentation and a skip list."""
    expansion = {"strategy": "fixed", "attend": False, "length": 10}
    modules = [
        encoder(folder, document_length=20, query_expansion=expansion),
        Dense(WIDTH, 8, bias=False, activation_function=None, module_input_name="token_embeddings"),
        MultiVectorMask(skiplist_words=["?", ",", "nowhere"]),
        Normalize(module_input_name="token_embeddings"),
    ]
    prompts = {"query": "[unused0]", "document": "[unused1]"}
    model = saved(folder, MultiVectorEncoder(modules=modules, prompts=prompts))
    sides = {"query": model.encode_query(TEXTS), "document": model.encode_document(TEXTS)}
    return {side: [vectors.tolist() for vectors in found] for side, found in sides.items()}


def static(folder: Path) -> dict[str, Any]:
    """A table of vectors."""
    modules = [StaticEmbedding(tokenizer(), embedding_dim=8), Normalize()]
    return {"document": saved(folder, SentenceTransformer(modules=modules)).encode(TEXTS).tolist()}


def asymmetric(folder: Path) -> dict[str, Any]:
    """A table for queries, an encoder for documents: one vector for each."""
    documents = encoder(folder)
    queries = StaticEmbedding(tokenizer(), embedding_dim=WIDTH)
    router = Router.for_query_document([queries], [documents, Pooling(WIDTH, "mean")])
    model = saved(folder, SentenceTransformer(modules=[router, Normalize()]))
    return {"query": model.encode_query(TEXTS).tolist(), "document": model.encode_document(TEXTS).tolist()}


def side(folder: Path, name: str) -> dict[str, Any]:
    """One side of that as a model of its own, as docs/families.md says."""
    whole = folder.with_name("whole")
    asymmetric(whole)
    router, *behind = SentenceTransformer(str(whole), device="cpu")
    model = saved(folder, SentenceTransformer(modules=[*router.sub_modules[name], *behind]))
    return {name: model.encode(TEXTS).tolist()}


TALK = """
{%- if messages[0].role != 'system' %}{{ '[unused0] the lazy dog[SEP]' }}{% endif %}
{%- for message in messages %}{{ '[unused0] ' }}
{{- message.content | selectattr('type', '==', "text") | map(attribute='text') | join }}
{{- '[SEP]\\n' }}{% endfor %}
{%- if add_generation_prompt %}{{ '[unused1] a cat :' }}{% endif %}"""
JUDGE = """
{%- for message in messages %}
{{- {'system': '[unused0] ', 'query': '[SEP] query : ', 'document': ' [unused1] '}[message.role] }}
{{- message.content[0].text }}{% endfor %}
{{- '[SEP] yes no ?' }}"""
"""Chat templates: of a text, and of a pair."""


def reads_more(folder: Path, template: str, length: int) -> str:
    """A Qwen3-VL with what prepares images and videos, which nothing here is given."""
    # The library tells what ends a conversation by two texts that end in different numbers.
    seen, words = ["<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>"], [*WORDS, "0", "4"]
    library: Any = transformers
    text: dict[str, Any] = {
        **SIZES,
        **DECODER,
        "head_dim": 8,
        "vocab_size": len(words) + len(seen),
        "max_position_embeddings": length,
    }
    text["rope_parameters"] = {"rope_type": "default", "rope_theta": 5e4, "mrope_section": [2, 1, 1]}
    text["rope_parameters"]["mrope_interleaved"] = True
    vision: dict[str, Any] = {
        "depth": 1,
        "hidden_size": 8,
        "intermediate_size": 8,
        "num_heads": 2,
        "out_hidden_size": WIDTH,
    }
    vision |= {"num_position_embeddings": 16, "patch_size": 4, "deepstack_visual_indexes": [0]}
    numbers = {f"{name[2:-2].removesuffix('_pad')}_token_id": len(words) + index for index, name in enumerate(seen)}
    config = library.Qwen3VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=True, **numbers)
    library.Qwen3VLForConditionalGeneration(config).save_pretrained(folder)
    images, videos = library.Qwen2VLImageProcessor(), library.Qwen3VLVideoProcessor()
    reads = tokenizer(words, seen)
    reads.model_max_length = length
    library.Qwen3VLProcessor(images, reads, videos, chat_template=template).save_pretrained(folder)
    draw(folder)
    return str(folder)


def chat(folder: Path) -> dict[str, Any]:
    """Texts in a conversation, whose last token is their vector."""
    options = {"chat_template": {"add_generation_prompt": True}}
    first = Transformer(reads_more(folder.with_name("encoder"), TALK, 48), processing_kwargs=options)
    modules = [first, Pooling(WIDTH, "lasttoken"), Normalize()]
    model = saved(folder, SentenceTransformer(modules=modules, prompts={"query": "the cat ?"}))
    return {"query": model.encode_query(TEXTS).tolist(), "plain": model.encode(TEXTS).tolist()}


def judge(folder: Path) -> dict[str, Any]:
    """Pairs in a conversation, and the answer to it."""
    first = Transformer(reads_more(folder.with_name("encoder"), JUDGE, 512), transformer_task="any-to-any")
    prompts = {"prompts": {"rank": "on the mat ."}, "default_prompt_name": "rank"}
    scores = LogitScore(WORDS.index("yes"), WORDS.index("no"))
    model = saved(folder, CrossEncoder(modules=[first, scores], activation_fn=torch.nn.Identity(), **prompts))
    pairs = [(TEXTS[0], text) for text in TEXTS[:3]]
    return {"scores": model.predict(pairs).tolist(), "lazy": model.predict(pairs, prompt="lazy dog").tolist()}


BARE = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
PIECES = [(piece, float(-index)) for index, piece in enumerate([*BARE, "▁a", "▁cat", "▁the", "▁", "s", "a", "t", "c"])]
BYTES = {piece: number for number, piece in enumerate([*BARE, "a", "c", "t", "s", "Ġ", "at", "cat", "Ġcat", "Ġa"])}
MERGES = [("a", "t"), ("c", "at"), ("Ġ", "cat"), ("Ġ", "a")]
LLAMA = {piece: number for number, piece in enumerate(["<unk>", "<s>", "</s>", "▁", "a", "c", "t", "at", "▁a"])}
TOKENIZERS: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("BertTokenizer", {"vocab": dict(zip(WORDS, range(len(WORDS)), strict=True)), "do_lower_case": False}),
    "mpnet": ("MPNetTokenizer", {"vocab": dict(zip([*BARE, "[UNK]", *WORDS[7:]], range(40), strict=False))}),
    "xlm-roberta": ("XLMRobertaTokenizer", {"vocab": PIECES}),
    "camembert": ("CamembertTokenizer", {"vocab": PIECES}),
    "roberta": ("RobertaTokenizer", {"vocab": BYTES, "merges": MERGES}),
    "qwen2": ("Qwen2Tokenizer", {"vocab": {**BYTES, "<|endoftext|>": len(BYTES)}, "merges": MERGES}),
    "llama": ("LlamaTokenizer", {"vocab": LLAMA, "merges": [("a", "t"), ("▁", "a")]}),
    "t5": ("T5Tokenizer", {"vocab": [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *PIECES[5:]], "extra_ids": 2}),
    "deberta-v2": ("DebertaV2Tokenizer", {"vocab": [*((word, 0.0) for word in WORDS[:5]), *PIECES[5:]]}),
}
"""Of model types: the class of transformers 5, and a small vocabulary."""


def tokens(folder: Path, kind: str) -> dict[str, Any]:
    """Ids of texts and of a pair by a class of transformers 5, as it is loaded again, and the pair's segments."""
    name, options = TOKENIZERS[kind]
    getattr(transformers, name)(**options).save_pretrained(folder)
    loaded: Any = transformers.AutoTokenizer
    made = loaded.from_pretrained(folder)
    made.save_pretrained(folder)
    pair = made(*TEXTS[:2])
    return {"ids": [made(text)["input_ids"] for text in TEXTS], "pair": pair["input_ids"], "segments": len(pair) == 3}


KINDS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "embedding": embedding,
    "unprompted": unprompted,
    "cross-encoder": cross_encoder,
    "splade": splade,
    "inference-free": inference_free,
    "multi-vector": multi_vector,
    "static": static,
    "asymmetric": asymmetric,
    "asymmetric-query": lambda folder: side(folder, "query"),
    "asymmetric-document": lambda folder: side(folder, "document"),
    "chat": chat,
    "judge": judge,
}


def main() -> None:
    """Write the golden file."""
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    made: dict[str, Callable[[Path], dict[str, Any]]] = {
        **{kind: lambda folder, kind=kind: family(folder, kind) for kind in FAMILIES},  # type: ignore[misc]
        **{f"{kind}-tokenizer": lambda folder, kind=kind: tokens(folder, kind) for kind in TOKENIZERS},  # type: ignore[misc]
        **KINDS,
    }
    names = sys.argv[1:] or made
    others = golden() if sys.argv[1:] else {"contents": [], "checkpoints": {}}
    contents, checkpoints = others["contents"], others["checkpoints"]
    checkpoints |= {name: kept(name, made[name], contents) for name in names}
    versions = {each.__name__: each.__version__ for each in (transformers, sentence_transformers)}
    content = {"versions": versions, "rows": ROWS, "contents": contents, "checkpoints": checkpoints}
    write(SAVED, content)


if __name__ == "__main__":
    main()
