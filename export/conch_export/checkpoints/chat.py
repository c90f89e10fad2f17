"""The words that a chat template puts around every text. Hides Jinja, and the messages of sentence-transformers.

Embedders and rerankers that were trained on conversations (Qwen3-VL-Embedding) read a text as what a user says. The
template is applied at export, to a mark in the place of the text: what is before the mark becomes a prompt, what is
behind it a part of the tokenizer's own template (`tokenizer`), so that clients need no Jinja.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from conch_contract import PLAIN_PROMPT
from tokenizers import Tokenizer

from conch_export.checkpoints.settings import Settings, read_settings
from conch_export.errors import SourceError, UndecidedError, UnsupportedError, cannot_read, reason_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

TEMPLATE_FILE, _OLDER_FILE = "chat_template.jinja", "chat_template.json"
"""The older one is read by processors only, and before the other."""
_SETTINGS = "tokenizer_config.json"
OF_PROCESSORS = ("preprocessor_config.json", "processor_config.json", "video_preprocessor_config.json")
"""Files of a processor, which prepares more than text. Those of transformers add the tokenizer's special tokens around
a conversation that does not begin with one, where a tokenizer by itself adds none."""
_FORMATS = ("structured", "flat")
_NO_VARIABLES = {"max_length", "padding", "restore_suffix", "return_dict", "return_tensors", "tokenize", "truncation"}
"""Options of `apply_chat_template` that are not for the template."""
_MARKS = {role: f" \n{role} \ue000 \n" for role in ("user", "query", "document")}
"""Stand for texts. With space around them, since a template that strips it would change texts."""
_INSTRUCTION = "\ue001"


@dataclass(frozen=True)
class Chat:
    """A checkpoint's chat template.

    Attributes:
        place: where it stands, for messages.
        template: in Jinja.
        structured: whether a message's content is a list of parts; else it is the text.
        options: what it reads beside the messages.
        special_tokens: the tokenizer's, which it reads by their names.
        has_processor: whether a processor prepares the texts.
    """

    place: str
    template: str
    structured: bool
    options: Mapping[str, Any]
    special_tokens: Mapping[str, str]
    has_processor: bool

    @classmethod
    def of(cls, folder: Path, stated: Settings) -> Chat | None:
        """The template of a checkpoint whose texts go through one.

        Args:
            folder: of the tokenizer.
            stated: sentence-transformers' settings of the encoder.

        Raises:
            SourceError: it cannot be read.
            UnsupportedError: it is not built.
        """
        options = stated.inner("processing_kwargs")
        options.refuse_unknown({"chat_template"})
        modalities = stated.inner("modality_config")
        if "message" not in modalities:
            return None
        message = modalities.inner("message")
        kind, method = message.of("format", str, ""), message.of("method", str, "forward")
        if kind not in _FORMATS or method != "forward":
            msg = f"{message.place} states format = {kind!r} and method = {method!r}, which is not built"
            raise UnsupportedError(f"{msg} (known: {' or '.join(map(repr, _FORMATS))}, and 'forward')")
        template = _template(folder)
        if "strftime_now" in template:
            raise UnsupportedError(f"the chat template of {folder} writes the date, which changes vectors every day")
        variables, tokens = _variables(options.inner("chat_template")), _special_tokens(folder)
        has_processor = any((folder / name).exists() for name in OF_PROCESSORS)
        return cls(str(folder), template, kind == "structured", variables, tokens, has_processor)

    def prompts(self, stated: Mapping[str, str], default: str) -> tuple[dict[str, str], str]:
        """Return the prompt for each instruction, by its name, and for none; and the name of the default.

        Args:
            stated: instructions by name, each a message of the system; one that is empty is none.
            default: the name of one of them; empty for none.

        Raises:
            UnsupportedError: the template changes texts, or writes an instruction behind them.
        """
        found = {name: self._parts(text, "user") for name, text in {PLAIN_PROMPT: "", **stated}.items()}
        if len({ending for _, ending in found.values()}) > 1:
            raise UnsupportedError(f"the chat template of {self.place} writes instructions behind a text: not built")
        return {name: before for name, (before, _) in found.items()}, default or PLAIN_PROMPT

    def pair_template(self, instruction: str) -> str:
        """The text that holds a pair, with `{query}` and `{document}` in it, and `{instruction}` where there is one.

        Raises:
            UnsupportedError: the template changes texts, or has no place for such messages.
        """
        before, between, after = self._parts(_INSTRUCTION if instruction else "", "query", "document")
        if instruction and before.count(_INSTRUCTION) != 1:
            raise UnsupportedError(f"the chat template of {self.place} does not have its instruction once at its begin")
        template = f"{before}{{query}}{between}{{document}}{after}"
        return template.replace(_INSTRUCTION, "{instruction}")

    def tokenizer(self, content: bytes, *, pairs: bool) -> bytes:
        """tokenizer.json that puts the special tokens of a conversation, and what ends it, around every text.

        Args:
            content: tokenizer.json as it is.
            pairs: whether texts are conversations already, as pairs in their template are.

        Raises:
            UnsupportedError: the end of a text and what ends the conversation would share a token.
        """
        before, *_, ending = self._parts("", *(("query", "document") if pairs else ("user",)))
        ending = "" if pairs else ending
        tokenizer = Tokenizer.from_str(content.decode())
        words = tokenizer.encode(ending, add_special_tokens=False)
        added = tokenizer.get_added_tokens_decoder()
        first = added.get(words.ids[0]) if ending else None
        if ending and (first is None or first.lstrip or first.single_word):
            msg = f"the chat template of {self.place} puts {ending!r} behind a text"
            raise UnsupportedError(f"{msg}, which does not begin with a token of its own: not built")
        begins = "bos_token" in self.special_tokens and before.startswith(self.special_tokens["bos_token"])
        begin, end = _special(tokenizer) if self.has_processor and not begins else ([], [])
        around = [*begin, *zip(words.tokens, words.ids, strict=True), *end]
        template = {
            "type": "TemplateProcessing",
            "single": [*map(_piece, around[: len(begin)]), _text("A"), *map(_piece, around[len(begin) :])],
            "pair": [_text("A"), _text("B")],
            "special_tokens": {token: {"id": token, "ids": [number], "tokens": [token]} for token, number in around},
        }
        stated = json.loads(content)
        there = stated.get("post_processor") or {}
        # Byte-level tokenizers have a step that mends offsets; every other one adds tokens.
        kept = [each for each in there.get("processors", [there]) if each.get("type") == "ByteLevel"]
        stated["post_processor"] = {"type": "Sequence", "processors": [*kept, template]}
        return json.dumps(stated, ensure_ascii=False).encode()

    def messages(self, said: Iterable[tuple[str, str]]) -> list[dict[str, Any]]:
        """Roles and texts as the messages of a conversation."""
        return [
            {"role": role, "content": [{"type": "text", "text": text}] if self.structured else text}
            for role, text in said
        ]

    def _parts(self, instruction: str, *roles: str) -> list[str]:
        """The words before, between and behind the messages of these roles."""
        rest, parts = self._rendered(instruction, *roles), []
        for role in roles:
            before, found, rest = rest.partition(_MARKS[role])
            parts.append(before)
            if not found:
                msg = f"the chat template of {self.place} leaves out or changes a message of the role {role!r}"
                raise UnsupportedError(f"{msg}: not built")
        return [*parts, rest]

    def _rendered(self, instruction: str, *roles: str) -> str:
        # Imported late: it loads PyTorch.
        from transformers.utils import chat_template_utils  # noqa: PLC0415

        said = [("system", instruction)] if instruction else []
        said += [(role, _MARKS[role]) for role in roles]
        messages, read = self.messages(said), {**self.special_tokens, **self.options}
        try:
            render: Any = chat_template_utils.render_jinja_template  # its annotation leaves out half of what it gives
            conversations, _ = render([messages], chat_template=self.template, **read)
        except Exception as error:  # whatever a template raises
            msg = f"the chat template of {self.place} fails ({reason_of(error)}): mend it"
            raise UnsupportedError(msg) from error
        return str(conversations[0])


def refuse_undecided_template(folder: Path) -> None:
    """Refuse a classifier that lists no modules and has a chat template: its libraries do not agree on what it reads.

    transformers reads texts as they are; sentence-transformers, which takes texts for text where modules.json is there,
    makes messages of them.

    Raises:
        UndecidedError: the folder has a template.
    """
    place = folder / TEMPLATE_FILE if (folder / TEMPLATE_FILE).exists() else folder / _SETTINGS
    if place.name == TEMPLATE_FILE or _stated_template(folder) is not None:
        msg = (
            f"{place} has a chat template, and no modules.json says whether the classifier reads texts as they are or "
            "messages, which are not built: if texts, export a copy of the folder without the template "
            f"({TEMPLATE_FILE}, or chat_template in {_SETTINGS})"
        )
        raise UndecidedError(msg)


def _template(folder: Path) -> str:
    path = folder / TEMPLATE_FILE
    try:
        template = path.read_text("utf-8") if path.exists() else _stated_template(folder)
    except OSError as error:
        raise SourceError(cannot_read(path, error)) from error
    except ValueError as error:
        raise SourceError(f"{path} is damaged (it should hold UTF-8: {error}): fetch the checkpoint again") from error
    if read_settings(older := folder / _OLDER_FILE).get("chat_template", template) != template:
        msg = f"{older} states another chat template than the folder's other files"
        raise UnsupportedError(f"{msg}: leave the one that is meant, as {TEMPLATE_FILE}")
    if not isinstance(template, str):
        msg = f"texts go through a chat template, and {folder} has none: neither {TEMPLATE_FILE} nor chat_template"
        raise UnsupportedError(f"{msg} (one text) in {_SETTINGS}")
    return template


def _stated_template(folder: Path) -> object:
    return read_settings(folder / _SETTINGS).get("chat_template")


def _special_tokens(folder: Path) -> dict[str, str]:
    """Texts of the special tokens that have a name."""
    files = (read_settings(folder / name) for name in (_SETTINGS, "special_tokens_map.json"))
    stated = {key: value for file in files for key, value in file.items() if key.endswith("_token")}
    texts = {key: value.get("content") if isinstance(value, dict) else value for key, value in stated.items()}
    return {key: text for key, text in texts.items() if isinstance(text, str)}


def _variables(stated: Settings) -> dict[str, Any]:
    for key, value in stated.items():
        if (key in _NO_VARIABLES and value not in (None, True)) or not isinstance(value, bool | str | int | None):
            raise UnsupportedError(f"{stated.place} states {key} = {value!r}, which is not built")
    return {key: value for key, value in stated.items() if key not in _NO_VARIABLES}


def _text(name: str) -> dict[str, Any]:
    return {"Sequence": {"id": name, "type_id": 0}}


def _piece(token: tuple[str, int]) -> dict[str, Any]:
    return {"SpecialToken": {"id": token[0], "type_id": 0}}


def _special(tokenizer: Tokenizer) -> tuple[list[tuple[str, int]], list[tuple[str, int]]]:
    """The tokens that it adds before a text, and those behind it."""
    encoding = tokenizer.encode("a", add_special_tokens=True)
    tokens = list(zip(encoding.tokens, encoding.ids, encoding.special_tokens_mask, strict=True))
    first = next(index for index, (_, _, special) in enumerate(tokens) if not special)
    last = next(index for index, (_, _, special) in enumerate(reversed(tokens)) if not special)
    named = [(token, number) for token, number, _ in tokens]
    return named[:first], named[len(named) - last :]
