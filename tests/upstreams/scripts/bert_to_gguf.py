"""Writes a BERT checkpoint with mean pooling as GGUF, in its own float32 tensors: bert_to_gguf.py FOLDER FILE."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import gguf
from safetensors.numpy import load_file

_SPACE = "\u2581"  # how llama.cpp marks the beginning of a word, where BERT marks what continues one
_ARCHITECTURE = gguf.MODEL_ARCH.BERT


def piece(token: str, kind: int) -> str:
    """The token as llama.cpp knows it."""
    if kind == gguf.TokenType.CONTROL:
        return token
    return token.removeprefix("##") if token.startswith("##") else _SPACE + token


def main(folder: Path, file: Path) -> None:
    """Write the file."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    tokenizer = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    special = {token["content"] for token in tokenizer["added_tokens"] if token["special"]}
    vocabulary = sorted(tokenizer["model"]["vocab"], key=tokenizer["model"]["vocab"].__getitem__)
    kinds = [gguf.TokenType.CONTROL if token in special else gguf.TokenType.NORMAL for token in vocabulary]

    writer = gguf.GGUFWriter(file, gguf.MODEL_ARCH_NAMES[_ARCHITECTURE])
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_layer_norm_eps(config["layer_norm_eps"])
    writer.add_causal_attention(False)
    writer.add_pooling_type(gguf.PoolingType.MEAN)
    writer.add_token_type_count(config["type_vocab_size"])
    writer.add_tokenizer_model("bert")
    writer.add_token_list(list(map(piece, vocabulary, kinds)))
    writer.add_token_types(kinds)

    names = gguf.get_tensor_name_map(_ARCHITECTURE, config["num_hidden_layers"])
    for name, tensor in load_file(folder / "model.safetensors").items():
        known = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if known is not None and not name.startswith("pooler"):  # which only tasks of the pre-training use
            writer.add_tensor(known, tensor.astype("float32"))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
