"""Whose key a request brings: keys of a file, which is read again when it changes, and keys of the environment."""

from __future__ import annotations

import hmac
import logging
import secrets
from collections.abc import Mapping
from time import monotonic

from pydantic import ValidationError

from conch_gateway.auth.keys import Key, digest, read_keys
from conch_gateway.errors import KeysError
from conch_gateway.settings import GatewaySettings

_log = logging.getLogger("conch_gateway")
_LOOK_AGAIN_S = 1.0
_OWN = "conch"


class Keyring:
    """The keys that count now.

    Attributes:
        closed: whether a key is needed for more than administration.
        own: a key that lives as long as this object, for the process itself.
    """

    def __init__(self, settings: GatewaySettings) -> None:
        """Read all keys; raises KeysError when that cannot be."""
        self._path = settings.api_keys_file
        self.closed = settings.api_keys is not None or self._path is not None
        self.own = secrets.token_urlsafe(32)
        self._fixed = [Key(name=_OWN, sha256=digest(self.own)), *_admin_key(settings), *_keys_of_environment(settings)]
        self._from_file: list[Key] = []
        self._seen: tuple[int, int, int] | None = None
        self._looked_at = float("-inf")
        if self._path is not None:
            self._from_file, self._seen = read_keys(self._path), self._state()

    @property
    def has_admin(self) -> bool:
        """Whether anybody may administrate."""
        self._refresh()
        return any(key.admin for key in (*self._fixed, *self._from_file))

    def find(self, secret: str) -> Key | None:
        """Return the key, or None for a stranger; takes as long for any stranger."""
        self._refresh()
        given, found = digest(secret), None
        for key in (*self._fixed, *self._from_file):
            if hmac.compare_digest(key.sha256, given):
                found = key
        return found

    def _refresh(self) -> None:
        if self._path is None or monotonic() - self._looked_at < _LOOK_AGAIN_S:
            return
        self._looked_at = monotonic()
        state = self._state()
        if state == self._seen:
            return
        self._seen = state
        try:
            self._from_file = read_keys(self._path)
        except KeysError as error:  # the old ones count until somebody has mended the file
            _log.error("the keys are as they were: %s", error)
        else:
            _log.info("keys read again: %d", len(self._from_file))

    def _state(self) -> tuple[int, int, int] | None:
        try:
            status = self._path.stat() if self._path is not None else None
        except OSError:
            return None
        return status and (status.st_ino, status.st_mtime_ns, status.st_size)


def presented_key(headers: Mapping[bytes, bytes]) -> str | None:
    """Return what a request brings: `Authorization: Bearer KEY`, `api-key: KEY` or `x-api-key: KEY`."""
    scheme, _, token = headers.get(b"authorization", b"").strip().partition(b" ")
    if scheme.lower() == b"bearer" and token:
        return token.strip().decode("latin-1")
    other = headers.get(b"api-key") or headers.get(b"x-api-key")
    return other.strip().decode("latin-1") if other else None


def _admin_key(settings: GatewaySettings) -> list[Key]:
    if settings.admin_key is None:
        return []
    return [Key(name="admin", sha256=digest(settings.admin_key.get_secret_value()), admin=True)]


def _keys_of_environment(settings: GatewaySettings) -> list[Key]:
    """Read `NAME:KEY` and `NAME:KEY:admin`, divided by commas."""
    if settings.api_keys is None:
        return []
    keys = []
    for number, entry in enumerate(settings.api_keys.get_secret_value().split(","), 1):
        name, _, rest = entry.strip().partition(":")
        secret, _, role = rest.partition(":")
        try:
            if not secret or role not in {"", "admin"}:
                raise ValueError
            keys.append(Key(name=name, sha256=digest(secret), admin=role == "admin"))
        except (ValueError, ValidationError):  # told without what was given: it may be a secret
            msg = f"CONCH_API_KEYS: entry {number} must be NAME:KEY or NAME:KEY:admin, divided by commas"
            raise KeysError(msg) from None
    return keys
