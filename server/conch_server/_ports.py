"""A port that is taken is said before anything starts, with the setting that changes it."""

from __future__ import annotations

import errno
import socket

from conch_server._errors import PortTakenError, ServingError


def check_free(host: str, port: int, setting: str) -> None:
    """Raise PortTakenError when something listens on `host:port`; `setting` is the variable to change."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # As servers do: a port whose last connections are still closing is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise PortTakenError(f"port {port} on {host} is already in use; set {setting} to a free one") from error
            raise ServingError(f"cannot listen on {host}:{port} ({error.strerror}); change {setting}") from error
