"""JSON Lines files; positions are bytes. Strings stay strings, also those that look like dates."""

from __future__ import annotations

import json
import re
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from conch_batch.inputs.files import File

_ROWS = 4096
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


class JsonLines:
    """Every key of any object is a column. Blank lines are not rows."""

    def scan(self, file: File) -> tuple[pa.Schema, NDArray[np.int64]]:
        """Read the whole file, a few thousand rows at a time."""
        places: list[int] = []
        schemas: list[pa.Schema] = []
        objects: list[dict[str, Any]] = []
        at = 0
        with file.open() as content:
            for number, line in enumerate(content, 1):
                if line.strip():
                    places.append(at)
                    objects.append(_object(line, number))
                at += len(line)
                if len(objects) == _ROWS:
                    schemas.append(_schema(objects, number))
                    objects = []
        schemas.append(_schema(objects, len(places)))
        return pa.unify_schemas(schemas, promote_options="permissive"), np.array([*places, at], np.int64)

    def read(self, file: File, begin: int, end: int, schema: pa.Schema) -> pa.Table:
        """The rows between two bytes."""
        with file.open() as content:
            content.seek(begin)
            lines = content.read(end - begin).split(b"\n")  # as when they were counted: JSON may have \r between values
        return _table(lines, schema)

    def tables(self, file: File, schema: pa.Schema) -> Iterator[pa.Table]:
        """All rows, a few thousand at a time."""
        with file.open() as content:
            while lines := list(islice(content, _ROWS)):
                yield _table(lines, schema)


def _table(lines: Iterable[bytes], schema: pa.Schema) -> pa.Table:
    rows = pa.array([_object(line, None) for line in lines if line.strip()], pa.struct(schema))
    return pa.Table.from_arrays(rows.flatten(), schema=schema)


def _object(line: bytes, number: int | None) -> dict[str, Any]:
    where = "" if number is None else f"line {number} "
    try:
        found = json.loads(line.decode("utf-8-sig"), object_hook=_typed)  # of bytes, it would guess the encoding
    except json.JSONDecodeError as error:
        raise ValueError(f"{where}is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{where}is no JSON object")
    if _SURROGATE.search(line) and not _is_unicode(found):
        raise ValueError(f"{where}has half of a surrogate pair, such as \\ud83d, which is no character: remove it")
    return found


def _typed(found: dict[str, Any]) -> dict[str, Any]:
    """An object in which those without keys are null: Parquet has no type for them."""
    return {key: None if value == {} else value for key, value in found.items()}


def _is_unicode(found: dict[str, Any]) -> bool:
    try:
        json.dumps(found, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def _schema(objects: list[dict[str, Any]], number: int) -> pa.Schema:
    """The columns of some objects, each with a type that fits all its values."""
    try:
        return pa.schema(list(pa.array(objects, pa.struct([]) if not objects else None).type))
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise ValueError(f"before line {number} a key has values of different kinds: {error}") from error
