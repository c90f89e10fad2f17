"""The servers of a client with what is known of each, and the `Replica` of each that its user sees."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

from conch_client._errors import UnavailableError
from conch_client._transport.catalog import Catalog, Listing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from conch_contract import ModelInfo, Task

    from conch_client._transport.address import Address
    from conch_client.routing import Member, Replica

Connection = TypeVar("Connection")


class Server(Generic[Connection]):
    """A connection, and what was last read from it."""

    __slots__ = ("address", "catalog", "connection")

    def __init__(self, address: Address, connect: Callable[[Address], Connection]) -> None:
        self.address = address
        self.connection = connect(address)
        self.catalog = Catalog()

    def has(self, info: ModelInfo) -> bool:
        """Whether it has that very model."""
        return self.catalog.has(info)


def listing(members: Iterable[Member[Server[Connection]]]) -> Listing:
    """The models of these servers; the server with least to do comes first.

    A voided reading counts only where there is no other: a server that hangs has least to do, and perhaps another
    version.
    """
    ordered = sorted(members, key=lambda member: member.load.tokens / member.standing.share)
    valid = [member for member in ordered if member.server.catalog.is_valid()]
    return Listing([member.server.catalog.reading for member in valid or ordered])


def know(
    members: Sequence[Member[Server[Connection]]], name: str | None, tasks: Sequence[Task], asked_at: float
) -> bool:
    """Whether readings are enough to find a model, for a call that began at ``asked_at``.

    A model counts as missing or not ready only by readings that are newer than the call.
    """
    found = listing([member for member in members if member.server.catalog.is_current()]).best(name, tasks)
    if found is not None and found.ready:
        return True
    return all(member.server.catalog.is_newer_than(asked_at) for member in members)


def refuse_what_is_away(
    members: Sequence[Member[Server[Connection]]],
    serving: Sequence[Member[Server[Connection]]],
    name: str | None,
    tasks: Sequence[Task],
) -> None:
    """Raise UnavailableError for a model that only servers had, when last read, that are out of service now."""
    if listing(serving).best(name, tasks) is not None:
        return
    away = [one.server.catalog for one in members if one not in serving or not one.server.catalog.is_valid()]
    if (info := Listing([catalog.reading for catalog in away]).best(name, tasks)) is not None:
        raise UnavailableError(f"only servers that are out of service have {info.name}; try again later")


def seen(member: Member[Server[Connection]]) -> Replica:
    """The state of a server as users see it."""
    catalog = member.server.catalog
    return member.seen(member.server.address.url, catalog.reading.instances if catalog.is_valid() else {})
