"""Texts of every length and script, as hostile to a tokenizer as people write them."""

from __future__ import annotations

import random
import unicodedata

SENTENCES = (
    "The quick brown fox jumps over the lazy dog, doesn't it?",
    "Der Öltanker fährt übers Meer; STRASSE und Straße.",
    "ΟΔΟΣ, ΣΟΦΟΣ και Ἀθῆναι",
    "Съешь ещё этих мягких французских булок",
    "שָׁלוֹם עולם",
    "مرحبا بالعالم، كَيْفَ الحال؟",
    "नमस्ते दुनिया, क्षत्रिय",
    "สวัสดีชาวโลก",
    "日本語の文章、カタカナとｶﾅ。",
    "中文句子\uff0c没有空格。\U00020000\U0002a6d6",
    "한국어 문장 \u1112\u1161\u11ab",
    "Tiếng Việt có dấu, \u0130stanbul \u0131l\u0131k",
    "\U0001f600 \U0001f44d\U0001f3fd \U0001f469\u200d\U0001f4bb \U0001f1e9\U0001f1ea \u2764\ufe0f",
    "caf\u00e9 cafe\u0301 \u212b \ufb01nal \uff21\uff22\uff23 \u2460 \u00bd",
    "[CLS] [SEP] [MASK] [UNK] [PAD] ##s <s> </s>",
    "no\u00a0break\u2003wide\u3000space\u200bnone\ufeff tab\tline\nbell\x07 \x85",
    "x = {'a': [1, 2.5e-3], \"b\": None}  # $%&/()=?`^~|<>",
    "antidisestablishmentarianism" * 4,
)
_CHARACTERS = 40


def every_script() -> list[str]:
    """Texts that together hold every assigned character but those of Chinese, Korean and private use."""
    characters = [character for character in map(chr, range(0x20, 0x1FFFF)) if _is_asked(character)]
    parts = (characters[begin : begin + _CHARACTERS] for begin in range(0, len(characters), _CHARACTERS))
    return [" ".join(f"a{each}b" if index % 3 else each for index, each in enumerate(part)) for part in parts]


def mixed(count: int, most_tokens: int) -> list[str]:
    """`count` texts of 1 to about `most_tokens` tokens, short ones more often than long ones."""
    draw = random.Random(0)  # noqa: S311
    texts = []
    for index in range(count):
        words = round(most_tokens ** (index / (count - 1)) * 0.7)
        pool = " ".join(draw.choices(SENTENCES, k=1 + words // 8)).split(" ")
        texts.append(" ".join(pool[: max(1, words)]) or "x")
    return texts


def _is_asked(character: str) -> bool:
    is_chinese_or_korean = "\u3400" <= character <= "\u9fff" or "\uac00" <= character <= "\ud7a3"
    return unicodedata.category(character) not in {"Cn", "Co", "Cs"} and not is_chinese_or_korean
