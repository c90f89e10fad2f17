"""The tokenizer that is served: the one that transformers makes of a checkpoint's files, as one tokenizer.json.

transformers changes a tokenizer when it loads it: by tokenizer_config.json, special_tokens_map.json, added_tokens.json
and the arguments that sentence-transformers' settings add. The checkpoint's tokenizer.json alone may give other ids.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from conch_contract import repeats_a_text
from tokenizers import Tokenizer
from tokenizers.normalizers import Lowercase, Sequence

from conch_export.checkpoints.generations.tokenizer import GENERIC, tokenizer_changes
from conch_export.checkpoints.known_keys import TOKENIZER_READ, TOKENIZER_WITHOUT_EFFECT
from conch_export.checkpoints.settings import Settings, read_settings
from conch_export.errors import SourceError, UnsupportedError, reason_of
from conch_export.sources.files import file

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

FILE, SETTINGS, _CONFIG = "tokenizer.json", "tokenizer_config.json", "config.json"
_MAKE_ONE = "AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)"
_UNLIMITED = 1 << 30
_READ_OF_CONFIG = ("tokenizer_class", "transformers_version")
"""Of config.json, where tokenizer_config.json names a class."""
_ELSE = re.compile(
    r"(.*\.index|generation_config|modules|config_sentence_transformers|sentence_.*_config)\.json"
    r"|.*\.(safetensors|bin|pt|pth|ckpt|h5|msgpack|ot|gguf|onnx|onnx_data|md)"
)
"""Names of files that transformers reads for no tokenizer: weights, and settings of sentence-transformers."""
_SETTINGS_OF_A_RUN = {"truncation": None, "padding": None}
"""Parts of tokenizer.json that clients set for each request."""
_PROBES = (
    "",
    "a",
    "The Quick  brown\tfox\njumps, over 12,345.67 lazy dogs!",
    "ÀÉÎÖÜ straße İstanbul ǅ Ωmega naïve ﬁne",
    "日本語と中文, 한국어 ไทย हिन्दी العربية",
    "👩‍👩‍👧 emoji \u200b zero\u00a0width \ufeff bom \x00 nul",
    "e\u0301 versus \u00e9; don't can't it's",
    " leading and trailing ",
    "x" * 120,
    "https://example.org/a?b=c#d user@example.org __init__ snake_case CamelCase",
)
"""Texts that must become the same ids in the served tokenizer and in transformers."""


@dataclass(frozen=True)
class ServedTokenizer:
    """A tokenizer as it is served.

    Attributes:
        content: tokenizer.json.
        max_length: tokens at which its authors truncate, special tokens included; None for no limit.
        segments: whether it tells the texts of a pair apart.
        special: special tokens by transformers' names of them, without those that it lacks.
    """

    content: bytes
    max_length: int | None = None
    segments: bool = True
    special: Mapping[str, str] = field(default_factory=dict)


def read_tokenizer(
    folder: Path,
    model_type: str,
    rows: int | None,
    keywords: str = "{}",
    *,
    lower_case: bool = False,
) -> ServedTokenizer:
    """The tokenizer of a checkpoint.

    Args:
        folder: of the tokenizer's files.
        model_type: transformers' name of the architecture, which gives the class where the files name none.
        rows: of the embedding table; None where their number is not known.
        keywords: that sentence-transformers adds to `from_pretrained`, as JSON.
        lower_case: whether sentence-transformers lower-cases texts first.

    Raises:
        SourceError: a file is damaged.
        UnsupportedError: tokenizer.json cannot express the files' settings, or has tokens without an embedding.
    """
    return _read(_Files.of(folder, model_type, keywords), rows, keywords, lower_case=lower_case)


@dataclass(frozen=True)
class _Files:
    """The files of a tokenizer. Those of two folders are equal where transformers makes the same of both.

    Attributes:
        folder: of the files.
        model_type: see `read_tokenizer`.
        sha256: of all that decides how texts are tokenised.
    """

    folder: Path = field(compare=False)
    model_type: str = field(compare=False)
    sha256: str

    @classmethod
    def of(cls, folder: Path, model_type: str, keywords: str) -> _Files:
        """Read the files of a folder; for the arguments see `read_tokenizer`."""
        settings, config = read_settings(folder / SETTINGS), read_settings(folder / _CONFIG)
        name = settings.get("tokenizer_class")
        # transformers makes a configuration of the whole file to find a class, and looks for Mistral's models in it.
        whole = not name or "fix_mistral_regex" in {*settings, *json.loads(keywords)}
        files = {
            str(path.relative_to(folder)): file(path).sha256
            for path in (*folder.glob("*"), *folder.glob("additional_chat_templates/*"))
            if path.is_file() and (whole if path.name == _CONFIG else not _ELSE.fullmatch(path.name))
        }
        decides = [None if name == GENERIC else model_type, [config.get(key) for key in _READ_OF_CONFIG], files]
        return cls(folder, model_type, hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest())


@lru_cache(maxsize=4)
def _read(files: _Files, rows: int | None, keywords: str, *, lower_case: bool) -> ServedTokenizer:
    """Read equal files once, wherever they are: large vocabularies take seconds."""
    folder = files.folder
    settings, own = read_settings(folder / SETTINGS), _own(folder)
    arguments = Settings(f"{folder}, arguments of the tokenizer", json.loads(keywords))
    for stated in (settings, arguments):
        _refuse(stated)
    loaded = load_tokenizer(folder, files.model_type, arguments, lower_case=lower_case)
    beyond = _beyond(loaded, own, folder, settings, rows)
    wanted = _wanted(loaded.backend_tokenizer, beyond)
    content = _content(folder / FILE, own, wanted)
    if repeats_a_text(wanted.get("post_processor")):
        msg = f"the tokenizer of {folder} has the same text twice in a template: mend post_processor in {FILE}"
        raise UnsupportedError(msg)
    expected = _expected(loaded, beyond, folder)
    served = ServedTokenizer(
        content,
        None if loaded.model_max_length > _UNLIMITED else int(loaded.model_max_length),
        "token_type_ids" in loaded.model_input_names,
        {name: token for name, token in loaded.special_tokens_map.items() if isinstance(token, str)},
    )
    name = type(loaded).__name__
    del own, loaded, wanted  # of a large vocabulary each takes hundreds of MB
    tokenizer = Tokenizer.from_str(content.decode())
    _refuse_tokens_without_rows(tokenizer, rows, folder)
    _refuse_other_ids(tokenizer, expected, name, folder)
    return served


def _own(folder: Path) -> dict[str, Any] | None:
    """What tokenizer.json says, in the form that the library gives it, or None where there is none."""
    path = folder / FILE
    if not read_settings(path):
        return None
    with _explained(f"{path} is damaged, it should hold a tokenizer", "fetch the checkpoint again", SourceError):
        return _said(Tokenizer.from_str(path.read_text(encoding="utf-8")))


def _said(tokenizer: Tokenizer) -> dict[str, Any]:
    """The content of a tokenizer.json that says what this one does."""
    said: dict[str, Any] = json.loads(tokenizer.to_str())
    return said | _SETTINGS_OF_A_RUN


def _refuse(stated: Settings) -> None:
    stated.refuse_unknown(TOKENIZER_READ, TOKENIZER_WITHOUT_EFFECT, _repeated(stated))
    stated.of("model_max_length", float, 0.0)
    for key, built in (("auto_map", None), ("use_fast", True)):
        if stated.get(key, built) not in (built, None):
            msg = (
                f"{stated.place} states {key} = {stated[key]!r}, which asks for a tokenizer written in Python; what "
                "tokenizer.json says is served: export a copy of the folder without it, if that says the same"
            )
            raise UnsupportedError(msg)


def _repeated(stated: Settings) -> set[str]:
    """The keys that state once more what the objects of special tokens do, as transformers writes them."""
    named = stated.inner("model_specific_special_tokens")
    if isinstance(extra := stated.get("extra_special_tokens"), dict):
        named |= extra
    return {key for key, token in named.items() if stated.get(key) == token}


def load_tokenizer(folder: Path, model_type: str, keywords: Mapping[str, Any], *, lower_case: bool) -> Any:
    """The tokenizer as transformers loads it for sentence-transformers; arguments and errors: see `read_tokenizer`."""
    loaded = _load(folder, read_settings(folder / SETTINGS), model_type, keywords)
    _refuse_unwritable(loaded, folder)
    if lower_case:
        _lower_case(loaded.backend_tokenizer)
    return loaded


def _load(folder: Path, settings: Settings, model_type: str, keywords: Mapping[str, Any]) -> Any:
    # Imported late: they load PyTorch.
    from transformers import AutoTokenizer, PretrainedConfig, PreTrainedTokenizerFast  # noqa: PLC0415
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING  # noqa: PLC0415

    logging.getLogger("transformers").setLevel(logging.ERROR)  # it warns of lengths
    otherwise = read_settings(folder / _CONFIG).of("tokenizer_class", str, "")
    has_file = (folder / FILE).exists()
    changes = tokenizer_changes(settings) if has_file else {}
    name = str(changes.pop("tokenizer_class", settings.of("tokenizer_class", str, otherwise)))
    options = {**changes, **keywords, "local_files_only": True, "trust_remote_code": False}
    failed, fix = f"{folder} has no {FILE}, and transformers cannot make one of it", f"make one with {_MAKE_ONE}"
    if has_file:
        failed = f"transformers cannot load the tokenizer of {folder}, tokenizer_class {name or 'not stated'}"
        fix = f"mend {SETTINGS}, or export a copy of the folder without it where {FILE} says all"
    with _explained(failed, fix, UnsupportedError):
        if name == GENERIC or (not name and model_type not in CONFIG_MAPPING):
            return PreTrainedTokenizerFast.from_pretrained(folder, **options)
        kind = CONFIG_MAPPING[model_type] if model_type in CONFIG_MAPPING else PretrainedConfig  # noqa: SIM401 - its `get` knows nothing
        known = {"config": kind(tokenizer_class=otherwise or None)}
        return AutoTokenizer.from_pretrained(folder, **options, **known)  # type: ignore[no-untyped-call]


def _refuse_unwritable(loaded: Any, folder: Path) -> None:
    """Refuse what transformers does around a tokenizer and tokenizer.json cannot express."""
    asked = {
        "truncation_side": loaded.truncation_side if loaded.truncation_side != "right" else "",
        "split_special_tokens": loaded.is_fast and loaded.split_special_tokens,
        "a tokenizer without a fast form": "" if loaded.is_fast else type(loaded).__name__,
    }
    for what, value in asked.items():
        if value:
            raise UnsupportedError(f"the tokenizer of {folder} asks for {what} = {value!r}, which is not built")


def _lower_case(backend: Tokenizer) -> None:
    """As sentence-transformers does for `do_lower_case`."""
    normalizer = backend.normalizer
    there = list(normalizer) if isinstance(normalizer, Sequence) else [normalizer] if normalizer is not None else []
    if not any(isinstance(each, Lowercase) for each in there):
        backend.normalizer = Sequence([Lowercase(), *there])


def _beyond(loaded: Any, own: Mapping[str, Any] | None, folder: Path, settings: Settings, rows: int | None) -> set[int]:
    """Ids past the end of the embedding table, of special tokens that only the class in transformers adds.

    No model was trained with them: their text is tokenised as any other text, and no id reads outside of the table.
    """
    if own is None or rows is None:
        return set()
    files = (settings, *(read_settings(folder / name) for name in ("special_tokens_map.json", "added_tokens.json")))
    stated, added = json.dumps(files), loaded.backend_tokenizer.get_added_tokens_decoder()
    beyond = {number: token.content for number, token in added.items() if number >= rows}
    known = _numbers(own) if beyond else set()
    return {number for number, text in beyond.items() if number not in known and json.dumps(text) not in stated}


def _numbers(own: Mapping[str, Any]) -> set[int]:
    """The ids of all tokens that a tokenizer.json has."""
    vocabulary = own["model"]["vocab"]
    known = set(vocabulary.values() if isinstance(vocabulary, dict) else range(len(vocabulary)))
    return known | {token["id"] for token in own["added_tokens"]}


def _wanted(backend: Tokenizer, beyond: set[int]) -> dict[str, Any]:
    """What transformers has loaded, as the content of a tokenizer.json, without the tokens past the table's end."""
    wanted = _said(backend)
    wanted["added_tokens"] = [token for token in wanted["added_tokens"] if token["id"] not in beyond]
    return wanted


def _content(path: Path, own: Mapping[str, Any] | None, wanted: Mapping[str, Any]) -> bytes:
    """The checkpoint's tokenizer.json, byte for byte if it says what is wanted, else with what differs replaced."""
    if own is None:
        return json.dumps(wanted, ensure_ascii=False).encode()
    changed = {key: value for key, value in wanted.items() if own.get(key) != value}
    if not changed:
        return path.read_bytes()
    return json.dumps(dict(read_settings(path)) | _SETTINGS_OF_A_RUN | changed, ensure_ascii=False).encode()


def _refuse_tokens_without_rows(served: Tokenizer, rows: int | None, folder: Path) -> None:
    last = max(served.get_vocab(with_added_tokens=True).values(), default=-1)
    if rows is not None and last >= rows:
        msg = (
            f"the tokenizer of {folder} has {last + 1} tokens, the embedding table {rows} rows: use the tokenizer that "
            "the model was trained with, or resize the table (model.resize_token_embeddings) and train it"
        )
        raise UnsupportedError(msg)


def _expected(loaded: Any, beyond: set[int], folder: Path) -> dict[tuple[str, ...], list[int]]:
    """The ids that transformers makes of probing texts, and of a pair."""
    added = loaded.backend_tokenizer.get_added_tokens_decoder()
    specials = [token.content for number, token in added.items() if number not in beyond][:20]
    texts = [(text,) for text in (*_PROBES, *(f"one {token} two{token}three" for token in specials))]
    with _explained(f"transformers cannot tokenise with the tokenizer of {folder}", "mend it", UnsupportedError):
        return {
            text: list(loaded(*text, truncation=False, padding=False)["input_ids"]) for text in (*texts, _PROBES[2:4])
        }


def _refuse_other_ids(
    served: Tokenizer, expected: Mapping[tuple[str, ...], list[int]], name: str, folder: Path
) -> None:
    """Refuse a tokenizer whose ids differ from transformers': tokenizer.json cannot express the difference."""
    served.no_padding()
    served.no_truncation()
    for text, ids in expected.items():
        if served.encode(*text).ids != ids:
            msg = (
                f"the tokenizer of {folder} gives other tokens in transformers than {FILE} can be made to give, for "
                f"{text[0]!r}: {name} is not built"
            )
            raise UnsupportedError(msg)


@contextmanager
def _explained(what: str, fix: str, kind: type[SourceError | UnsupportedError]) -> Iterator[None]:
    """Turn every error of transformers and tokenizers, Rust's panics included, into one line."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit, GeneratorExit, SourceError, UnsupportedError):
        raise
    except BaseException as error:
        raise kind(f"{what} ({reason_of(error)}): {fix}") from error
