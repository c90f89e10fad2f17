"""Options of calls: of tokenising, and of vectors."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from conch_contract import (
    QUERY_PROMPT,
    InvalidInputError,
    Truncate,
    approximated_space_of,
    check_space,
    space_of,
    units,
)

from conch_client._errors import PROMPT, Item
from conch_client._inputs import Inputs, check_count, check_text, check_truncate
from conch_client._tokenization.late_interaction import encode_marked, marked_rows

if TYPE_CHECKING:
    import numpy as np
    from conch_contract import ModelInfo
    from numpy.typing import NDArray

    from conch_client._requests.job import LoadedModel
    from conch_client._tokenization.rows import Rows
    from conch_client._tokenization.steps import Steps
    from conch_client._tokenization.tokenizer import Token


@dataclass(frozen=True, slots=True)
class TokenOptions:
    """Options of tokenising: prompt and truncation; see ``Client.embed``."""

    prompt: str | None = None
    prompt_name: str | None = None
    truncate: Truncate = "end"

    def __post_init__(self) -> None:
        check_truncate(self.truncate)
        for text, item in ((self.prompt, PROMPT), (self.prompt_name, Item("prompt_name"))):
            if text is not None:
                check_text(text, item)

    def tokens(
        self, model: LoadedModel, texts: list[str], *, add_special_tokens: bool, limit: int | None
    ) -> Steps[list[list[Token]]]:
        """The tokens of the texts with their prompt, or the first ``limit`` of them."""
        prompt = model.info.prompt_text(self.prompt, self.prompt_name)
        texts = [prompt + text for text in texts]
        add_special_tokens = add_special_tokens and not self.looks_up(model.info)
        return model.tokenizer.tokens(texts, add_special_tokens=add_special_tokens, limit=limit)

    def rows(self, model: LoadedModel, inputs: Inputs, *, add_special_tokens: bool = True) -> Steps[Rows]:
        """Token rows of the input; ids that were given stay as they are."""
        limit, rules = model.info.max_length, model.info.interaction
        if inputs.rows is not None:
            rows = self._checked(inputs.rows, limit)
            return rows if rules is None else marked_rows(rules, rows.tolist())
        prompt = model.info.prompt_text(self.prompt, self.prompt_name)
        texts = [prompt + text for text in inputs.texts or ()] if prompt else inputs.texts or []
        if rules is not None and add_special_tokens:
            query = self.prompt_name == QUERY_PROMPT
            ids = yield from encode_marked(
                model.tokenizer, rules, texts, query=query, truncate=self.truncate, prompt=prompt
            )
            return marked_rows(rules, ids, ids.truncated)
        read, shortened = self._read(texts, prompt, model.info.max_characters)
        rows = yield from model.tokenizer.encode(
            read,
            max_length=limit,
            truncate=self.truncate,
            add_special_tokens=add_special_tokens and not self.looks_up(model.info),
            prompt=prompt,
        )
        return replace(rows, truncated=tuple(sorted({*rows.truncated, *shortened}))) if shortened else rows

    def pooled_rows(self, model: LoadedModel, inputs: Inputs) -> Steps[Rows]:
        """Token rows of the input that know which tokens of their prompt are not pooled.

        Ids that were given are pooled whole: they do not say where a prompt ends.

        Raises:
            InvalidInputError: As `rows`; or a text has no token beside its prompt.
        """
        rows = yield from self.rows(model, inputs)
        prompt = "" if inputs.texts is None else model.info.prompt_text(self.prompt, self.prompt_name)
        if not prompt or model.info.pools_prompt:
            return rows
        length = yield from model.tokenizer.prompt_length(prompt, max_length=model.info.max_length)
        if rows.lengths[shortest := int(rows.lengths.argmin())] <= length:
            raise Item.text(shortest).error("has no token beside its prompt; leave it out")
        return replace(rows, prompt=length)

    def looks_up(self, model: ModelInfo) -> bool:
        """Whether the texts are queries that the model's ``query_model`` answers; token ids never are."""
        return model.looks_up(self.prompt, self.prompt_name)

    def _read(self, texts: list[str], prompt: str, characters: int | None) -> tuple[list[str], list[int]]:
        """The characters of each text with its prompt that the model reads, and which texts have more."""
        if characters is None:
            return texts, []
        long = [index for index, text in enumerate(texts) if len(text) > characters]
        if long and self.truncate == "none":
            raise Item.text(long[0]).error(
                f"has {len(texts[long[0]])} characters and the model reads {characters}; shorten it"
            )
        if self.truncate != "start":
            return [text[:characters] for text in texts], long
        if long and len(prompt) >= characters:
            raise PROMPT.error(
                f"leaves no room for the text: the model reads {characters} characters of both; shorten the prompt, or "
                "pass truncate='end'"
            )
        dropped = (max(0, len(text) - characters) for text in texts)
        return [prompt + text[len(prompt) + count :] for text, count in zip(texts, dropped, strict=True)], long

    def _checked(self, rows: Rows, max_length: int) -> Rows:
        if self.prompt is not None or self.prompt_name is not None:
            raise InvalidInputError("a prompt goes before a text; tokenise it with the text, or send the text itself")
        longest = int(rows.lengths.argmax())
        if rows.lengths[longest] > max_length:
            raise Item.text(longest).error(
                f"has {rows.lengths[longest]} token ids and the model takes {max_length}; "
                "cut it (mind its special tokens), or send the text"
            )
        return rows


@dataclass(frozen=True, slots=True)
class VectorOptions:
    """Options of vectors: length, normalisation, vector space; see ``Client.embed``."""

    dimensions: int | None = None
    normalize: bool = True
    expect_space: str | None = None

    def __post_init__(self) -> None:
        check_count(self.dimensions, "dimensions")

    def check(self, model: ModelInfo) -> None:
        """Raises InvalidInputError for vectors that this model cannot give, SpaceError for those of another space."""
        actual, approximated = (
            space(model, self.dimensions, normalize=self.normalize) for space in (space_of, approximated_space_of)
        )
        check_space(self.expect_space, actual, model.name, approximated)
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
                f"the model was not trained for shorter vectors (Matryoshka); leave dimensions out, "
                f"or ask for {model.dimension}"
            )

    def apply(self, vectors: NDArray[np.float32], model: ModelInfo) -> NDArray[np.float32]:
        """Cuts and normalises vectors, float32 [n, dimension]."""
        cut = self.dimensions is not None and self.dimensions < vectors.shape[1]
        if cut and model.matryoshka_centred:
            vectors = vectors - vectors.mean(axis=1, keepdims=True)
        if cut:
            vectors = vectors[:, : self.dimensions]
        if (cut and model.normalized) or (self.normalize and not model.normalized):
            vectors = units(vectors)
        return vectors
