"""Architectures whose code is on the Hub, written down once more, from papers and tensors' names.

They share no code with the export: not the reading of a checkpoint, nor the computation.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file
from torch.nn import functional

if TYPE_CHECKING:
    from pathlib import Path


class SecondWriting:
    """From the ids of one text to FP32 [tokens, hidden]."""

    def __init__(self, folder: Path) -> None:
        self._config: dict[str, Any] = json.loads((folder / "config.json").read_text())
        self._weights = load_file(folder / "model.safetensors")

    def _at(self, name: str) -> torch.Tensor:
        return self._weights[name]

    def _linear(self, name: str, x: torch.Tensor) -> torch.Tensor:
        bias = self._at(f"{name}.bias") if f"{name}.bias" in self._weights else None
        return functional.linear(x, self._at(f"{name}.weight"), bias)

    def _norm(self, name: str, x: torch.Tensor, epsilon: float = 1e-12) -> torch.Tensor:
        parts = self._at(f"{name}.weight"), self._at(f"{name}.bias")
        return functional.layer_norm(x, x.shape[-1:], *parts, eps=epsilon)

    def __call__(self, ids: list[int]) -> torch.Tensor:
        """The vectors of the text's tokens."""
        raise NotImplementedError


def attended(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, bias: Any = 0.0) -> torch.Tensor:
    """FP32 [heads, tokens, width] each to [tokens, heads * width]."""
    weights = torch.softmax(query @ key.transpose(1, 2) / query.shape[-1] ** 0.5 + bias, dim=-1)
    return (weights @ value).transpose(0, 1).reshape(query.shape[1], -1)


def turned(x: torch.Tensor, base: float) -> torch.Tensor:
    """Pairs of numbers, of which the halves of a head have one each, as complex numbers turned by position."""
    width = x.shape[-1]
    angles = torch.arange(x.shape[1])[:, None] * base ** (-torch.arange(0, width, 2) / width)
    pairs = torch.complex(x[..., : width // 2], x[..., width // 2 :]) * torch.polar(torch.ones_like(angles), angles)
    return torch.cat((pairs.real, pairs.imag), dim=-1)


class JinaBert(SecondWriting):
    """jina-embeddings-v2."""

    def __call__(self, ids: list[int]) -> torch.Tensor:
        """The vectors of the text's tokens."""
        words, types = (
            self._at("embeddings.word_embeddings.weight"),
            self._at("embeddings.token_type_embeddings.weight"),
        )
        x = self._norm("embeddings.LayerNorm", words[torch.tensor(ids)] + types[0])
        heads = self._config["num_attention_heads"]
        places = torch.arange(len(ids))
        # Six heads: the slopes of four, then every second of those of eight.
        slopes = torch.tensor([2**-2, 2**-4, 2**-6, 2**-8, 2**-1, 2**-3])[:, None, None]
        bias = -slopes * (places[None, :] - places[:, None]).abs()
        for index in range(self._config["num_hidden_layers"]):
            name = f"encoder.layer.{index}"
            query, key, value = (
                self._linear(f"{name}.attention.self.{part}", x).view(len(ids), heads, -1).transpose(0, 1)
                for part in ("query", "key", "value")
            )
            output = self._linear(f"{name}.attention.output.dense", attended(query, key, value, bias))
            x = self._norm(f"{name}.attention.output.LayerNorm", x + output)
            gated, up = self._linear(f"{name}.mlp.gated_layers", x).chunk(2, dim=-1)
            x = self._norm(f"{name}.mlp.layernorm", x + self._linear(f"{name}.mlp.wo", functional.gelu(gated) * up))
        return x


class NomicMoe(SecondWriting):
    """nomic-embed-text-v2-moe: each token by itself through the two experts that its router likes most."""

    def __call__(self, ids: list[int]) -> torch.Tensor:
        """The vectors of the text's tokens."""
        words, types = (
            self._at("embeddings.word_embeddings.weight"),
            self._at("embeddings.token_type_embeddings.weight"),
        )
        x = self._norm("emb_ln", words[torch.tensor(ids)] + types[0], 1e-5)
        for index in range(self._config["n_layer"]):
            name = f"encoder.layers.{index}"
            joined = self._linear(f"{name}.attn.Wqkv", x).view(len(ids), 3, self._config["n_head"], -1)
            query, key, value = joined.permute(1, 2, 0, 3)
            context = attended(turned(query, 10000.0), turned(key, 10000.0), value)
            x = self._norm(f"{name}.norm1", x + self._linear(f"{name}.attn.out_proj", context), 1e-5)
            x = self._norm(f"{name}.norm2", x + self._fed_forward(f"{name}.mlp", x), 1e-5)
        return x

    def _fed_forward(self, name: str, x: torch.Tensor) -> torch.Tensor:
        if f"{name}.fc1.weight" in self._weights:
            return self._linear(f"{name}.fc2", functional.gelu(self._linear(f"{name}.fc1", x)))
        hidden = x.shape[1]
        up, down = (self._at(f"{name}.experts.mlp.{part}").view(8, -1, hidden) for part in ("w1", "w2"))
        shares = torch.softmax(self._linear(f"{name}.router.layer", x), dim=-1)
        rows = []
        for token, share in zip(x, shares, strict=True):
            best = torch.argsort(share, descending=True)[:2].tolist()
            rows.append(sum(share[e] * (functional.gelu(up[e] @ token) @ down[e]) for e in best))
        return torch.stack(rows) + self._at(f"{name}.experts.bias")
