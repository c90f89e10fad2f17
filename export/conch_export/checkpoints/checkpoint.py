"""A checkpoint's files as values: configuration, weights, tokenizer. Hides file names and tensor prefixes."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from tokenizers import Tokenizer

from conch_export.checkpoints.adapters import own, peft
from conch_export.checkpoints.architecture import in_this_generation, with_defaults
from conch_export.checkpoints.chat import Chat
from conch_export.checkpoints.known_keys import TRANSFORMER, kind_of
from conch_export.checkpoints.lookups.router import Routes, read_routes
from conch_export.checkpoints.lookups.static import StaticFiles
from conch_export.checkpoints.settings import Settings, read_json, read_settings
from conch_export.checkpoints.tokenizer import ServedTokenizer, read_tokenizer
from conch_export.checkpoints.weights import Weights
from conch_export.errors import SourceError, UnsupportedError
from conch_export.sources.files import ADAPTER_CONFIG, ADAPTER_WEIGHTS, is_transformer_folder, joined, weight_files

if TYPE_CHECKING:
    from pathlib import Path

    from conch_export.sources.source import Source

_SENTENCE_SETTINGS = ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
"""Parts of the file names of sentence-transformers' settings of an encoder, in the order in which it looks for them."""
_ROUTERS = ("Router", "Asym")
_OF_THE_HUB = {"cache_dir", "local_files_only", "revision", "subfolder", "token", "trust_remote_code"}
"""Arguments that sentence-transformers replaces by its own."""


@dataclass(frozen=True)
class Checkpoint:
    """The files of a checkpoint's folder, each read when it is first needed.

    Attributes:
        folder: of the checkpoint; an adapter of PEFT in it is merged.
        adapter: the name of one of the adapters that the checkpoint has itself; empty where none was chosen.
        holder: keeps the folder, see `Source`.
    """

    folder: Path
    adapter: str = ""
    holder: object = field(default=None, repr=False, compare=False)

    @classmethod
    def of(cls, source: Source) -> Checkpoint:
        """The files of a source."""
        return cls(source.folder, "" if source.parts else source.adapter, source.holder)

    def json(self, name: str) -> Any:
        """The content of a JSON file, or None where there is no such file.

        Raises:
            SourceError: the file is damaged.
        """
        return read_json(self.folder / name)

    def settings(self, name: str) -> Settings:
        """The content of a JSON file that holds an object, empty where there is no such file.

        Raises:
            SourceError: the file is damaged.
        """
        return read_settings(self.folder / name)

    @cached_property
    def transformer(self) -> Path:
        """The folder of the encoder's configuration and tokenizer: a folder of its own in older checkpoints."""
        first = self.modules[0].of("path", str, "") if self.modules else ""
        return self.folder / first if is_transformer_folder(first) else self.folder

    @cached_property
    def modules(self) -> list[Settings]:
        """The entries of modules.json, in order; empty where there is none. In the place of a Router, its documents'.

        Raises:
            SourceError: it is no list of modules.
        """
        return self._listed if self.routes is None else [*self.routes.document, *self._listed[1:]]

    @cached_property
    def routes(self) -> Routes | None:
        """The modules of queries and documents, where a Router tells them apart.

        Raises:
            UnsupportedError: the Router has a folder of its own, or routes that are not built.
        """
        if not self._listed or kind_of(self._listed[0].of("type", str, "")) not in _ROUTERS:
            return None
        if (place := self._listed[0].of("path", str, "")) not in ("", "."):
            raise UnsupportedError(f"a Router in a folder of its own ({place}) is not built, only beside modules.json")
        return read_routes(self.folder)

    @property
    def classes(self) -> list[str]:
        """Paths of the classes of all modules, a Router's own and those of its routes included."""
        routed = [] if self.routes is None else [*self.routes.query, *self.routes.document]
        return [module.of("type", str, "") for module in (*self._listed, *routed)]

    @property
    def query_folder(self) -> str:
        """The folder of the first module that a Router has for queries."""
        return "" if self.routes is None else self.routes.query[0].of("path", str, "")

    def refuse_other_query_tokenizer(self) -> None:
        """Raise UnsupportedError for queries with a tokenizer or a length of their own: a model is served with one."""
        rows = self.config.of("vocab_size", int, 0) or None
        theirs, ours = read_tokenizer(self.folder / self.query_folder, self.model_type, rows), self.served_tokenizer
        if (theirs.content, theirs.max_length) != (ours.content, ours.max_length):
            msg = (
                f"the tokenizer of queries ({self.query_folder}) is not that of documents ({self.transformer.name}), "
                "or cuts texts elsewhere: one tokenizer and one model_max_length for both are built"
            )
            raise UnsupportedError(msg)

    @cached_property
    def static(self) -> StaticFiles | None:
        """The files of a model without an encoder; None for all others."""
        first = kind_of(self.modules[0].of("type", str, "")) if self.modules else ""
        return StaticFiles.of(self.transformer, first)

    @cached_property
    def _listed(self) -> list[Settings]:
        path, stated = self.folder / "modules.json", self.json("modules.json")
        if not isinstance(stated, list | None) or not all(isinstance(each, dict) for each in stated or ()):
            raise SourceError(f"{path} is damaged (it should hold a list of modules): fetch the checkpoint again")
        return [Settings(f"{path}, module {number}", each) for number, each in enumerate(stated or ())]

    @cached_property
    def transformer_settings(self) -> Settings:
        """sentence-transformers' settings of the encoder, under the first of the names that the file has had.

        Raises:
            SourceError: the file is damaged.
            UnsupportedError: it states an unknown key.
        """
        found = (read_settings(self.transformer / f"sentence_{kind}_config.json") for kind in _SENTENCE_SETTINGS)
        stated = next(filter(None, found), Settings("", {}))
        stated.refuse_unknown(TRANSFORMER)
        return stated

    @cached_property
    def stated_config(self) -> Settings:
        """config.json in the form of the installed transformers, with what sentence-transformers' settings change.

        Of a static model Model2Vec's settings, empty where sentence-transformers saved it: it has no architecture.

        Raises:
            SourceError: it is damaged, or states no architecture.
        """
        if self.static is not None:
            return self.static.config
        path = self.transformer / "config.json"
        stated = Settings(str(path), {**read_settings(path), **self._config_changes})
        if not stated.of("model_type", str, ""):
            msg = f"{self.transformer} has no config.json with a model_type: is it a transformers checkpoint?"
            raise SourceError(msg)
        return in_this_generation(stated)

    @property
    def _config_changes(self) -> dict[str, Any]:
        """The keys of config.json for which sentence-transformers' settings state other values."""
        return _arguments(self.transformer_settings, "config_args", "config_kwargs")

    def identified(self, source: Source) -> Source:
        """The source, whose `checkpoint_sha256` is of its files, with such values in that hash as well."""
        if not source.checkpoint_sha256 or not self._config_changes:
            return source
        changes = hashlib.sha256(json.dumps(self._config_changes, sort_keys=True).encode()).hexdigest()
        return replace(source, checkpoint_sha256=joined([source.checkpoint_sha256, changes]))

    @cached_property
    def config(self) -> Settings:
        """`stated_config` with transformers' defaults; a key that neither has is a SourceError."""
        return with_defaults(self.stated_config)

    @property
    def model_type(self) -> str:
        """Transformers' name of the architecture; of a static model that of its library."""
        return self.static.architecture if self.static is not None else str(self.stated_config["model_type"])

    @cached_property
    def served_tokenizer(self) -> ServedTokenizer:
        """The tokenizer as it is served; a folder without config.json holds one that is served already."""
        if self.static is not None:
            return ServedTokenizer(self.static.tokenizer, self.static.max_length, segments=False)
        if not (self.transformer / "config.json").exists():
            return ServedTokenizer((self.folder / "tokenizer.json").read_bytes())
        rows = self.config.of("vocab_size", int, 0) or None
        arguments = json.dumps(self.tokenizer_arguments, sort_keys=True)
        read = read_tokenizer(self.transformer, self.model_type, rows, arguments, lower_case=self.lower_cases)
        if self.chat is None:
            return read
        pairs = self.settings("config_sentence_transformers.json").get("model_type") == "CrossEncoder"
        return replace(read, content=self.chat.tokenizer(read.content, pairs=pairs))

    @property
    def stated_length(self) -> int | None:
        """Tokens at which sentence-transformers truncates as its own settings say; None where they leave it open."""
        return int(Settings("", self.tokenizer_arguments).of("model_max_length", float, 0.0)) or None

    @property
    def tokenizer_arguments(self) -> dict[str, Any]:
        """What sentence-transformers passes to transformers' tokenizer."""
        stated = self.transformer_settings
        keywords = _arguments(stated, "tokenizer_args", "processor_kwargs")
        if stated.get("max_seq_length") is not None:
            keywords.setdefault("model_max_length", stated.of("max_seq_length", int, 0))
        return keywords

    @property
    def lower_cases(self) -> bool:
        """Whether sentence-transformers lower-cases texts first."""
        return self.transformer_settings.of("do_lower_case", bool, default=False)

    @cached_property
    def chat(self) -> Chat | None:
        """The chat template that texts go through; None where they go through none.

        Raises:
            UnsupportedError: it is not built.
        """
        return None if self.static is not None else Chat.of(self.transformer, self.transformer_settings)

    @property
    def tokenizer(self) -> bytes:
        """tokenizer.json as it is served."""
        return self.served_tokenizer.content

    def token_id(self, token: str) -> int:
        """The id of a token of the vocabulary.

        Raises:
            UnsupportedError: the tokenizer has no such token.
        """
        if not self.has_token(token):
            msg = f"the tokenizer has no token {token!r}: the checkpoint's settings are of another tokenizer"
            raise UnsupportedError(msg)
        return int(self._tokenizer.token_to_id(token))

    def token(self, number: int) -> str:
        """The token of that id; raises UnsupportedError where there is none."""
        found: str | None = self._tokenizer.id_to_token(number)
        if found is None:
            msg = f"the tokenizer has no token {number}: the checkpoint's settings are of another tokenizer"
            raise UnsupportedError(msg)
        return found

    def has_token(self, token: str) -> bool:
        """Whether the vocabulary has it."""
        return self._tokenizer.token_to_id(token) is not None

    def token_ids(self, text: str) -> list[int]:
        """Ids of a text's tokens, without special ones."""
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def token_behind_texts(self) -> int | None:
        """The id of the token that the tokenizer puts behind every text; None for none."""
        encoding = self._tokenizer.encode("a")
        return int(encoding.ids[-1]) if encoding.special_tokens_mask[-1:] == [1] else None

    @property
    def adds_special_tokens(self) -> bool:
        """Whether the tokenizer puts tokens around a text."""
        return int(self._tokenizer.num_special_tokens_to_add(is_pair=False)) > 0

    def mask_id(self) -> int:
        """The id of the mask token; raises UnsupportedError where there is none."""
        return self.token_id(self.served_tokenizer.special.get("mask_token", "[MASK]"))

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        tokenizer = Tokenizer.from_str(self.tokenizer.decode())
        tokenizer.no_padding()  # by which a text would have more tokens than it has
        return tokenizer

    @cached_property
    def weights(self) -> Weights:
        """The weights under the names of the base model, with the adapter in them."""
        files = weight_files(self.transformer)
        if self.has_peft_adapter:
            # The files themselves, not the links to them, which may go before the last tensor is read.
            weights = Weights.load([path.resolve() for path in files], self.model_type)
            adapter = Weights.load([(self.transformer / ADAPTER_WEIGHTS).resolve()])
            replaced, low_ranks = peft.changes(self.transformer, adapter, weights)
            return replace(weights, tensors=weights.tensors | replaced, low_ranks=low_ranks)
        weights = Weights.load(files, self.model_type)
        return replace(weights, low_ranks=own.low_ranks(self.stated_config, weights, self.adapter))

    @property
    def own_adapters(self) -> list[str]:
        """The adapters that the checkpoint has itself, by name."""
        return own.names(self.stated_config) if self.static is None else []

    @property
    def has_peft_adapter(self) -> bool:
        """Whether PEFT's adapter lies beside the weights."""
        return (self.transformer / ADAPTER_CONFIG).exists()


def _arguments(stated: Settings, *names: str) -> dict[str, Any]:
    """The arguments that sentence-transformers passes on, under the first of these names that is stated."""
    found: dict[str, Any] = next((stated.inner(name) for name in names if name in stated), {})
    return {key: value for key, value in found.items() if key not in _OF_THE_HUB}
