"""Of a long text no more is tokenised than is kept, and its tokens are those of the whole text."""

from __future__ import annotations

import random
import time
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest
from conch_client import InvalidInputError
from conch_client._tokenization.long_texts import WHOLE
from conch_client._tokenization.tokenizer import TextTokenizer
from conch_client._transport.deadline import Deadline
from conch_contract import FramedPair, longest_first
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from tests.steps import finish

if TYPE_CHECKING:
    from collections.abc import Callable

    from conch_contract import Truncate

LLAMA = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
NUMBERS_FROM_THE_END = r"\p{N}{1,3}(?=(?:\p{N}{3})*(?:\P{N}|$))| ?\p{L}+| ?[^\s\p{L}\p{N}]+|\s+"
WORDS = [
    *("the", "a", "reverse", "list", "It's", "they'll", "e-mail", "größer", "naïve", "straße", "ΣΑΣ", "x" * 120, "İ"),
    *(
        "日本語の文章",
        "漢字",
        "。",
        "!?",
        "...",
        "_",
        "__init__",
        "1234567",
        "3.14",
        "½",
        "e\u0301\u0323\u0301",
        "\u200d",
    ),
    *(
        "🐚",
        "👩‍👩‍👧",
        "<mask>",
        "[MASK]",
        "▁",
        "▁▁",
        "\x00",
        "\u00a0",
        "foo.bar(baz)",
        "http://a.b/c?d=e&f=g",
        "don\u2019t",
    ),
]
GAPS = ["", " ", " ", " ", " ", "  ", "\n", "\n\n", "\t", " " * 40, " \n ", ", ", ". ", "\r\n"]


def corpus() -> list[str]:
    chance = random.Random(7)  # noqa: S311 - of tests
    return [mixed(chance, 400) for _ in range(60)]


def mixed(chance: random.Random, length: int) -> str:
    """Words of many kinds, gaps of many kinds, and now and then a long run of one character."""
    text = ""
    while len(text) < length:
        if chance.random() < 0.02:
            text += chance.choice("a!1 \n漢\u0301'") * chance.choice([30, 300])
        text += chance.choice(WORDS) + chance.choice(GAPS)
    return text[:length]


def trained(model: Any, trainer: Any, pre_tokenizer: Any, normalizer: Any = None) -> Tokenizer:
    tokenizer = Tokenizer(model)
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    if pre_tokenizer is not None:
        tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.train_from_iterator(corpus(), trainer)
    tokenizer.add_special_tokens([AddedToken("<mask>", lstrip=True, rstrip=True), AddedToken("[MASK]")])
    names = ["<s>", "</s>"]
    tokenizer.add_special_tokens(names)
    first, last = (int(tokenizer.token_to_id(name) or 0) for name in names)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> $B:1 </s>:1", special_tokens=[("<s>", first), ("</s>", last)]
    )
    return tokenizer


def byte_level(pattern: str | None) -> Tokenizer:
    splits: list[Any] = [] if pattern is None else [pre_tokenizers.Split(Regex(pattern), "isolated")]
    splits.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=pattern is None))
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=700, initial_alphabet=alphabet, show_progress=False)
    return trained(models.BPE(), trainer, pre_tokenizers.Sequence(splits), normalizers.NFC())


def unigram(*splits: Any) -> Tokenizer:
    trainer = trainers.UnigramTrainer(vocab_size=500, unk_token="<unk>", special_tokens=["<unk>"], show_progress=False)
    clean = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")])
    return trained(models.Unigram(), trainer, pre_tokenizers.Sequence(list(splits)), clean)


def as_gemma() -> Tokenizer:
    """BPE over the whole text: spaces are replaced, and nothing splits it."""
    trainer = trainers.BpeTrainer(vocab_size=600, special_tokens=["<unk>"], show_progress=False)
    split = pre_tokenizers.Metaspace(prepend_scheme="never")
    learnt = trained(models.BPE(unk_token="<unk>", fuse_unk=True), trainer, split, normalizers.Replace(" ", "▁"))
    learnt.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    return learnt


KINDS: dict[str, Callable[[], Tokenizer]] = {
    "wordpiece": lambda: trained(
        models.WordPiece(unk_token="[UNK]", max_input_chars_per_word=100),
        trainers.WordPieceTrainer(vocab_size=500, special_tokens=["[UNK]"], show_progress=False),
        pre_tokenizers.BertPreTokenizer(),
        normalizers.BertNormalizer(),
    ),
    "byte-level": lambda: byte_level(None),
    "byte-level of llama": lambda: byte_level(LLAMA),
    "byte-level with numbers from the end": lambda: byte_level(NUMBERS_FROM_THE_END),
    "unigram": lambda: unigram(pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()),
    "unigram of spaces": lambda: unigram(pre_tokenizers.Metaspace()),
    "unigram without splits": lambda: unigram(pre_tokenizers.Metaspace(split=False)),
    "bpe without splits": as_gemma,
    "digits and punctuation": lambda: trained(
        models.WordPiece(unk_token="[UNK]"),
        trainers.WordPieceTrainer(vocab_size=500, special_tokens=["[UNK]"], show_progress=False),
        pre_tokenizers.Sequence(
            [pre_tokenizers.Whitespace(), pre_tokenizers.Digits(True), pre_tokenizers.Punctuation()]
        ),
        normalizers.Sequence(
            [normalizers.NFD(), normalizers.StripAccents(), normalizers.Strip(), normalizers.Lowercase()]
        ),
    ),
}


@cache
def tokenizers_of(kind: str) -> tuple[Tokenizer, TextTokenizer]:
    content = KINDS[kind]().to_str()
    return Tokenizer.from_str(content), TextTokenizer(content.encode())


def whole(tokenizer: Tokenizer, text: str, limit: int, truncate: str) -> list[int]:
    tokenizer.enable_truncation(limit, direction="left" if truncate == "start" else "right")
    try:
        return list(tokenizer.encode(text).ids)
    finally:
        tokenizer.no_truncation()


def long_texts(most: int) -> st.SearchStrategy[str]:
    """Texts of up to so many characters; beyond 616 only a part of them is read where 60 tokens are kept."""
    chances = st.integers(0, 10**9).map(random.Random)
    return st.builds(mixed, chances, st.integers(1, most))


ends = st.sampled_from(["end", "start"])


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25)
@given(text=long_texts(6000), limit=st.integers(3, 60), truncate=ends)
def test_its_tokens_are_those_of_the_whole_text(kind: str, text: str, limit: int, truncate: Truncate) -> None:
    tokenizer, own = tokenizers_of(kind)
    rows = finish(own.encode([text], max_length=limit, truncate=truncate), Deadline(60))

    assert rows.tolist() == [whole(tokenizer, text, limit, truncate)]


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=15)
@given(query=long_texts(1500), document=long_texts(1500), limit=st.integers(3, 60), truncate=ends)
def test_pairs_are_those_of_the_whole_texts(
    kind: str, query: str, document: str, limit: int, truncate: Truncate
) -> None:
    tokenizer, own = tokenizers_of(kind)
    rows = finish(own.encode_pairs(query, [document], max_length=limit, truncate=truncate), Deadline(60))
    sides = [tokenizer.encode(text, add_special_tokens=False).ids for text in (query, document)]
    kept = longest_first(len(sides[0]), len(sides[1]), limit - 3)
    first, last = map(tokenizer.token_to_id, ("<s>", "</s>"))
    cut = [
        side[len(side) - length :] if truncate == "start" else side[:length]
        for side, length in zip(sides, kept, strict=True)
    ]

    assert rows.tolist() == [[first, *cut[0], last, *cut[1], last]]


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=15)
@given(query=long_texts(2500), document=long_texts(2500), limit=st.integers(24, 80), truncate=ends)
def test_framed_pairs_are_those_of_the_whole_texts(
    kind: str, query: str, document: str, limit: int, truncate: Truncate
) -> None:
    tokenizer, own = tokenizers_of(kind)
    template = "Q: {query}\nD: {document}\nSo?"
    pair = FramedPair.of(template, query, document)
    encoding = tokenizer.encode(pair.text)
    expected = [encoding.ids[place] for place in pair.cut(encoding.offsets, limit, truncate)]
    rows = finish(own.encode_framed(template, query, [document], max_length=limit, truncate=truncate), Deadline(60))

    assert rows.tolist() == [expected]


@pytest.mark.parametrize("truncate", ["end", "start", "none"])
@pytest.mark.parametrize("kind", ["wordpiece", "byte-level of llama", "unigram", "bpe without splits"])
def test_words_of_eight_megabytes_take_no_longer_than_what_is_kept_of_them(kind: str, truncate: Truncate) -> None:
    tokenizer, own = tokenizers_of(kind)
    text = "reverse the list naïve " * 350_000
    began = time.process_time()
    steps = own.encode([text], max_length=512, truncate=truncate)
    if truncate == "none":
        with pytest.raises(InvalidInputError, match=r"texts\[0\] has more than 512 tokens"):
            finish(steps, Deadline(60))
    else:
        rows = finish(steps, Deadline(60))
        part = text[-9_200:] if truncate == "start" else text[:9_200]
        assert rows.tolist() == [whole(tokenizer, part, 512, truncate)]
    assert time.process_time() - began < 5  # seconds of work; the whole text takes half a minute and more


@pytest.mark.parametrize("unit", ["a", " ", "\u0301"])
def test_what_cannot_be_cut_exactly_is_refused_beyond_a_bound_and_whole_below(unit: str) -> None:
    tokenizer, own = tokenizers_of("wordpiece")
    with pytest.raises(InvalidInputError, match=r"texts\[1\] has 8000000 characters"):
        finish(own.encode(["short", unit * 8_000_000], max_length=512, truncate="end"), Deadline(60))

    text = unit * (WHOLE - 2) + " a"
    rows = finish(own.encode([text], max_length=16, truncate="end"), Deadline(60))
    assert rows.tolist() == [whole(tokenizer, text, 16, "end")]


def test_work_pauses_between_portions_of_a_list() -> None:
    _, own = tokenizers_of("wordpiece")
    steps = own.encode(["!" * 4000] * 200, max_length=16, truncate="end")

    assert sum(1 for _ in steps) >= 10
