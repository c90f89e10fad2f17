"""The keys that are valid now: those of the settings, and those of a file, which is read again when it changes."""

from __future__ import annotations

import hmac
import logging
import secrets
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic

from pydantic import SecretStr, ValidationError

from conch_gateway.auth.keys import ANYBODY, Key, digest, read_keys
from conch_gateway.errors import KeysError
from conch_gateway.settings import GatewaySettings, header_secret

_log = logging.getLogger("conch_gateway")
_LOOK_AGAIN_S = 1.0


class Keyring:
    """Finds the key that belongs to a secret.

    Attributes:
        closed: whether a key is needed for more than administration.
        own: the secret of a key for this process itself, as long as it lives.
    """

    def __init__(self, settings: GatewaySettings, clock: Callable[[], float] = monotonic) -> None:
        """Read all keys; raises KeysError when that fails."""
        self._path = settings.api_keys_file
        self._clock = clock
        self.closed = settings.api_keys is not None or self._path is not None
        self.own = secrets.token_urlsafe(32)
        self._fixed = [Key(name="conch", sha256=digest(self.own))]
        if settings.admin_key is not None:
            self._fixed.append(Key(name="admin", sha256=digest(settings.admin_key.get_secret_value()), admin=True))
        self._fixed += _keys_of(settings.api_keys)
        self._version = self._file_version()  # before reading: a change in between is read next time
        self._from_file = self._distinct([] if self._path is None else read_keys(self._path))
        self._looked_at = float("-inf")

    @property
    def has_admin(self) -> bool:
        """Whether there is a key that may administrate."""
        return any(key.admin for key in self._keys())

    def find(self, secret: str) -> Key | None:
        """Return the key of a secret, or None; takes the same time for any unknown secret."""
        given, found = digest(secret), None
        # No early end, so that the time does not tell how far down the list a key is.
        for key in self._keys():
            if hmac.compare_digest(key.sha256, given):
                found = key
        return found

    def holder(self, name: str) -> Key | None:
        """Return the key of that name, or None; where no key is needed, an empty name stands for anybody."""
        if not name:
            return None if self.closed else ANYBODY
        return next((key for key in self._keys() if key.name == name), None)

    def _keys(self) -> list[Key]:
        if self._path is not None and self._clock() - self._looked_at >= _LOOK_AGAIN_S:
            self._looked_at = self._clock()
            if (version := self._file_version()) != self._version:
                # Set before reading: a file that cannot be read is reported once, and not again until it changes.
                self._version = version
                self._read_again(self._path)
        return [*self._fixed, *self._from_file]

    def _read_again(self, path: Path) -> None:
        try:
            self._from_file = self._distinct(read_keys(path))
        except KeysError as error:  # the old keys stay valid until the file has been mended
            _log.error("the keys are as they were: %s", error)
        else:
            _log.info("keys read again: %d", len(self._from_file))

    def _distinct(self, from_file: list[Key]) -> list[Key]:
        """Return the keys; raises KeysError where two have one name, by which quotas, files and batches know them."""
        names = Counter(key.name for key in (*self._fixed, *from_file))
        if twice := [name for name, count in names.items() if count > 1]:
            msg = (
                f"two keys are named {twice[0]!r}; keys of the file and of CONCH_API_KEYS need names of their own, and "
                "conch is the name of the gateway's, admin that of CONCH_ADMIN_KEY: rename one"
            )
            raise KeysError(msg)
        return from_file

    def _file_version(self) -> tuple[int, int, int] | None:
        try:
            status = self._path.stat() if self._path is not None else None
        except OSError:
            return None
        # Changes replace the file, so its number changes even where two of them fall into one tick of the clock.
        return status and (status.st_ino, status.st_mtime_ns, status.st_size)


def _keys_of(setting: SecretStr | None) -> Iterator[Key]:
    """Read `NAME:KEY` and `NAME:KEY:admin`, divided by commas."""
    entries = [] if setting is None else setting.get_secret_value().split(",")
    for number, entry in enumerate(entries, 1):
        name, _, rest = entry.strip().partition(":")
        secret, _, role = rest.partition(":")
        try:
            if role not in {"", "admin"}:
                raise ValueError
            yield Key(name=name, sha256=digest(header_secret(secret)), admin=role == "admin")
        except (ValueError, ValidationError):  # the message leaves out the entry, which may be a secret
            msg = f"CONCH_API_KEYS: entry {number} must be NAME:KEY or NAME:KEY:admin in ASCII, divided by commas"
            raise KeysError(msg) from None
