"""Fields that vLLM has on every path of its own: how vectors are put into bytes, and what is cut from texts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PlainValidator, WithJsonSchema

from conch_gateway.api.fields.body import RequestBody
from conch_gateway.api.fields.common import Flag, Unserved, invalid, wrong_type
from conch_gateway.api.fields.encodings import ByteOrder, FloatType, floats, in_base64
from conch_gateway.settings import Truncate


def _prompt_tokens(value: object) -> int:
    if type(value) is not int:
        raise wrong_type("must be an integer")
    if value != -1:
        raise invalid("must be -1, the model's limit: texts are not cut to other lengths")
    return value


class CutRequest(RequestBody):
    """What is cut from texts beyond the model's limit."""

    truncate_prompt_tokens: Annotated[int, PlainValidator(_prompt_tokens), WithJsonSchema({"const": -1})] | None = (
        Field(None, description="vLLM's: -1 cuts a text beyond the model's limit; other lengths are refused.")
    )
    truncation_side: Literal["left", "right"] | None = Field(
        None, description="vLLM's: the side at which truncate_prompt_tokens cuts; the right one where left out."
    )
    add_special_tokens: Annotated[
        Any, Unserved("texts without special tokens are not served; send token ids instead", taken=(True,))
    ] = Field(None, description="vLLM's; false is refused.")

    @property
    def cut(self) -> Truncate | None:
        """What is cut, if anything is said of it."""
        if self.truncate_prompt_tokens is None:
            return None
        return "start" if self.truncation_side == "left" else "end"


class VectorsRequest(RequestBody):
    """What vectors look like: their length, and their bytes."""

    normalize: Flag | None = Field(
        None,
        description="Vectors of length 1; false leaves them as the model gives them, and is refused for models that "
        "give them normalised.",
    )
    use_activation: Flag | None = Field(None, description="vLLM's newer name for `normalize`.")
    encoding_format: Literal["float", "base64"] = Field(
        "float", description="Numbers, or base64 of their bytes: little-endian float32, or what other fields say."
    )
    embed_dtype: FloatType = Field("float32", description="vLLM's: type of the numbers in base64.")
    endianness: ByteOrder = Field("little", description="vLLM's: order of the bytes in base64; native is little here.")

    @property
    def unit_length(self) -> bool:
        """Whether vectors shall have length 1."""
        return False not in (self.normalize, self.use_activation)

    def packed(self, rows: Iterable[NDArray[Any]]) -> list[Any]:
        """Return the rows as they are, or base64 of each."""
        if self.encoding_format == "float":
            return list(rows)
        return in_base64(map(self._typed, rows), self.endianness)

    def _typed(self, row: NDArray[Any]) -> NDArray[Any]:
        return floats(row, self.embed_dtype) if row.dtype == np.float32 else row


class ActivationRequest(RequestBody):
    """Whether scores are squeezed into 0..1."""

    use_activation: Flag | None = Field(None, description="vLLM's: false leaves scores as the model gives them.")
    activation: Flag | None = Field(None, description="An older name of use_activation.")
    softmax: Flag | None = Field(None, description="An older name of use_activation.")

    @property
    def leaves_raw(self) -> bool:
        """Whether scores are to be left as the model gives them."""
        return False in (self.use_activation, self.activation, self.softmax)
