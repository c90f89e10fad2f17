"""Writes the generated pages of this folder, or with `--check` says which are out of date.

A page is a function that returns its text; `PAGES` names the file of each.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import get_args, get_origin

import conch_gateway
from conch_client import AsyncClient
from conch_gateway import GatewaySettings
from conch_server import ServerSettings
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

FOLDER = Path(__file__).parent


def openapi() -> str:
    """Return the gateway's OpenAPI document."""
    app = conch_gateway.create_app(GatewaySettings.model_construct(), AsyncClient())
    return json.dumps(app.openapi(), indent=2, ensure_ascii=False) + "\n"


def settings() -> str:
    """Return the page of all settings."""
    lines = [
        "# Settings",
        "",
        "Generated from the code by `make docs`.",
        "A command-line flag wins over the environment, the environment over the default.",
    ]
    for title, kind in (("Gateway", GatewaySettings), ("Server", ServerSettings)):
        lines += ["", f"## {title}", "", "| variable | values | default | meaning |", "| --- | --- | --- | --- |"]
        lines += _rows(kind)
    return "\n".join(lines) + "\n"


def _rows(kind: type[BaseSettings]) -> Iterator[str]:
    prefix = kind.model_config.get("env_prefix", "")
    for name, field in kind.model_fields.items():
        default = "required" if field.is_required() else _shown(field.get_default(call_default_factory=True))
        cells = (f"`{prefix}{name.upper()}`", _values(field), default, field.description or "")
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _values(field: FieldInfo) -> str:
    kind = field.annotation
    if type(None) in get_args(kind):
        kind = next(option for option in get_args(kind) if option is not type(None))
    if get_origin(kind) is not None:
        return ", ".join(map(str, get_args(kind)))
    return getattr(kind, "__name__", str(kind)).lower()


def _shown(value: object) -> str:
    return "unset" if value is None else f"`{value}`"


PAGES: dict[str, Callable[[], str]] = {
    "openapi.json": openapi,
    "settings.md": settings,
}


def main(arguments: list[str] | None = None) -> int:
    """Write or check every page; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a page is out of date")
    check = parser.parse_args(arguments).check
    stale = []
    for name, page in PAGES.items():
        path, text = FOLDER / name, page()
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            stale.append(name)
            if not check:
                path.write_text(text, encoding="utf-8")
    if stale:
        print(f"out of date: {', '.join(stale)}; run make docs" if check else f"wrote {', '.join(stale)}")
    return int(check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
