"""Embedding: texts to unit vectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from conch_contract import QUERY_PROMPT, InvalidInputError, Truncate

from conch_client._inputs import Inputs, check_count, check_truncate
from conch_client._late_interaction import encode_marked, marked_rows
from conch_client._plan import plan_batches
from conch_client._wire import infer_request, read_output

if TYPE_CHECKING:
    from collections.abc import Sequence

    from conch_contract import ModelInfo
    from numpy.typing import NDArray
    from tritonclient.grpc import service_pb2 as pb

    from conch_client._jobs import LoadedModel
    from conch_client._rows import Rows
    from conch_client._steps import Steps
    from conch_client._tokenizer import Token


@dataclass(frozen=True, slots=True)
class TokenOptions:
    """How texts become tokens; see ``Client.embed``."""

    prompt: str | None = None
    prompt_name: str | None = None
    truncate: Truncate = "end"

    def __post_init__(self) -> None:
        check_truncate(self.truncate)

    def tokens(
        self, model: LoadedModel, texts: list[str], *, add_special_tokens: bool, limit: int | None
    ) -> Steps[list[list[Token]]]:
        """The tokens of the texts with their prompt, or the first ``limit`` of them."""
        prompt = model.info.prompt_text(self.prompt, self.prompt_name)
        texts = [prompt + text for text in texts]
        return model.tokenizer.tokens(texts, add_special_tokens=add_special_tokens, limit=limit)

    def rows(self, model: LoadedModel, inputs: Inputs, *, add_special_tokens: bool = True) -> Steps[Rows]:
        """Token rows of the input; ids that were given stay as they are."""
        limit, rules = model.info.max_length, model.info.interaction
        if inputs.rows is not None:
            rows = _check_rows(inputs.rows, self, limit)
            return rows if rules is None else marked_rows(rules, rows.tolist())
        prompt = model.info.prompt_text(self.prompt, self.prompt_name)
        texts = [prompt + text for text in inputs.texts or ()] if prompt else inputs.texts or []
        if rules is not None and add_special_tokens:
            query = self.prompt_name == QUERY_PROMPT
            ids = yield from encode_marked(model.tokenizer, rules, texts, query=query, truncate=self.truncate)
            return marked_rows(rules, ids)
        return (
            yield from model.tokenizer.encode(
                texts, max_length=limit, truncate=self.truncate, add_special_tokens=add_special_tokens
            )
        )


@dataclass(frozen=True, slots=True)
class VectorOptions:
    """What the vectors shall look like; see ``Client.embed``."""

    dimensions: int | None = None
    normalize: bool = True

    def __post_init__(self) -> None:
        check_count(self.dimensions, "dimensions")

    def check(self, model: ModelInfo) -> None:
        """Raises InvalidInputError for what this model cannot give."""
        if model.normalized and not self.normalize:
            raise InvalidInputError(
                f"{model.name} is served with normalisation built in; for raw vectors export it with --no-normalize"
            )
        if self.dimensions is None or self.dimensions == model.dimension:
            return
        if self.dimensions > (model.dimension or 0):
            raise InvalidInputError(f"dimensions must be at most {model.dimension} for {model.name}")
        if model.matryoshka_dimensions is None:
            raise InvalidInputError(
                f"{model.name} was not trained for shorter vectors (Matryoshka); leave dimensions out, "
                f"or ask for {model.dimension}"
            )

    def apply(self, vectors: NDArray[np.float32], model: ModelInfo) -> NDArray[np.float32]:
        """Cuts and normalises, as asked for."""
        cut = self.dimensions is not None and self.dimensions < vectors.shape[1]
        if cut and model.matryoshka_centred:
            vectors = vectors - vectors.mean(axis=1, keepdims=True)
        if cut:
            vectors = vectors[:, : self.dimensions]
        if (cut and model.normalized) or (self.normalize and not model.normalized):
            lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
            vectors = vectors / np.maximum(lengths, np.finfo(np.float32).tiny)
        return vectors


class EmbedJob:
    """Embeds token rows; see ``_jobs.Job``."""

    def __init__(self, model: ModelInfo, rows: Rows, vectors: VectorOptions) -> None:
        self._model = model
        self._rows = rows
        self._vectors = vectors
        self.parts = plan_batches(rows.lengths, max_rows=model.max_rows)

    @classmethod
    def prepare(
        cls, model: LoadedModel, inputs: Inputs, tokens: TokenOptions, vectors: VectorOptions
    ) -> Steps[EmbedJob]:
        """The job for these texts."""
        vectors.check(model.info)
        return cls(model.info, (yield from tokens.rows(model, inputs)), vectors)

    def request(self, part: NDArray[np.intp]) -> pb.ModelInferRequest:
        """The request for these rows."""
        return infer_request(self._model, self._rows.matrix(part))

    def result(self, responses: Sequence[pb.ModelInferResponse]) -> NDArray[np.float32]:
        """float32 [n, dimension], in the order of the input."""
        dimension = self._model.dimension or 0
        vectors = np.empty((len(self._rows), dimension), np.float32)
        for part, response in zip(self.parts, responses, strict=True):
            vectors[part] = read_output(response, self._model.output, (len(part), dimension))
        refuse_rows(self._model, np.isnan(vectors).any(axis=1))
        return self._vectors.apply(vectors, self._model)


def refuse_rows(model: ModelInfo, spoilt: NDArray[np.bool_]) -> None:
    """Raises InvalidInputError for rows that the server could not compute, told by their NaN: bool [n]."""
    refused = np.flatnonzero(spoilt)
    if refused.size:
        raise InvalidInputError(
            f"{model.name} refused text(s) {refused.tolist()}: a token id is outside its vocabulary; "
            "use its own tokenizer (Client.tokenize), or send the text"
        )


def _check_rows(rows: Rows, options: TokenOptions, max_length: int) -> Rows:
    if options.prompt is not None or options.prompt_name is not None:
        raise InvalidInputError("a prompt goes before a text; tokenise it with the text, or send the text itself")
    longest = int(rows.lengths.argmax())
    if rows.lengths[longest] > max_length:
        raise InvalidInputError(
            f"texts[{longest}] has {rows.lengths[longest]} token ids and the model takes {max_length}; "
            "cut it (mind its special tokens), or send the text"
        )
    return rows
