"""Reads an upstream's answers: as many as the texts, each in its place, of one length and finite, or nothing of it."""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from operator import itemgetter
from typing import Any, TypeVar

import numpy as np
import orjson
from conch_client import Ranked, SparseVector

from conch_gateway.jobs import Answer, Vectors

Given = TypeVar("Given")


class NonsenseError(Exception):
    """The answer is not what was asked for; the message says why."""


def read_dense(content: bytes, count: int) -> Answer[Vectors]:
    """Return float32 [count, dimension]; raises NonsenseError."""
    answer = _read(content, count, _dense)
    return Answer(np.stack(_alike(answer.given, length=0)), answer.tokens)


def read_late(content: bytes, count: int) -> Answer[list[Vectors]]:
    """Return float32 [tokens, dimension] for each text; raises NonsenseError."""
    answer = _read(content, count, _late)
    return Answer(_alike(answer.given, length=1), answer.tokens)


def read_sparse(content: bytes, count: int) -> Answer[list[SparseVector]]:
    """Return term ids and weights for each text; raises NonsenseError."""
    answer = _read(content, count, _sparse)
    _check_finite(vector.values for vector in answer.given)
    return answer


def read_ranking(content: bytes, documents: int, count: int) -> Answer[list[Ranked]]:
    """Return the `count` best of the documents; raises NonsenseError."""
    with _reading():
        told = orjson.loads(content)
        ranked = [Ranked(_index(item), float(item["relevance_score"])) for item in told["results"]]
        tokens = _tokens(told)
    if len({index for index, _ in ranked}) != count or len(ranked) != count:
        msg = f"it ranked {len(ranked)} documents instead of {count}"
        raise NonsenseError(msg)
    if not all(index < documents for index, _ in ranked):
        msg = "it ranked documents that it was not sent"
        raise NonsenseError(msg)
    if not all(math.isfinite(score) for _, score in ranked):
        msg = "its scores are not finite"
        raise NonsenseError(msg)
    return Answer(ranked, tokens)


@contextmanager
def _reading() -> Iterator[None]:
    """Make one error of all that JSON of another shape raises."""
    try:
        yield
    except (LookupError, TypeError, ValueError, OverflowError, AttributeError) as error:
        msg = "its answer cannot be read"
        raise NonsenseError(msg) from error


def _read(content: bytes, count: int, vector_of: Callable[[Any], Given]) -> Answer[list[Given]]:
    with _reading():
        told = orjson.loads(content)
        items = sorted(told["data"], key=itemgetter("index"))
        places = [_index(item) for item in items]
        tokens = _tokens(told)
    if places != list(range(count)):
        msg = f"it answered {len(items)} vectors for {count} texts"
        raise NonsenseError(msg)
    with _reading():
        return Answer([vector_of(item) for item in items], tokens)


def _dense(item: dict[str, Any]) -> Vectors:
    vector = _floats(item["embedding"])
    if vector.ndim != 1 or not vector.size:
        msg = "not a list of numbers"
        raise ValueError(msg)
    return vector


def _late(item: dict[str, Any]) -> Vectors:
    vectors = _floats(item["embedding"])
    if isinstance(item["embedding"], str):
        rows, dimension = item["shape"]
        if min(rows, dimension) < 1:  # numpy would work out a -1 by itself
            msg = "not a shape"
            raise ValueError(msg)
        vectors = vectors.reshape(rows, dimension)
    if vectors.ndim != 2 or not vectors.size:
        msg = "not a list of lists of numbers"
        raise ValueError(msg)
    return vectors


def _sparse(item: dict[str, Any]) -> SparseVector:
    indices, values = np.asarray(item["embedding"]["indices"]), _floats(item["embedding"]["values"])
    if not indices.size:
        indices = indices.astype(np.int64)
    ascend = indices.ndim == 1 and indices.dtype == np.int64 and (np.diff(indices, prepend=-1) > 0).all()
    if not ascend or indices.shape != values.shape:
        msg = "not a sparse vector"
        raise ValueError(msg)
    return SparseVector(indices, values)


def _floats(value: Any) -> Vectors:
    """Decode base64 of little-endian float32, or take lists of numbers; raises ValueError or TypeError."""
    if isinstance(value, str):
        try:
            return np.frombuffer(base64.b64decode(value, validate=True), "<f4")
        except binascii.Error as error:
            raise ValueError(str(error)) from error
    with np.errstate(over="ignore"):  # what does not fit is infinite, and found so
        return np.asarray(value, np.float32)


def _alike(vectors: list[Vectors], length: int) -> list[Vectors]:
    """Return them, if they are all finite and equally long along one axis."""
    _check_finite(vectors)
    if len({vector.shape[length] for vector in vectors}) > 1:
        msg = "its vectors are not of one length"
        raise NonsenseError(msg)
    return vectors


def _check_finite(vectors: Iterable[Vectors]) -> None:
    if not all(np.isfinite(vector).all() for vector in vectors):
        msg = "its vectors have numbers that are not finite"
        raise NonsenseError(msg)


def _index(item: dict[str, Any]) -> int:
    index = item["index"]
    if type(index) is not int or index < 0:
        msg = "not an index"
        raise ValueError(msg)
    return index


def _tokens(told: dict[str, Any]) -> int:
    tokens = (told.get("usage") or {}).get("total_tokens")
    return tokens if type(tokens) is int and tokens > 0 else 0
