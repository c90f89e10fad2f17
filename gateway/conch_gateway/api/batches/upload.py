"""Reads `multipart/form-data` as a stream: the file is passed on in pieces and is never in memory as a whole."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from conch_gateway.errors import InvalidValueError, MalformedBodyError, WrongTypeError

FORM_BYTES = 64 * 1024
"""Most bytes of all fields of a form other than its file."""
_HOW = "send multipart/form-data with a file in the field 'file' and the purpose 'batch'"


@dataclass(slots=True)
class Form:
    """The fields of a form other than the content of its file.

    Attributes:
        fields: values by name.
        filename: name that the client states; None if there was no file.
    """

    fields: dict[str, str] = field(default_factory=dict)
    filename: str | None = None


async def read_form(request: Request, store: Callable[[bytes], Awaitable[None]]) -> Form:
    """Read a form and hand the content of its field `file` to `store`.

    Raises:
        WrongTypeError: the body is not a form, or has no file.
        MalformedBodyError: it cannot be parsed.
        InvalidValueError: it has two files, or its fields are too long.
    """
    reader = _Reader(_boundary(request))
    async for content in request.stream():
        if content:
            reader.feed(content)
        if reader.content:
            await store(bytes(reader.content))
            reader.content.clear()
    reader.finish()
    if reader.form.filename is None:
        raise WrongTypeError(f"file: Field required; {_HOW}", param="file")
    return reader.form


def _boundary(request: Request) -> bytes:
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    if kind != b"multipart/form-data" or not options.get(b"boundary"):
        raise WrongTypeError(f"the body is not a form; {_HOW}")
    return options[b"boundary"]


class _Reader:
    """Parser of the form, fed with one piece of the body after another."""

    def __init__(self, boundary: bytes) -> None:
        self.form = Form()
        self.content = bytearray()
        self._name = ""
        self._is_file = self._ended = False
        self._value = bytearray()
        self._field_bytes = 0
        self._header: list[bytes] = [b"", b""]
        self._disposition = b""
        callbacks = {
            "on_part_begin": self._begin,
            "on_header_field": lambda data, start, end: self._add_to_header(0, data[start:end]),
            "on_header_value": lambda data, start, end: self._add_to_header(1, data[start:end]),
            "on_header_end": self._end_header,
            "on_headers_finished": self._open,
            "on_part_data": lambda data, start, end: self._take(data[start:end]),
            "on_part_end": self._close,
            "on_end": self._end,
        }
        try:
            self._parser = MultipartParser(boundary, callbacks)  # type: ignore[arg-type]
        except FormParserError as error:
            raise MalformedBodyError(f"the form cannot be read: {error}") from error

    def feed(self, data: bytes) -> None:
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise MalformedBodyError(f"the form cannot be read: {error}") from error

    def finish(self) -> None:
        if not self._ended:
            raise MalformedBodyError("the form ends before its last boundary; send it again")

    def _begin(self) -> None:
        self._disposition = b""
        self._value.clear()

    def _add_to_header(self, part: int, data: bytes) -> None:
        self._count(len(data))
        self._header[part] += data

    def _end_header(self) -> None:
        name, value = self._header
        self._header = [b"", b""]
        if name.lower() == b"content-disposition":
            self._disposition = value

    def _open(self) -> None:
        _, options = parse_options_header(self._disposition)
        self._name = options.get(b"name", b"").decode(errors="replace")
        self._is_file = self._name == "file"
        if not self._is_file:
            return
        if self.form.filename is not None:
            raise InvalidValueError("file: the form has two files; send one at a time", param="file")
        self.form.filename = options.get(b"filename", b"").decode(errors="replace")

    def _take(self, data: bytes) -> None:
        if self._is_file:
            self.content += data
            return
        self._count(len(data))
        self._value += data

    def _count(self, size: int) -> None:
        """Count bytes beside the file: headers of fields, and values."""
        self._field_bytes += size
        if self._field_bytes > FORM_BYTES:
            raise InvalidValueError(f"the fields beside the file have more than {FORM_BYTES} bytes; {_HOW}")

    def _close(self) -> None:
        if not self._is_file:
            self.form.fields[self._name] = self._value.decode(errors="replace")

    def _end(self) -> None:
        self._ended = True
