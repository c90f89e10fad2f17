"""What is said of a file whose bytes are not UTF-8."""

from __future__ import annotations

from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from conch_batch.inputs.files import File


def not_utf8(file: File) -> str:
    """The place of the first byte that is not UTF-8, and how to convert the file.

    No character has a line end among its bytes, so that lines are read one by one.
    """
    at = 0
    with file.open() as content:
        for number, line in enumerate(content, 1):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                place = f"byte {at + error.start} (line {number}) is 0x{line[error.start]:02x}"
                is_utf16 = line.startswith((BOM_UTF16_LE, BOM_UTF16_BE))
                return f"it is not in UTF-8: {place}; {_fix('UTF-16' if is_utf16 else 'WINDOWS-1252')}"
            at += len(line)
    return f"it is not in UTF-8; {_fix('WINDOWS-1252')}"


def _fix(encoding: str) -> str:
    return f"convert it from the encoding that it is in, as with iconv -f {encoding} -t UTF-8 OLD > NEW"
