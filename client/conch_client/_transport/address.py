"""Where a server is, and the channel options that let a connection survive restarts and idle hours."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

import grpc
from conch_contract import InvalidInputError

_OPTIONS = (
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # A restarted server is found again within half a second; gRPC's own back-off grows to two minutes. What gRPC calls
    # the minimum is how long one attempt to connect may take, so it stays long enough for TLS across a slow network.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
    ("grpc.min_reconnect_backoff_ms", 5_000),
    # Servers answer pings that come more often than every five minutes with GOAWAY. The timeout also becomes
    # TCP_USER_TIMEOUT, which is what notices a peer that vanished while a request was under way.
    ("grpc.keepalive_time_ms", 310_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    # gRPC shares connections (and their back-off) between channels of a process; ours must not inherit another's.
    ("grpc.use_local_subchannel_pool", 1),
)


@dataclass(frozen=True)
class TLS:
    """Certificates for an encrypted connection, as PEM files; without any, the system's roots are trusted.

    Attributes:
        root_certificates: Authorities to trust instead of the system's.
        private_key: The client's own key, for mutual TLS.
        certificate_chain: The client's own certificates, for mutual TLS.
    """

    root_certificates: str | Path | None = None
    private_key: str | Path | None = None
    certificate_chain: str | Path | None = None

    def credentials(self) -> grpc.ChannelCredentials:
        """The credentials in gRPC's own type; reads the files."""
        paths = (self.root_certificates, self.private_key, self.certificate_chain)
        return grpc.ssl_channel_credentials(*(None if path is None else Path(path).read_bytes() for path in paths))


def is_port(text: str) -> bool:
    """Whether it is the number of a TCP port."""
    return text.isdecimal() and 0 < int(text) < 2**16


@dataclass(frozen=True)
class Address:
    """Where the server is and how to connect to it.

    Attributes:
        url: ``host:port``, or any name that gRPC resolves.
        tls: Whether the connection is encrypted, and how.
        certified: The name that the server's certificate is for, where it is another than that of ``url``.
    """

    url: str
    tls: TLS | bool = False
    certified: str | None = None

    def __post_init__(self) -> None:
        if not self._names_a_server:
            raise InvalidInputError(
                f"url must be host:port of Triton's gRPC endpoint, as in '127.0.0.1:8001': {self.url!r}"
            )

    @property
    def options(self) -> tuple[tuple[str, int | str], ...]:
        """The options of a channel; one to this machine never goes through the proxy that `http_proxy` names."""
        proxy = (("grpc.enable_http_proxy", 0),) if self._is_loopback() else ()
        name = (("grpc.ssl_target_name_override", self.certified),) if self.tls and self.certified else ()
        return (*_OPTIONS, *proxy, *name)

    @property
    def _names_a_server(self) -> bool:
        if self.url.startswith(("http://", "https://", "grpc://", "grpcs://")):
            return False
        if ":/" in self.url or self.url.startswith("unix"):  # names of other kinds that gRPC resolves
            return True
        host, _, port = self.url.rpartition(":")
        if not host or self.url.endswith("]"):
            return bool(self.url and self.tls)  # without a port gRPC takes 443, which only a proxy with TLS has
        return is_port(port)

    def _is_loopback(self) -> bool:
        host = self.url.rpartition(":")[0].strip("[]")
        try:
            return host == "localhost" or ip_address(host).is_loopback
        except ValueError:  # a name, or a target such as dns:///triton:8001
            return False

    def credentials(self) -> grpc.ChannelCredentials | None:
        """Credentials of an encrypted connection; None for one that is not."""
        if not self.tls:
            return None
        return (self.tls if isinstance(self.tls, TLS) else TLS()).credentials()
