"""Texts with their token ids, with which a page checks its tokenizer before it answers anything.

The browser uses another tokenizer library than the server. A text that both tokenise differently would get another
vector under the same space id, so conch-web refuses a model if any text has other tokens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tokenizers import Tokenizer

if TYPE_CHECKING:
    from pathlib import Path

TEXTS = (
    "How do I reverse a list in Python?",
    "Der Öltanker fährt übers Meer; Straße, STRASSE, ﬁnal.",
    "L'été, à Noël: cœur, ça, où.",
    "El niño comió piñas. ¿Qué? ¡Sí!",
    "Zażółć gęślą jaźń, příliš žluťoučký kůň",
    "\u0130stanbul'da \u0131l\u0131k I\u015eIK",
    "ΟΔΟΣ οδός Άνθρωπος",
    "Съешь ещё этих мягких булок",
    "Ուտեմ ապակի",
    "ქართული ენა",
    "אבגד שָׁלוֹם",
    "مرحبا بالعالم، كَيْفَ الحال؟",
    "سلام دنیا، می‌خواهم",
    "नमस्ते दुनिया, क्षत्रिय",
    "বাংলা ভাষা",
    "தமிழ் மொழி",
    "తెలుగు భాష",
    "สวัสดีชาวโลก",
    "မြန်မာစာ",
    "ភាសាខ្មែរ",
    "አማርኛ ቋንቋ",
    "日本語の文章、カタカナとｶﾅ。",
    "中文句子\uff0c没有空格。\U00020000\U0002a6d6",
    "한국어 문장 \u1112\u1161\u11ab",
    "Tiếng Việt có dấu",
    "caf\u00e9 cafe\u0301 \u00c5 A\u030a \u212b",
    "\U0001f600 \U0001f44d\U0001f3fd \U0001f469\u200d\U0001f4bb \U0001f1e9\U0001f1ea \u2764\ufe0f",
    "\uff21\uff22\uff23 \u2460 \u00bd \u2126 \u017f",
    "no\u00a0break\u2003wide\u3000space\u200bnone\ufeff",
    "tab\tline\nreturn\r\nbell\x07null\x00delete\x7f\x85",
    "  two  spaces   before and behind  ",
    "x = {'a': [1, 2.5e-3], \"b\": None}  # $%&/()=?`^~|<>",
    "1,234,567.89 +49-30-123456 2026-11-28T20:51:07Z",
    "https://example.org/a_b-c?d=e%20f#g user@example.org",
    "don't can't I'll we've 'quoted' \u2018curly\u2019 \u201cdouble\u201d \u2013 \u2014 \u2026",
    "[CLS] [SEP] [MASK] <s> </s> <mask> <|endoftext|> <unk>",
    "a" * 120,
    "\U0001d400\U0001d41b\u2102 \U00010348 \U00012000",
)  # fmt: skip
"""Scripts with many readers, and features in which tokenizers differ: case, accents, joiners, spaces, added tokens."""
_OWN = 8
"""Number of the tokenizer's added tokens that are checked as well."""


def probes(tokenizer_json: Path) -> list[dict[str, Any]]:
    """Return texts with their ids, including special tokens: `{"text": ..., "ids": [...]}`."""
    tokenizer = Tokenizer.from_file(str(tokenizer_json))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    own = [f"a {token.content} b" for token in tokenizer.get_added_tokens_decoder().values()]
    return [{"text": text, "ids": tokenizer.encode(text).ids} for text in (*TEXTS, *own[:_OWN])]
