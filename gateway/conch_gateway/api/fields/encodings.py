"""Encodings of vectors in answers: numbers of five types, or base64 of their bytes, all computed by numpy.

Bytes are little-endian float32 unless the caller asks for another order, or for floats of 16 bits.

int8 is `round(127 x)` and uint8 the same plus 128: one fixed range for all vectors, which have length 1, so that
distances between them mean something without a calibration set. Bits are `x >= 0`, the most significant first;
ubinary holds eight to a byte, binary the same minus 128.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from conch_gateway.errors import InvalidValueError

NumberType = Literal["float", "int8", "uint8", "binary", "ubinary"]
OutputType = Literal["float", "base64", "int8", "uint8", "binary", "ubinary"]
FloatType = Literal["float32", "float16", "bfloat16"]
ByteOrder = Literal["native", "little", "big"]
Encoded = list[NDArray[Any]] | list[str]

_ORDERS: Mapping[ByteOrder, Literal["=", "<", ">"]] = {"native": "=", "little": "<", "big": ">"}


def encode(vectors: NDArray[np.float32], output_type: OutputType) -> Encoded:
    """Return one item for each row of float32 [n, dimension]; `base64` is of the little-endian float32 numbers.

    Raises:
        InvalidValueError: bits are asked for, and the dimension is no multiple of 8.
    """
    return in_base64(vectors) if output_type == "base64" else list(numbers(vectors, output_type))


def in_base64(rows: Iterable[NDArray[Any]], byte_order: ByteOrder = "little") -> list[str]:
    """Return base64 of each row's bytes, row-major."""
    ordered = (np.ascontiguousarray(row, dtype=row.dtype.newbyteorder(_ORDERS[byte_order])) for row in rows)
    return [base64.b64encode(row.data).decode("ascii") for row in ordered]


def floats(row: NDArray[np.float32], float_type: FloatType) -> NDArray[Any]:
    """Return a float32 array in another floating type, rounded to the nearest; bfloat16 as uint16 of its bits."""
    if float_type == "float32":
        return row
    if float_type == "float16":
        with np.errstate(over="ignore"):  # beyond its range it is infinite, as everywhere
            return row.astype(np.float16)
    bits = np.ascontiguousarray(row).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)  # half to even, on the half that is kept


def numbers(vectors: NDArray[np.float32], number_type: NumberType) -> NDArray[Any]:
    """Return the vectors, float32 [n, dimension], in another type: [n, dimension], or bits [n, dimension / 8].

    Raises:
        InvalidValueError: bits are asked for, and the dimension is no multiple of 8.
    """
    if number_type == "float":
        return np.ascontiguousarray(vectors)
    if number_type in {"int8", "uint8"}:
        steps = np.clip(np.rint(127.0 * vectors), -127, 127).astype(np.int8)
        return steps if number_type == "int8" else _flipped(steps.view(np.uint8))
    if (dimension := vectors.shape[1]) % 8:
        msg = f"bits need a dimension that is a multiple of 8, and it is {dimension}; ask for another with dimensions"
        raise InvalidValueError(msg, param="dimensions")
    packed = np.packbits(vectors >= 0, axis=1)
    return packed if number_type == "ubinary" else _flipped(packed).view(np.int8)


def _flipped(values: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Flip the highest bit: in two's complement the same as adding or subtracting 128."""
    return np.bitwise_xor(values, np.uint8(128))
