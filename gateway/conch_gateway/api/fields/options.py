"""Fields beside the texts that several dialects share: what to do with texts, vectors and scores."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, cast, get_args

import numpy as np
from conch_contract import Truncate
from numpy.typing import NDArray
from pydantic import (
    BeforeValidator,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    PlainValidator,
    TypeAdapter,
    ValidationError,
    WithJsonSchema,
)
from pydantic_core import CoreSchema, core_schema

from conch_gateway.api.fields.body import RequestBody, invalid, optional, wrong_type
from conch_gateway.api.fields.encodings import ByteOrder, FloatType, OutputType, floats, in_base64
from conch_gateway.api.fields.texts import list_of


@dataclass(frozen=True, slots=True)
class Unserved:
    """Marks a field that is refused, because to ignore it would change the answer.

    Attributes:
        of: the provider whose field it is.
        instead: what the caller can do instead.
        taken: the value that changes nothing, and is accepted.
    """

    of: str
    instead: str
    taken: str | bool | int | None = None

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Check with `_check`."""
        return core_schema.no_info_plain_validator_function(self._check)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Describe what is accepted, and what to do instead."""
        kind = {"type": "null"} if self.taken is None else {"enum": [self.taken]}
        return {**kind, "description": f"{self.of}: {self._reason}."}

    def _check(self, value: object) -> object:
        if value == self.taken and type(value) is type(self.taken):
            return value
        raise invalid(self._reason)

    @property
    def _reason(self) -> str:
        served = "not served" if self.taken is None else f"only {json.dumps(self.taken)} is served"
        return f"{served}; {self.instead}"


Truncation = bool | Truncate


def truncation(truncate: Truncation | None, direction: str | None = None) -> Truncate | None:
    """Return what to cut, None where the request does not say.

    True, or a direction alone, cuts the end, or the start if the direction is Left; false cuts none.
    """
    if isinstance(truncate, str) or (truncate is None and direction is None):
        return truncate
    if truncate is False:
        return "none"
    return "start" if direction == "Left" else "end"


def _truncation(value: object) -> Truncation:
    if isinstance(value, str) and value.lower() in _WORDS:
        return cast("Truncate", value.lower())
    if not isinstance(value, str | bool):
        raise wrong_type("must be none, start, end, true or false")
    try:
        return _FLAG.validate_python(value)
    except ValidationError as error:
        raise invalid("must be none, start, end, true or false") from error


def _output_types(value: object) -> tuple[OutputType, ...]:
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list) or not set(map(type, names)) <= {str}:
        raise wrong_type("must be a name, or a list of names")
    if not names:
        raise invalid("is empty; name at least one, or leave it out for float")
    if not set(names) <= set(get_args(OutputType)):
        raise invalid(f"must be of {', '.join(get_args(OutputType))}")
    return tuple(dict.fromkeys(names))


def _prompt_tokens(value: object) -> int:
    if type(value) is not int:
        raise wrong_type("must be an integer")
    if value != -1:
        raise invalid("must be -1, the model's limit: texts are not cut to other lengths")
    return value


_WORDS = get_args(Truncate)
_TYPE = {"enum": list(get_args(OutputType))}

Name = Annotated[str, Field(max_length=256)]
# "true", "1", "yes", "on" and their opposites too: servers in Python take them, and so clients of theirs send them.
Flag = Annotated[bool, Field(strict=False)]
_FLAG: TypeAdapter[bool] = TypeAdapter(Flag)
Direction = Annotated[
    Literal["Left", "Right"] | None,
    BeforeValidator(lambda value: value.title() if isinstance(value, str) else value),
    Field(description="TEI's: the side at which a text beyond the model's limit is cut, unless `truncate` is false."),
]
_TruncationField = Annotated[
    Truncation,
    PlainValidator(_truncation),
    WithJsonSchema({"anyOf": [{"type": "boolean"}, {"enum": [*_WORDS, *map(str.upper, _WORDS)]}]}),
]
TruncateOption = Annotated[
    _TruncationField | None,
    Field(
        description="What to cut from a text beyond the model's limit: none (answer 400), start or end; true is end, "
        "false is none."
    ),
]
OutputTypesField = Annotated[
    tuple[OutputType, ...], PlainValidator(_output_types), WithJsonSchema({"anyOf": [_TYPE, list_of(_TYPE)]})
]
PromptTokens = Annotated[int, PlainValidator(_prompt_tokens), WithJsonSchema({"const": -1})]

_MAY_BE_LEFT_OUT = "may be left out where there is one"
AnyModel = Annotated[Name | None, Field(description=f"Id of a model; {_MAY_BE_LEFT_OUT}.")]
EmbeddingModel = Annotated[Name | None, Field(description=f"Id of an embedding model; {_MAY_BE_LEFT_OUT}.")]
RerankingModel = Annotated[Name | None, Field(description=f"Id of a reranking model; {_MAY_BE_LEFT_OUT}.")]
PromptName = Annotated[Name | None, Field(description="Name of the model's prompt to put before each text.")]
Dimensions = Annotated[
    int | None, Field(ge=1, description="Length of the vectors, for models that were trained to be shortened.")
]
Normalize = Annotated[
    Flag | None,
    Field(
        description="Vectors of length 1; false leaves them as the model gives them, and is refused for models that "
        "give them normalised."
    ),
]
RawScores = Annotated[Flag, Field(description="Scores as the model gives them, not squeezed into 0..1.")]


class TruncationOptions(RequestBody):
    """vLLM's fields that say what is cut from texts beyond the model's limit."""

    truncate_prompt_tokens: PromptTokens | None = optional(
        "vLLM's: -1 cuts a text beyond the model's limit; other lengths are refused."
    )
    truncation_side: Literal["left", "right"] | None = optional(
        "vLLM's: the side at which a text beyond the model's limit is cut; with truncate_prompt_tokens the right one "
        "where left out."
    )
    add_special_tokens: Annotated[
        Any, Unserved("vLLM's", "send token ids, which get no special tokens", taken=True)
    ] = None

    @property
    def cut(self) -> Truncate | None:
        """What to cut, or None where the request does not say."""
        if self.truncate_prompt_tokens is None and self.truncation_side is None:
            return None
        return "start" if self.truncation_side == "left" else "end"


class VectorOptions(RequestBody):
    """Fields of OpenAI's and vLLM's that say how long vectors are, and how their numbers are sent."""

    normalize: Normalize = None
    use_activation: Flag | None = optional("vLLM's newer name for `normalize`.")
    encoding_format: Literal["float", "base64"] = Field(
        "float", description="Numbers, or base64 of their bytes: little-endian float32, or what other fields say."
    )
    embed_dtype: FloatType = Field("float32", description="vLLM's: type of the numbers in base64.")
    endianness: ByteOrder = Field("little", description="vLLM's: order of the bytes in base64; native is little here.")

    @property
    def normalize_words(self) -> tuple[bool | None, ...]:
        """All fields that say whether vectors have length 1."""
        return self.normalize, self.use_activation

    @property
    def unit_length(self) -> bool:
        """Whether vectors are scaled to length 1."""
        return False not in self.normalize_words

    def packed(self, rows: Iterable[NDArray[Any]]) -> list[Any]:
        """Return the rows as they are, or base64 of each."""
        if self.encoding_format == "float":
            return list(rows)
        typed = (floats(row, self.embed_dtype) if row.dtype == np.float32 else row for row in rows)
        return in_base64(typed, self.endianness)


_LONGEST_INSTRUCTION = 4096  # characters; it is tokenised with every document


def _template_arguments(value: object) -> str | None:
    arguments: dict[str, Any] = value if isinstance(value, dict) else {"": value}
    if not all(name in {"instruction", "instruct"} and isinstance(text, str) for name, text in arguments.items()):
        raise wrong_type('must be an object such as {"instruction": "..."}; templates take nothing else')
    if len(arguments) > 1:
        raise invalid("must have one of instruction and instruct, which say the same")
    if any(len(text) > _LONGEST_INSTRUCTION for text in arguments.values()):
        raise invalid(f"must have an instruction of at most {_LONGEST_INSTRUCTION} characters")
    return next(iter(arguments.values()), None)


_INSTRUCTION = {"type": "string", "maxLength": _LONGEST_INSTRUCTION}
_TemplateArguments = Annotated[
    str | None,
    PlainValidator(_template_arguments),
    WithJsonSchema(
        {
            "type": "object",
            "properties": {"instruction": _INSTRUCTION, "instruct": _INSTRUCTION},
            "additionalProperties": False,
            "maxProperties": 1,
        }
    ),
]
Instruction = Annotated[str | None, Field(max_length=_LONGEST_INSTRUCTION)]


class InstructionOptions(RequestBody):
    """Fields of vLLM, SGLang and DashScope that say what a reranker is to look for."""

    instruction: Instruction = optional(
        "What to look for, for rerankers whose prompt has a place for it; others refuse it."
    )
    instruct: Instruction = optional("SGLang's and DashScope's name for `instruction`.")
    chat_template_kwargs: _TemplateArguments | None = optional("vLLM's older way to send an `instruction`.")

    @property
    def stated_instruction(self) -> str | None:
        """The instruction, whichever field it came in."""
        fields = (self.instruction, self.instruct, self.chat_template_kwargs)
        return next((each for each in fields if each is not None), None)


class ScoreOptions(RequestBody):
    """vLLM's fields that say whether scores are squeezed into 0..1."""

    use_activation: Flag | None = optional("vLLM's: false leaves scores as the model gives them.")
    activation: Flag | None = optional("An older name of use_activation.")
    softmax: Flag | None = optional("An older name of use_activation.")

    @property
    def leaves_raw(self) -> bool:
        """Whether scores are to be left as the model gives them."""
        return False in (self.use_activation, self.activation, self.softmax)
