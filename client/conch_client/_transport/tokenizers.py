"""Tokenizers by the hash of their file, which the server serves as a model."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from conch_client._errors import ServerError
from conch_client._tokenization.tokenizer import TextTokenizer
from conch_client._transport.tensors import range_request, read_output

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from conch_contract import ModelInfo
    from tritonclient.grpc import service_pb2 as pb

FILE_PART_BYTES = 2 * 1024 * 1024  # gRPC's default limit of a message is 4 MiB


class Tokenizers:
    """The tokenizers that were fetched; the table is replaced, never changed, so that threads need no lock to read."""

    def __init__(self) -> None:
        self._by_digest: dict[str, TextTokenizer] = {}

    def get(self, info: ModelInfo) -> TextTokenizer | None:
        """The model's tokenizer, if it was fetched before (perhaps for another model)."""
        return self._by_digest.get(info.tokenizer_sha256)

    def add(self, info: ModelInfo, parts: Iterable[pb.ModelInferResponse]) -> TextTokenizer:
        """Puts the tokenizer together from the answers to ``tokenizer_requests``, and keeps it.

        Raises:
            ServerError: The file is not the one that the model was exported with, or cannot be read.
        """
        content = b"".join(read_output(part, "content").tobytes() for part in parts)
        digest = hashlib.sha256(content).hexdigest()
        if digest != info.tokenizer_sha256:
            raise ServerError(
                f"{info.tokenizer} serves a file with SHA-256 {digest}, but {info.name} was exported with "
                f"{info.tokenizer_sha256}: export it again"
            )
        tokenizer = TextTokenizer(content)
        self._by_digest = {**self._by_digest, digest: tokenizer}
        return tokenizer

    def keep(self, models: Collection[ModelInfo]) -> None:
        """Drops those of models that are served no more."""
        kept = {info.tokenizer_sha256 for info in models}
        if not self._by_digest.keys() <= kept:
            self._by_digest = {digest: value for digest, value in self._by_digest.items() if digest in kept}


def tokenizer_requests(info: ModelInfo) -> list[pb.ModelInferRequest]:
    """Requests for a model's ``tokenizer.json``, in parts that any message limit lets through."""
    begins = range(0, info.tokenizer_bytes, FILE_PART_BYTES)
    return [
        range_request(info.tokenizer, begin, min(begin + FILE_PART_BYTES, info.tokenizer_bytes)) for begin in begins
    ]
