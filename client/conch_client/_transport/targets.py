"""The servers of a client as its user names them: addresses, and names whose records are addresses."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from typing import TYPE_CHECKING, NamedTuple

from conch_contract import InvalidInputError

from conch_client._transport.address import Address, is_port

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from conch_client._transport.address import TLS

_DNS = "dns:///"


class Name(NamedTuple):
    """A host whose every record is a server, and their port."""

    host: str
    port: int

    def addresses(self, records: Iterable[str], *, tls: TLS | bool) -> list[Address]:
        """The addresses of its servers; certificates are for the name."""
        return [
            Address(f"[{record}]:{self.port}" if _is_v6(record) else f"{record}:{self.port}", tls, self.host)
            for record in dict.fromkeys(records)
        ]


@dataclass(frozen=True)
class Targets:
    """Where the servers are.

    Attributes:
        addresses: Those that stay as they are.
        names: Those that are looked up, again and again.
        tls: How all are connected to.
    """

    addresses: tuple[Address, ...]
    names: tuple[Name, ...]
    tls: TLS | bool

    @classmethod
    def parse(cls, url: str | Sequence[str], *, tls: TLS | bool) -> Targets:
        """Reads ``host:port``, several of them divided by commas or in a list, and ``dns:///host:port``.

        Raises:
            InvalidInputError: One of them is no address.
        """
        parts = [part.strip() for part in (url.split(",") if isinstance(url, str) else url)]
        unique = dict.fromkeys(parts)
        names = tuple(_name(part) for part in unique if part.startswith("dns:"))
        addresses = tuple(Address(part, tls) for part in unique if not part.startswith("dns:"))
        if not unique:
            raise InvalidInputError("url must name a server at least, as in '127.0.0.1:8001'")
        return cls(addresses, names, tls)

    @property
    def is_one(self) -> bool:
        """Whether there is one server, now and ever."""
        return len(self.addresses) == 1 and not self.names


def _name(part: str) -> Name:
    host, _, port = part.removeprefix(_DNS).rpartition(":")
    if not part.startswith(_DNS) or not host or not is_port(port) or "/" in host:
        raise InvalidInputError(f"url must be dns:///host:port to look up all addresses of a host: {part!r}")
    try:
        host.encode("idna")  # as looking it up does
    except UnicodeError as error:
        raise InvalidInputError(f"url has a host that no name server can know: {part!r} ({error})") from error
    return Name(host.strip("[]"), int(port))


def _is_v6(record: str) -> bool:
    return isinstance(ip_address(record), IPv6Address)
