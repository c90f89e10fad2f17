"""Small checkpoints of architectures that transformers 4.57 lacks: tensors and config.json as the Hub has them.

The numbers come from numpy's seeded generator, so that other environments make the very same files
(tests/golden/make.py does, to compute what newer implementations answer).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors.numpy import save_file

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

ADAPTERS = {"jina_v3": "classification"}
"""The adapter that tests take of a kind of checkpoint that has several."""

HIDDEN, INNER, LAYERS, HEADS, VOCABULARY, LENGTH = 48, 96, 2, 4, 30522, 400

NOMIC_BERT: dict[str, Any] = {
    "model_type": "nomic_bert",
    "architectures": ["NomicBertModel"],
    "vocab_size": VOCABULARY,
    "n_embd": HIDDEN,
    "n_inner": INNER,
    "n_layer": LAYERS,
    "n_head": HEADS,
    "n_positions": LENGTH,
    "type_vocab_size": 2,
    "layer_norm_epsilon": 1e-12,
    "activation_function": "swiglu",
    "prenorm": False,
    "parallel_block": False,
    "qkv_proj_bias": False,
    "rotary_emb_base": 1000,
    "rotary_emb_fraction": 1.0,
    "rotary_emb_interleaved": False,
    "rotary_emb_scale_base": None,
    "rotary_scaling_factor": None,
    "use_rms_norm": False,
}
NOMIC_MOE: dict[str, Any] = {
    **NOMIC_BERT,
    "n_layer": 4,
    "type_vocab_size": 1,
    "layer_norm_epsilon": 1e-5,
    "activation_function": "gelu",
    "mlp_fc1_bias": True,
    "mlp_fc2_bias": True,
    "qkv_proj_bias": True,
    "rotary_emb_base": 10000,
    "moe_every_n_layers": 2,
    "moe_top_k": 2,
    "num_experts": 8,
    "moe_normalize_expert_weights": False,
    "num_shared_experts": 0,
    "expert_choice_router": False,
    "ffn_div": 1,
    "pad_token_id": 1,
}
GTE: dict[str, Any] = {
    "model_type": "new",
    "architectures": ["NewModel"],
    "vocab_size": VOCABULARY,
    "hidden_size": HIDDEN,
    "intermediate_size": INNER,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "max_position_embeddings": LENGTH,
    "type_vocab_size": 0,
    "layer_norm_eps": 1e-12,
    "layer_norm_type": "layer_norm",
    "hidden_act": "gelu",
    "position_embedding_type": "rope",
    "rope_theta": 500000,
    "rope_scaling": {"type": "ntk", "factor": 2.0},
    "pack_qkv": True,
    "logn_attention_scale": False,
}
GTE_MULTILINGUAL: dict[str, Any] = GTE | {
    "model_type": "gte",
    "architectures": ["GteForTokenClassification"],
    "auto_map": {"AutoModel": "modeling_gte.GteModel"},
    "id2label": {"0": "LABEL_0"},
    "rope_theta": 20000,
    "type_vocab_size": 1,
}
GTE_RERANKER: dict[str, Any] = GTE_MULTILINGUAL | {
    "model_type": "new",
    "architectures": ["NewForSequenceClassification"],
    "auto_map": {"AutoModel": "Alibaba-NLP/new-impl--modeling.NewModel"},
}
GTE_MASKED: dict[str, Any] = GTE | {
    "architectures": ["NewForMaskedLM"],
    "auto_map": {"AutoModelForMaskedLM": "Alibaba-NLP/new-impl--modeling.NewForMaskedLM"},
    "layer_norm_eps": 1e-3,
}
_LLAMA: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": HIDDEN,
    "intermediate_size": INNER,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "num_key_value_heads": HEADS // 2,
    "head_dim": 16,
    "max_position_embeddings": LENGTH,
    "rms_norm_eps": 1e-5,
    "rope_theta": 250000,
    "hidden_act": "silu",
    "pad_token_id": 0,
    "bos_token_id": 101,
    "eos_token_id": 102,
}
EUROBERT: dict[str, Any] = _LLAMA | {
    "model_type": "eurobert",
    "architectures": ["EuroBertModel"],
    "auto_map": {"AutoModel": "modeling_eurobert.EuroBertModel"},
    "classifier_pooling": "late",
    "clf_pooling": "late",
    "hidden_dropout": 0.0,
    "is_decoder": False,
    "bos_token": "<|begin_of_text|>",
    "eos_token": "<|end_of_text|>",
    "pad_token": "<|end_of_text|>",
    "mask_token": "<|mask|>",
    "mask_token_id": 103,
}
LLAMA_BIDIREC: dict[str, Any] = _LLAMA | {
    "model_type": "llama_bidirec",
    "architectures": ["LlamaBidirectionalModel"],
    "auto_map": {"AutoModel": "llama_bidirectional_model.LlamaBidirectionalModel"},
    "pooling": "avg",
    "temperature": 0.02,
    "rope_scaling": {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    },
}
BOTH_WAYS: dict[str, Any] = _LLAMA | {
    "model_type": "mistral",
    "architectures": ["MistralModel"],
    "is_causal": False,
    "sliding_window": 24,
}
_VISION: dict[str, Any] = {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2}
_TEXT: dict[str, Any] = {key: value for key, value in _LLAMA.items() if not key.endswith("token_id")}
_TOKENS = {
    "image_token_id": 30515,
    "video_token_id": 30516,
    "vision_start_token_id": 30513,
    "vision_end_token_id": 30514,
}
QWEN2_5_VL: dict[str, Any] = {
    "model_type": "qwen2_5_vl",
    "architectures": ["Qwen2_5_VLForConditionalGeneration"],
    **_TOKENS,
    "text_config": {key: value for key, value in _TEXT.items() if key != "head_dim"}
    | {"model_type": "qwen2_5_vl_text", "rope_scaling": {"type": "mrope", "mrope_section": [2, 1, 3]}}
    | {"sliding_window": 64, "use_sliding_window": False, "max_window_layers": 2},
    "vision_config": {**_VISION, "out_hidden_size": HIDDEN, "fullatt_block_indexes": [0], "model_type": "qwen2_5_vl"},
}
QWEN3_VL: dict[str, Any] = {
    "model_type": "qwen3_vl",
    "architectures": ["Qwen3VLForConditionalGeneration"],
    **_TOKENS,
    "text_config": _TEXT
    | {"model_type": "qwen3_vl_text", "attention_bias": False}
    | {"rope_scaling": {"mrope_interleaved": True, "mrope_section": [4, 2, 2], "rope_type": "default"}},
    "vision_config": {**_VISION, "out_hidden_size": HIDDEN, "deepstack_visual_indexes": [0], "model_type": "qwen3_vl"},
}
JINA_BERT: dict[str, Any] = {
    "model_type": "bert",
    "architectures": ["JinaBertForMaskedLM"],
    "vocab_size": VOCABULARY,
    "hidden_size": HIDDEN,
    "intermediate_size": INNER,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 6,
    "max_position_embeddings": LENGTH,
    "type_vocab_size": 2,
    "layer_norm_eps": 1e-12,
    "hidden_act": "gelu",
    "position_embedding_type": "alibi",
    "feed_forward_type": "geglu",
}

_JINA_CODE = "jinaai/xlm-roberta-flash-implementation--{}"
JINA_V3: dict[str, Any] = {
    "model_type": "xlm-roberta",
    "architectures": ["XLMRobertaModel"],
    "auto_map": {
        "AutoConfig": _JINA_CODE.format("configuration_xlm_roberta.XLMRobertaFlashConfig"),
        "AutoModel": _JINA_CODE.format("modeling_lora.XLMRobertaLoRA"),
        "AutoModelForMaskedLM": _JINA_CODE.format("modeling_xlm_roberta.XLMRobertaForMaskedLM"),
    },
    "vocab_size": VOCABULARY,
    "hidden_size": HIDDEN,
    "intermediate_size": INNER,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "max_position_embeddings": LENGTH,
    "type_vocab_size": 1,
    "layer_norm_eps": 1e-5,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "pad_token_id": 1,
    "bos_token_id": 0,
    "eos_token_id": 2,
    "position_embedding_type": "rotary",
    "rotary_emb_base": 20000.0,
    "lora_adaptations": ["retrieval.query", "retrieval.passage", "separation", "classification", "text-matching"],
    "task_instructions": {
        "retrieval.query": "Represent the query for retrieving evidence documents: ",
        "retrieval.passage": "Represent the document for retrieval: ",
        "separation": "",
        "classification": "",
        "text-matching": "",
    },
    "lora_alpha": 1,
    "lora_dropout_p": 0.0,
    "lora_main_params_trainable": False,
    "lora_rank": 4,
    "load_trained_adapters": True,
    "matryoshka_dimensions": [16, 32, HIDDEN],
    "emb_pooler": None,
    "truncate_dim": None,
    "use_cache": True,
    "use_flash_attn": True,
    "use_reentrant": False,
    "torch_dtype": "float32",
}


def save(folder: Path, config: dict[str, Any]) -> None:
    """Write config.json and model.safetensors; the same numbers at every call."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    random = np.random.default_rng(0)
    save_file({name: _numbers(random, name, shape) for name, shape in _shapes(config)}, folder / "model.safetensors")


def _numbers(random: np.random.Generator, name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    around = 1.0 if _is_norm(name) and name.endswith("weight") else 0.0
    return (around + 0.2 * random.standard_normal(shape)).astype(np.float32)


def _is_norm(name: str) -> bool:
    return any(part in name.lower() for part in ("norm", "_ln"))


def _shapes(config: dict[str, Any]) -> list[tuple[str, tuple[int, ...]]]:
    if config.get("lora_adaptations"):
        return _jina_v3(len(config["lora_adaptations"]), config["lora_rank"])
    if "text_config" in config:
        return [(f"model.language_model.{name}", shape) for name, shape in _shapes(config["text_config"])]
    if "num_key_value_heads" in config:
        layers = [shape for index in range(LAYERS) for shape in _llama(config, index)]
        return [("embed_tokens.weight", (VOCABULARY, HIDDEN)), *layers, ("norm.weight", (HIDDEN,))]
    count = config["type_vocab_size"]
    types = [("embeddings.token_type_embeddings.weight", (count, HIDDEN))] if count else []
    embeddings = [("embeddings.word_embeddings.weight", (VOCABULARY, HIDDEN)), *types]
    kinds = {"nomic_bert": (_nomic, "emb_ln"), **dict.fromkeys(("new", "gte"), (_gte, "embeddings.LayerNorm"))}
    layer, norm = kinds.get(config["model_type"], (_jina, "embeddings.LayerNorm"))
    if "num_experts" in config:
        layers = [shape for index in range(config["n_layer"]) for shape in _nomic_moe(index, config["num_experts"])]
        return embeddings + _norm(norm) + layers
    encoder = embeddings + _norm(norm) + [shape for index in range(LAYERS) for shape in layer(index)]
    if config is GTE_RERANKER:
        encoder += _linear("pooler.dense", HIDDEN, HIDDEN)
    prefix = "new." if config is GTE_RERANKER or config is GTE_MASKED else ""
    return [(f"{prefix}{name}", shape) for name, shape in encoder] + _gte_head(config)


def _nomic(index: int) -> list[tuple[str, tuple[int, ...]]]:
    name = f"encoder.layers.{index}"
    return [
        (f"{name}.attn.Wqkv.weight", (3 * HIDDEN, HIDDEN)),
        (f"{name}.attn.out_proj.weight", (HIDDEN, HIDDEN)),
        (f"{name}.mlp.fc11.weight", (INNER, HIDDEN)),
        (f"{name}.mlp.fc12.weight", (INNER, HIDDEN)),
        (f"{name}.mlp.fc2.weight", (HIDDEN, INNER)),
        *_norm(f"{name}.norm1"),
        *_norm(f"{name}.norm2"),
    ]


def _nomic_moe(index: int, experts: int) -> list[tuple[str, tuple[int, ...]]]:
    name = f"encoder.layers.{index}"
    dense = [*_linear(f"{name}.mlp.fc1", HIDDEN, INNER), *_linear(f"{name}.mlp.fc2", INNER, HIDDEN)]
    mixture: list[tuple[str, tuple[int, ...]]] = [
        (f"{name}.mlp.router.layer.weight", (experts, HIDDEN)),
        (f"{name}.mlp.experts.mlp.w1", (experts * INNER, HIDDEN)),
        (f"{name}.mlp.experts.mlp.w2", (experts * INNER, HIDDEN)),
        (f"{name}.mlp.experts.bias", (HIDDEN,)),
    ]
    return [
        *_linear(f"{name}.attn.Wqkv", HIDDEN, 3 * HIDDEN),
        *_linear(f"{name}.attn.out_proj", HIDDEN, HIDDEN),
        *(mixture if index % 2 else dense),
        *_norm(f"{name}.norm1"),
        *_norm(f"{name}.norm2"),
    ]


def _gte_head(config: dict[str, Any]) -> list[tuple[str, tuple[int, ...]]]:
    if config is GTE_MASKED:
        bias = ("lm_head.decoder.bias", (VOCABULARY,))
        return [*_linear("lm_head.dense", HIDDEN, HIDDEN), *_norm("lm_head.norm"), bias]
    return _linear("classifier", HIDDEN, 1) if config is GTE_RERANKER or config is GTE_MULTILINGUAL else []


def _gte(index: int) -> list[tuple[str, tuple[int, ...]]]:
    name = f"encoder.layer.{index}"
    return [
        *_linear(f"{name}.attention.qkv_proj", HIDDEN, 3 * HIDDEN),
        *_linear(f"{name}.attention.o_proj", HIDDEN, HIDDEN),
        (f"{name}.mlp.up_gate_proj.weight", (2 * INNER, HIDDEN)),
        *_linear(f"{name}.mlp.down_proj", INNER, HIDDEN),
        *_norm(f"{name}.attn_ln"),
        *_norm(f"{name}.mlp_ln"),
    ]


def _llama(config: dict[str, Any], index: int) -> list[tuple[str, tuple[int, ...]]]:
    name, width = f"layers.{index}", config.get("head_dim", HIDDEN // HEADS)
    queries, keys = (config[key] * width for key in ("num_attention_heads", "num_key_value_heads"))
    further: list[tuple[str, tuple[int, ...]]] = []
    if config["model_type"] == "qwen2_5_vl_text":
        further = [(f"{name}.self_attn.{part}_proj.bias", (queries if part == "q" else keys,)) for part in "qkv"]
    if config["model_type"] == "qwen3_vl_text":
        further = [(f"{name}.self_attn.{part}_norm.weight", (width,)) for part in "qk"]
    return [
        *further,
        (f"{name}.self_attn.q_proj.weight", (queries, HIDDEN)),
        (f"{name}.self_attn.k_proj.weight", (keys, HIDDEN)),
        (f"{name}.self_attn.v_proj.weight", (keys, HIDDEN)),
        (f"{name}.self_attn.o_proj.weight", (HIDDEN, queries)),
        (f"{name}.mlp.gate_proj.weight", (INNER, HIDDEN)),
        (f"{name}.mlp.up_proj.weight", (INNER, HIDDEN)),
        (f"{name}.mlp.down_proj.weight", (HIDDEN, INNER)),
        (f"{name}.input_layernorm.weight", (HIDDEN,)),
        (f"{name}.post_attention_layernorm.weight", (HIDDEN,)),
    ]


def _jina(index: int) -> list[tuple[str, tuple[int, ...]]]:
    name = f"encoder.layer.{index}"
    return [
        *_linear(f"{name}.attention.self.query", HIDDEN, HIDDEN),
        *_linear(f"{name}.attention.self.key", HIDDEN, HIDDEN),
        *_linear(f"{name}.attention.self.value", HIDDEN, HIDDEN),
        *_linear(f"{name}.attention.output.dense", HIDDEN, HIDDEN),
        *_norm(f"{name}.attention.output.LayerNorm"),
        (f"{name}.mlp.gated_layers.weight", (2 * INNER, HIDDEN)),
        *_linear(f"{name}.mlp.wo", INNER, HIDDEN),
        *_norm(f"{name}.mlp.layernorm"),
    ]


def _jina_v3(tasks: int, rank: int) -> list[tuple[str, tuple[int, ...]]]:
    shapes = {"embeddings.word_embeddings": (VOCABULARY, HIDDEN), "embeddings.token_type_embeddings": (1, HIDDEN)}
    biases: dict[str, tuple[int, ...]] = {}
    norms = ["emb_ln"]
    for name in (f"encoder.layers.{index}" for index in range(LAYERS)):
        linears = {
            f"{name}.mixer.Wqkv": (3 * HIDDEN, HIDDEN),
            f"{name}.mixer.out_proj": (HIDDEN, HIDDEN),
            f"{name}.mlp.fc1": (INNER, HIDDEN),
            f"{name}.mlp.fc2": (HIDDEN, INNER),
        }
        shapes |= linears
        biases |= {linear: shape[:1] for linear, shape in linears.items()}
        norms += [f"{name}.norm1", f"{name}.norm2"]
    tensors = [(f"{name}.bias", shape) for name, shape in biases.items()]
    tensors += [tensor for norm in norms for tensor in _norm(norm)]
    for name, (rows, columns) in shapes.items():
        wide, tall = (tasks, rank, columns), (tasks, rows, rank)
        a, b = (wide, tall) if name in biases else (tall, wide)
        tensors += [
            (f"{name}.parametrizations.weight.original", (rows, columns)),
            (f"{name}.parametrizations.weight.0.lora_A", a),
            (f"{name}.parametrizations.weight.0.lora_B", b),
        ]
    return [(f"roberta.{name}", shape) for name, shape in tensors]


def _linear(name: str, inputs: int, outputs: int) -> list[tuple[str, tuple[int, ...]]]:
    return [(f"{name}.weight", (outputs, inputs)), (f"{name}.bias", (outputs,))]


def _norm(name: str) -> list[tuple[str, tuple[int, ...]]]:
    return [(f"{name}.weight", (HIDDEN,)), (f"{name}.bias", (HIDDEN,))]
