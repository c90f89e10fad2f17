"""sentence-transformers' Router, which has modules of its own for queries. Hides router_config.json."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from conch_export.checkpoints.known_keys import ROUTER, ROUTER_PARAMETERS
from conch_export.checkpoints.settings import Settings, read_settings
from conch_export.errors import SourceError, UnsupportedError

if TYPE_CHECKING:
    from pathlib import Path

FILE = "router_config.json"
_SIDES = ("query", "document")


@dataclass(frozen=True)
class Routes:
    """The modules of a Router, as modules.json has those of other models.

    Attributes:
        query: for queries.
        document: for documents.
        default: the side of texts of which nothing is said.
    """

    query: list[Settings]
    document: list[Settings]
    default: str


def read_routes(folder: Path) -> Routes:
    """The routes of a checkpoint whose first module is a Router.

    Raises:
        SourceError: a route names a module that is not listed.
        UnsupportedError: there are other routes than for queries and documents, or modules that are in neither.
    """
    # Before sentence-transformers 5 its name was Asym, and that of the file config.json.
    stated = read_settings(folder / FILE) or read_settings(folder / "config.json")
    stated.refuse_unknown(ROUTER)
    structure, parameters = stated.inner("structure"), stated.inner("parameters")
    parameters.refuse_unknown(ROUTER_PARAMETERS)
    if set(structure) != set(_SIDES) or parameters.get("route_mappings"):
        found = f"{', '.join(structure) or 'nothing'} by {parameters.get('route_mappings') or 'name'}"
        raise UnsupportedError(f"{stated.place} has routes for {found}: not built (known: {', '.join(_SIDES)} by name)")
    first = next(iter(structure)) if parameters.of("allow_empty_key", bool, default=True) else "document"
    query, document = (_modules(stated, structure.texts(side)) for side in _SIDES)
    routed = {module["path"] for module in (*query, *document)}
    if unrouted := [name for name in stated.inner("types") if name not in routed]:
        raise UnsupportedError(f"{stated.place} lists a module that is in no route, {unrouted[0]!r}: take it out")
    default = parameters.of("default_route", str, first)
    if default not in _SIDES:
        raise UnsupportedError(f"{stated.place} states default_route = {default!r} (known: {', '.join(_SIDES)})")
    return Routes(query, document, default)


def _modules(stated: Settings, names: list[str]) -> list[Settings]:
    types = stated.inner("types")
    if missing := [name for name in names if name not in types]:
        raise SourceError(
            f"{stated.place} names modules without a type, {', '.join(missing)}: fetch the checkpoint again"
        )
    return [Settings(f"{stated.place}, {name}", {"type": types[name], "path": name}) for name in names]
