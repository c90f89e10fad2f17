"""Tokens and scores of mxbai-rerank-v2's own package, kept as `mxbai.json`.

In an environment of its own: pip install mxbai-rerank "transformers<5" && python tests/golden/mxbai.py
"""

from __future__ import annotations

import importlib
import importlib.metadata
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import transformers
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.saved_checkpoints import MXBAI, TEXTS, draw, kept, write

if TYPE_CHECKING:
    from collections.abc import Sequence

# Not imported by name: the environment of the type checker does not have the package.
MxbaiRerankV2: Any = importlib.import_module("mxbai_rerank").MxbaiRerankV2
QUERIES = ("where did the cat sit?", "  two\n\nlines of  it\n", "größer: 1 + 1")
_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""Where Qwen2's tokenizer parts a text."""


def tokenizer(texts: Sequence[str]) -> Any:
    """Qwen2's, with few tokens."""
    made = Tokenizer(models.BPE())
    made.normalizer = normalizers.NFC()
    parts = [pre_tokenizers.Split(Regex(_SPLIT), "isolated"), pre_tokenizers.ByteLevel(False, False, False)]
    made.pre_tokenizer, made.decoder = pre_tokenizers.Sequence(parts), decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    letters = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(
        texts,
        trainers.BpeTrainer(vocab_size=420, special_tokens=special, initial_alphabet=letters, show_progress=False),
    )
    names = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
    make: Any = transformers.PreTrainedTokenizerFast
    return make(tokenizer_object=made, model_max_length=2048, **names)


def reranker(folder: Path) -> dict[str, Any]:
    """A small Qwen2."""
    words = [MxbaiRerankV2.task_prompt, *MxbaiRerankV2.chat_template.values(), *TEXTS, *QUERIES]
    reads = tokenizer(words)
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    library: Any = transformers
    config = library.Qwen2Config(
        **sizes, num_key_value_heads=1, vocab_size=len(reads), max_position_embeddings=2048, tie_word_embeddings=True
    )
    library.Qwen2ForCausalLM(config).save_pretrained(folder)
    reads.save_pretrained(folder)
    draw(folder)
    model = MxbaiRerankV2(str(folder), device="cpu", torch_dtype=torch.float32)
    pairs = [(query, text) for query in QUERIES for text in TEXTS]
    rows = [model.prepare_inputs([query], [text]) for query, text in pairs]
    ids = [row["input_ids"][row["attention_mask"] > 0].tolist() for row in rows]
    return {"pairs": pairs, "ids": ids, "scores": [float(model.predict([one], [other])[0]) for one, other in pairs]}


def main() -> None:
    """Write the golden file."""
    contents: list[str] = []
    checkpoints = {"mxbai": kept("mxbai", reranker, contents)}
    versions = {name: importlib.metadata.version(name) for name in ("mxbai-rerank", "transformers")}
    write(MXBAI, {"versions": versions, "contents": contents, "checkpoints": checkpoints})


if __name__ == "__main__":
    main()
