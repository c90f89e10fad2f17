"""Synthetic tokenizers of the true size and kind: `tokenizer.json` with as many tokens, merges and special tokens.

The tokens are words that do not exist, but for those of bert-base-uncased, which all kinds have: loads are made of
them. Merges join a word letter by letter, so every beginning of a word is a token too.
"""

from __future__ import annotations

import json
import shutil
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
from conch_export.sources.finder import resolve
from tokenizers import Tokenizer

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

KINDS = ("bert", "xlm-roberta", "modernbert", "qwen", "gemma")
_BERT_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt")
_SCRIPTS = (
    ("bcdfghklmnprstvz", "aeiou"),
    ("бвгдзклмнпрст", "аеиоу"),
    ("βγδκλμνπρστ", "αεηιο"),
    ("बगदकलमनपरसत", "ािीुे"),
    ("بتجدرسفكلمنه", "اويةى"),
)
"""Consonants and vowels from which words are made, by script."""
_SPACE, _BYTE_SPACE = "▁", "Ġ"
_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def save(kind: str, folder: Path) -> None:
    """Write the tokenizer's files into the folder of a checkpoint."""
    if kind == "bert":
        source = resolve("all-minilm-l6-v2").folder  # bert-base-uncased's
        for name in _BERT_FILES:
            if (source / name).exists():
                shutil.copy(source / name, folder / name)
        return
    content, specials = {"xlm-roberta": _xlm_roberta, "modernbert": _modernbert, "qwen": _qwen, "gemma": _gemma}[kind]()
    (folder / "tokenizer.json").write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_input_names": ["input_ids", "attention_mask"],
        **specials,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")


def load_words() -> list[str]:
    """Words of bert-base-uncased, one token each in every kind, in the order of their ids."""
    tokenizer = Tokenizer.from_file(str(resolve("all-minilm-l6-v2").folder / "tokenizer.json"))
    vocabulary: dict[str, int] = tokenizer.get_vocab(with_added_tokens=False)
    words = [word for word in vocabulary if word.isascii() and word.isalpha() and word.islower() and len(word) > 1]
    return sorted(words, key=vocabulary.__getitem__)


def _words() -> Iterator[str]:
    """The words for loads, then words of syllables of all scripts, without end; the same at every call."""
    yield from load_words()
    random = np.random.default_rng(0)
    while True:
        consonants, vowels = _SCRIPTS[random.integers(len(_SCRIPTS))]
        places = random.integers(2**31, size=(random.integers(1, 5), 2)).tolist()
        yield "".join(consonants[one % len(consonants)] + vowels[other % len(vowels)] for one, other in places)


def _letters() -> list[str]:
    """Return the letters of all scripts, and the printable characters of ASCII."""
    ascii_letters = set(map(chr, range(33, 127)))
    return sorted({letter for script in _SCRIPTS for part in script for letter in part} | ascii_letters)


def _xlm_roberta() -> tuple[dict[str, Any], dict[str, str]]:
    """SentencePiece's unigram model with 250,002 tokens (Conneau et al. 2020)."""
    size, begin = 250_001, ["<s>", "<pad>", "</s>", "<unk>"]
    tokens = _distinct(begin, [_SPACE, *_letters()], _spellings(), size=size)
    scores = [0.0] * len(begin) + [-3 - float(np.log(rank + 1)) for rank in range(size - len(begin))]
    pieces = [[token, score] for token, score in zip(tokens, scores, strict=True)]
    content = _content(
        model={"type": "Unigram", "unk_id": 3, "vocab": pieces, "byte_fallback": False},
        normalizer={"type": "NFKC"},
        pre_tokenizer=_sequence("pretokenizers", {"type": "WhitespaceSplit"}, _metaspace()),
        decoder=_metaspace(),
        added={**{token: number for number, token in enumerate(begin)}, "<mask>": size},
        template=(("<s>", 0), ("</s>", 2)),
    )
    names = ("bos_token", "pad_token", "eos_token", "unk_token")
    specials = dict(zip(names, begin, strict=True)) | {"cls_token": "<s>", "sep_token": "</s>", "mask_token": "<mask>"}
    return content, specials


def _modernbert() -> tuple[dict[str, Any], dict[str, str]]:
    """Byte-level BPE with 50,368 tokens (Warner et al. 2024)."""
    names = {
        "unk_token": "[UNK]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "pad_token": "[PAD]",
        "mask_token": "[MASK]",
    }
    content = _byte_level(50_280, {token: 50_280 + number for number, token in enumerate(names.values())})
    return _framed(content, ("[CLS]", 50_281), ("[SEP]", 50_282)), names


def _qwen() -> tuple[dict[str, Any], dict[str, str]]:
    """Byte-level BPE with 151,643 tokens and 26 special ones (Yang et al. 2025)."""
    end = "<|endoftext|>"
    added = {end: 151_643, **{f"<|special_{number}|>": 151_643 + number for number in range(1, 26)}}
    return _framed(_byte_level(151_643, added), None, (end, 151_643)), {"eos_token": end, "pad_token": end}


def _gemma() -> tuple[dict[str, Any], dict[str, str]]:
    """SentencePiece's BPE with bytes for what it lacks, 262,144 tokens (Gemma Team 2025)."""
    size, begin = 262_144, ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    octets = [f"<0x{number:02X}>" for number in range(256)]
    base = [*begin, *octets, _SPACE, *_letters()]
    vocabulary, merges = _merged(base, (_SPACE + word for word in _words()), size)
    options = {"unk_token": "<unk>", "fuse_unk": True, "byte_fallback": True, "ignore_merges": False}
    content = _content(
        model={"type": "BPE", "vocab": vocabulary, "merges": merges, **options},
        normalizer={"type": "Replace", "pattern": {"String": " "}, "content": _SPACE},
        # The words for loads begin with a space, which the authors' tokenizer does not put before a text.
        pre_tokenizer=_metaspace(),
        decoder=_sequence(
            "decoders",
            {"type": "Replace", "pattern": {"String": _SPACE}, "content": " "},
            {"type": "ByteFallback"},
            {"type": "Fuse"},
        ),
        added={token: number for number, token in enumerate(begin)},
        template=(("<bos>", 2), ("<eos>", 1)),
    )
    names = ("pad_token", "eos_token", "bos_token", "unk_token", "mask_token")
    return content, dict(zip(names, begin, strict=True))


def _byte_level(size: int, added: dict[str, int]) -> dict[str, Any]:
    octets = _octets()

    def spelled(word: str) -> str:
        return "".join(octets[octet] for octet in f" {word}".encode())

    vocabulary, merges = _merged(octets, map(spelled, _words()), size)
    octet_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    split = {"type": "Split", "pattern": {"Regex": _SPLIT}, "behavior": "Isolated", "invert": False}
    return _content(
        model={"type": "BPE", "vocab": vocabulary, "merges": merges, "fuse_unk": False, "byte_fallback": False},
        normalizer={"type": "NFC"},
        pre_tokenizer=_sequence("pretokenizers", split, octet_level),
        decoder=octet_level,
        added=added,
    )


def _octets() -> list[str]:
    """The printable character that stands for each byte in byte-level BPE (Radford et al. 2019)."""
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = iter(range(256, 512))
    return [chr(octet if octet in printable else next(others)) for octet in range(256)]


def _merged(base: Sequence[str], words: Iterable[str], size: int) -> tuple[dict[str, int], list[list[str]]]:
    """A vocabulary of so many tokens, and the merges that make words of it, letter after letter."""
    vocabulary = {token: number for number, token in enumerate(base)}
    merges: list[list[str]] = []
    for word in words:
        for end in range(2, len(word) + 1):
            if word[:end] not in vocabulary:
                if len(vocabulary) == size:
                    return vocabulary, merges
                vocabulary[word[:end]] = len(vocabulary)
                merges.append([word[: end - 1], word[end - 1]])
    raise AssertionError("words have no end")


def _spellings() -> Iterator[str]:
    """Words as they follow a space, and every third one within a word too."""
    for number, word in enumerate(_words()):
        yield _SPACE + word
        if number % 3 == 0:
            yield word


def _distinct(*parts: Iterable[str], size: int) -> list[str]:
    tokens = dict.fromkeys(token for part in parts[:-1] for token in part)
    for token in parts[-1]:
        if len(tokens) == size:
            break
        tokens[token] = None
    return list(islice(tokens, size))


def _content(
    *,
    model: dict[str, Any],
    normalizer: dict[str, Any],
    pre_tokenizer: dict[str, Any],
    decoder: dict[str, Any],
    added: dict[str, int],
    template: tuple[tuple[str, int], tuple[str, int]] | None = None,
) -> dict[str, Any]:
    options = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    content = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": number, "content": token, **options} for token, number in added.items()],
        "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer,
        "post_processor": None,
        "decoder": decoder,
        "model": {"dropout": None, "unk_token": None, **model} if model["type"] == "BPE" else model,
    }
    return _framed(content, *template) if template else content


def _framed(content: dict[str, Any], first: tuple[str, int] | None, last: tuple[str, int]) -> dict[str, Any]:
    """The tokenizer with special tokens around a text, and between two."""

    def token(special: tuple[str, int]) -> dict[str, Any]:
        return {"SpecialToken": {"id": special[0], "type_id": 0}}

    begin, end = [token(first)] if first else [], token(last)
    texts = [{"Sequence": {"id": name, "type_id": 0}} for name in "AB"]
    used = [special for special in (first, last) if special]
    content["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [*begin, texts[0], end],
        "pair": [*begin, texts[0], end, texts[1], end],
        "special_tokens": {name: {"id": name, "ids": [number], "tokens": [name]} for name, number in used},
    }
    return content


def _sequence(name: str, *parts: dict[str, Any]) -> dict[str, Any]:
    return {"type": "Sequence", name: list(parts)}


def _metaspace() -> dict[str, Any]:
    return {"type": "Metaspace", "replacement": _SPACE, "prepend_scheme": "always", "split": True}
