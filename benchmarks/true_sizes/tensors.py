"""Names and shapes of a checkpoint's tensors: transformers' own, or those that authors of other code published."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Shapes = dict[str, tuple[int, ...]]


def tensor_shapes(config: Mapping[str, Any]) -> Shapes:
    """The tensors of the architecture that config.json names."""
    if config["model_type"] == "nomic_bert":
        return dict(_nomic(config))
    if config.get("position_embedding_type") == "alibi":
        return dict(_jina(config))
    return _in_transformers(config)


def _in_transformers(config: Mapping[str, Any]) -> Shapes:
    import torch  # noqa: PLC0415 - loads in seconds, and needed only while a checkpoint is made
    from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification  # noqa: PLC0415

    values = dict(config)
    scores = str(config["architectures"][0]).endswith("ForSequenceClassification")
    kind: Any = AutoModelForSequenceClassification if scores else AutoModel
    with torch.device("meta"):
        model = kind.from_config(AutoConfig.for_model(values.pop("model_type"), **values))
    return {name: tuple(tensor.shape) for name, tensor in model.named_parameters()}


def _nomic(config: Mapping[str, Any]) -> Iterator[tuple[str, tuple[int, ...]]]:
    hidden, inner = config["n_embd"], config["n_inner"]
    yield "embeddings.word_embeddings.weight", (config["vocab_size"], hidden)
    yield "embeddings.token_type_embeddings.weight", (config["type_vocab_size"], hidden)
    yield from _norm("emb_ln", hidden)
    for index in range(config["n_layer"]):
        name = f"encoder.layers.{index}"
        yield f"{name}.attn.Wqkv.weight", (3 * hidden, hidden)
        yield f"{name}.attn.out_proj.weight", (hidden, hidden)
        yield f"{name}.mlp.fc11.weight", (inner, hidden)
        yield f"{name}.mlp.fc12.weight", (inner, hidden)
        yield f"{name}.mlp.fc2.weight", (hidden, inner)
        yield from _norm(f"{name}.norm1", hidden)
        yield from _norm(f"{name}.norm2", hidden)


def _jina(config: Mapping[str, Any]) -> Iterator[tuple[str, tuple[int, ...]]]:
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    yield "embeddings.word_embeddings.weight", (config["vocab_size"], hidden)
    yield "embeddings.token_type_embeddings.weight", (config["type_vocab_size"], hidden)
    yield from _norm("embeddings.LayerNorm", hidden)
    for index in range(config["num_hidden_layers"]):
        name = f"encoder.layer.{index}"
        for part in ("self.query", "self.key", "self.value", "output.dense"):
            yield from _linear(f"{name}.attention.{part}", hidden, hidden)
        yield from _norm(f"{name}.attention.output.LayerNorm", hidden)
        yield f"{name}.mlp.gated_layers.weight", (2 * inner, hidden)
        yield from _linear(f"{name}.mlp.wo", inner, hidden)
        yield from _norm(f"{name}.mlp.layernorm", hidden)


def _linear(name: str, inputs: int, outputs: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{name}.weight", (outputs, inputs)
    yield f"{name}.bias", (outputs,)


def _norm(name: str, width: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{name}.weight", (width,)
    yield f"{name}.bias", (width,)
