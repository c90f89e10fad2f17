"""Models of true size as data: configuration, element type and size of files as their authors published them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Peer = Literal["sentence-transformers", "onnxruntime", "openvino", "infinity"]
ALL_PEERS: tuple[Peer, ...] = ("sentence-transformers", "onnxruntime", "openvino", "infinity")
GIB = 1 << 30


@dataclass(frozen=True)
class Shape:
    """A published model, weights aside.

    Attributes:
        model: id on the Hub of the model whose shape it is.
        config: its config.json.
        vocabulary: kind of its tokenizer, see `vocabularies`.
        pooling: as sentence-transformers calls it; "" for a reranker.
        dense: widths of further Dense modules.
        dtype: of its tensors, as safetensors calls it.
        value_deviation: standard deviation of the random weights of attention's values and outputs, 0.02 elsewhere.
            With initial weights everywhere hardly anything of a text reaches its first token: a reranker would score
            every document alike, and rounding alone would order them.
        shard_bytes: most bytes of one of its files.
        longest: tokens of the longest text that is measured.
        peers: what can run it from its files alone.
        why_not: why others cannot.
        minutes: about how long all measurements of it take on two cores.
        is_served: whether it is exported and served, or only planned for and exported.
    """

    model: str
    config: dict[str, Any]
    vocabulary: str
    pooling: str = "mean"
    dense: tuple[int, ...] = ()
    dtype: Literal["F32", "F16", "BF16"] = "F32"
    value_deviation: float = 0.02
    shard_bytes: int = 5 * GIB
    longest: int = 512
    peers: tuple[Peer, ...] = ALL_PEERS
    why_not: str = ""
    minutes: int = 8
    is_served: bool = True

    @property
    def is_reranker(self) -> bool:
        """Whether it scores pairs."""
        return not self.pooling


def _bert(**config: Any) -> dict[str, Any]:
    return {"model_type": "bert", "architectures": ["BertModel"], "hidden_act": "gelu", "type_vocab_size": 2, **config}


def _xlm_roberta(layers: int, hidden: int, architecture: str, positions: int = 514, **config: Any) -> dict[str, Any]:
    return {
        "model_type": "xlm-roberta",
        "architectures": [architecture],
        "vocab_size": 250002,
        "hidden_size": hidden,
        "intermediate_size": 4 * hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": hidden // 64,
        "max_position_embeddings": positions,
        "type_vocab_size": 1,
        "layer_norm_eps": 1e-5,
        "pad_token_id": 1,
        "bos_token_id": 0,
        "eos_token_id": 2,
        "hidden_act": "gelu",
        **config,
    }


def _qwen3(*, layers: int, hidden: int, heads: int, inner: int, positions: int) -> dict[str, Any]:
    return {
        "model_type": "qwen3",
        "architectures": ["Qwen3ForCausalLM"],
        "vocab_size": 151669,
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "max_position_embeddings": positions,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1000000,
        "hidden_act": "silu",
        "attention_bias": False,
        "tie_word_embeddings": True,
    }


_OWN_CODE = "only the code of its authors on the Hub runs it there"
_NEITHER = "neither optimum's O2 nor infinity knows the architecture"

SHAPES: dict[str, Shape] = {
    "e5-base": Shape(
        "intfloat/e5-base-v2",
        _bert(
            vocab_size=30522,
            hidden_size=768,
            intermediate_size=3072,
            num_hidden_layers=12,
            num_attention_heads=12,
            max_position_embeddings=512,
            layer_norm_eps=1e-12,
        ),
        "bert",
    ),
    "bge-reranker-base": Shape(
        "BAAI/bge-reranker-base",
        _xlm_roberta(
            12, 768, "XLMRobertaForSequenceClassification", id2label={"0": "LABEL_0"}, label2id={"LABEL_0": 0}
        ),
        "xlm-roberta",
        pooling="",
        value_deviation=0.1,
        peers=("sentence-transformers", "onnxruntime"),
        why_not="measured with embedding models only",
    ),
    "nomic": Shape(
        "nomic-ai/nomic-embed-text-v1.5",
        {
            "model_type": "nomic_bert",
            "architectures": ["NomicBertModel"],
            "vocab_size": 30528,
            "n_embd": 768,
            "n_inner": 3072,
            "n_layer": 12,
            "n_head": 12,
            "n_positions": 8192,
            "type_vocab_size": 2,
            "layer_norm_epsilon": 1e-12,
            "activation_function": "swiglu",
            "prenorm": False,
            "parallel_block": False,
            "qkv_proj_bias": False,
            "mlp_fc1_bias": False,
            "mlp_fc2_bias": False,
            "rotary_emb_base": 1000,
            "rotary_emb_fraction": 1.0,
            "rotary_emb_interleaved": False,
            "rotary_emb_scale_base": None,
            "rotary_scaling_factor": None,
            "use_rms_norm": False,
        },
        "bert",
        longest=8192,
        peers=(),
        why_not=_OWN_CODE,
    ),
    "jina-small": Shape(
        "jinaai/jina-embeddings-v2-small-en",
        _bert(
            architectures=["JinaBertForMaskedLM"],
            vocab_size=30528,
            hidden_size=512,
            intermediate_size=2048,
            num_hidden_layers=4,
            num_attention_heads=8,
            max_position_embeddings=8192,
            layer_norm_eps=1e-12,
            position_embedding_type="alibi",
            feed_forward_type="geglu",
        ),
        "bert",
        dtype="F16",
        longest=8192,
        peers=(),
        why_not=_OWN_CODE,
        minutes=4,
    ),
    "gte-modernbert": Shape(
        "Alibaba-NLP/gte-modernbert-base",
        {
            "model_type": "modernbert",
            "architectures": ["ModernBertModel"],
            "vocab_size": 50368,
            "hidden_size": 768,
            "intermediate_size": 1152,
            "num_hidden_layers": 22,
            "num_attention_heads": 12,
            "max_position_embeddings": 8192,
            "global_attn_every_n_layers": 3,
            "local_attention": 128,
            "global_rope_theta": 160000.0,
            "local_rope_theta": 10000.0,
            "norm_eps": 1e-5,
            "hidden_activation": "gelu",
            "bos_token_id": 50281,
            "cls_token_id": 50281,
            "eos_token_id": 50282,
            "sep_token_id": 50282,
            "pad_token_id": 50283,
        },
        "modernbert",
        pooling="cls",
        dtype="F16",
        longest=8192,
        peers=("sentence-transformers", "openvino"),
        why_not=_NEITHER,
        minutes=12,
    ),
    "embeddinggemma": Shape(
        "google/embeddinggemma-300m",
        {
            "model_type": "gemma3_text",
            "architectures": ["Gemma3TextModel"],
            "vocab_size": 262144,
            "hidden_size": 768,
            "intermediate_size": 1152,
            "num_hidden_layers": 24,
            "num_attention_heads": 3,
            "num_key_value_heads": 1,
            "head_dim": 256,
            "max_position_embeddings": 2048,
            "sliding_window": 512,
            "layer_types": (["sliding_attention"] * 5 + ["full_attention"]) * 4,
            "query_pre_attn_scalar": 256,
            "rms_norm_eps": 1e-6,
            "rope_theta": 1000000.0,
            "rope_local_base_freq": 10000.0,
            "hidden_activation": "gelu_pytorch_tanh",
            "use_bidirectional_attention": True,
            "attention_bias": False,
        },
        "gemma",
        dense=(3072, 768),
        longest=2048,
        peers=("sentence-transformers",),
        why_not=_NEITHER,
    ),
    "multilingual-e5-large": Shape(
        "intfloat/multilingual-e5-large", _xlm_roberta(24, 1024, "XLMRobertaModel"), "xlm-roberta", minutes=20
    ),
    "bge-m3": Shape(
        "BAAI/bge-m3",
        _xlm_roberta(24, 1024, "XLMRobertaModel", positions=8194),
        "xlm-roberta",
        pooling="cls",
        longest=8192,
        minutes=25,
    ),
    "qwen3-0.6b": Shape(
        "Qwen/Qwen3-Embedding-0.6B",
        _qwen3(layers=28, hidden=1024, heads=16, inner=3072, positions=32768),
        "qwen",
        pooling="lasttoken",
        dtype="BF16",
        longest=2048,
        peers=("sentence-transformers",),
        why_not=_NEITHER,
        minutes=20,
    ),
    "qwen3-4b": Shape(
        "Qwen/Qwen3-Embedding-4B",
        _qwen3(layers=36, hidden=2560, heads=32, inner=9728, positions=40960),
        "qwen",
        pooling="lasttoken",
        dtype="BF16",
        peers=(),
        why_not="only planned for and exported",
        minutes=15,
        is_served=False,
    ),
}
