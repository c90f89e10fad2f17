"""API keys in a file: this module alone knows the file's format, and creates, reads and revokes keys.

The file has a hash of each key and never the key. SHA-256 without salt or stretching is enough, because the keys are
256 random bits made here, not passwords that somebody chose.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
import stat
from collections.abc import Iterable, Iterator
from datetime import date
from hashlib import sha256
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from conch_gateway.errors import KeysError
from conch_gateway.operators_file import read_operators_file
from conch_gateway.validation import sentence

_PREFIX = "conch-"  # by which scanners for leaked secrets can recognise a key
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")


def _name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError("must be 1 to 64 letters of a-z, digits, dots, - _ or @, and begin with a letter or digit")
    return name


class Key(BaseModel):
    """A key and its permissions; None is no limit.

    Attributes:
        name: stands for its holder in logs and quotas.
        sha256: of the key, in hexadecimal.
        created: day on which it was made.
        admin: whether it may administrate.
        models: names that it opens. A model's own name opens it by any alias; an alias opens it by that alias only.
        requests_per_minute: how many requests it may send.
        tokens_per_minute: how many tokens its requests may have, those of cached texts included.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    name: Annotated[str, AfterValidator(_name)]
    sha256: str = Field(pattern="^[0-9a-f]{64}$", repr=False)
    created: date = Field(default_factory=date.today)
    admin: bool = False
    models: frozenset[str] | None = None
    requests_per_minute: int | None = Field(None, ge=1)
    tokens_per_minute: int | None = Field(None, ge=1)

    def opens(self, *names: str) -> bool:
        """Whether it is for a model that has one of these names."""
        return self.models is None or not self.models.isdisjoint(names)


_NO_SECRET = "0" * 64  # no secret is known to have this hash
ANYBODY = Key(name="anybody", sha256=_NO_SECRET)
"""Stands in where no key is needed."""
NOBODY = Key(name="nobody", sha256=_NO_SECRET, models=frozenset())
"""Stands in where a key is needed and none was sent: open paths are served, but name no model."""


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    keys: list[Key]


def digest(secret: str) -> str:
    """Return the hash that the file holds instead of a key."""
    return sha256(secret.encode()).hexdigest()


def read_keys(path: Path) -> list[Key]:
    """Read all keys.

    Raises:
        KeysError: the file is missing or invalid, anybody may write to it, or two keys have one name.
    """
    try:
        content = read_operators_file(path)
        if path.stat().st_mode & stat.S_IWOTH:
            msg = f"anybody on this machine may write to {path}, and so make keys; run: chmod o-w {path}"
            raise KeysError(msg)
        keys = _File.model_validate_json(content).keys
    except OSError as error:
        msg = f"cannot read the keys in {path}: {error.strerror}; make one with: conch keys create NAME"
        raise KeysError(msg) from error
    except ValidationError as error:
        msg = f"{path} is no file of keys ({_first(error)}); mend it, or make another with: conch keys create NAME"
        raise KeysError(msg) from error
    if len({key.name for key in keys}) != len(keys):
        raise KeysError(f"{path} has two keys of one name; revoke one with: conch keys revoke NAME")
    return keys


def create_key(
    path: Path,
    name: str,
    *,
    admin: bool = False,
    models: Iterable[str] = (),
    requests_per_minute: int | None = None,
    tokens_per_minute: int | None = None,
) -> str:
    """Add a key to the file, which is made if there is none, and return the key: it cannot be recovered later.

    Raises:
        KeysError: the name is taken or cannot be one, or the file cannot be written.
    """
    secret = _PREFIX + secrets.token_urlsafe(32)
    try:
        key = Key(
            name=name,
            sha256=digest(secret),
            admin=admin,
            models=frozenset(models) or None,
            requests_per_minute=requests_per_minute,
            tokens_per_minute=tokens_per_minute,
        )
    except ValidationError as error:
        raise KeysError(_first(error)) from error
    with _changing(path):
        known = read_keys(path) if path.exists() else []
        if any(key.name == name for key in known):
            raise KeysError(f"{path} has a key named {name!r} already; revoke it first, or take another name")
        _write(path, [*known, key])
    return secret


def revoke_key(path: Path, name: str) -> None:
    """Take a key out of the file; a running gateway notices within a second.

    Raises:
        KeysError: there is no key of that name, or the file cannot be read or written.
    """
    with _changing(path):
        known = read_keys(path)
        left = [key for key in known if key.name != name]
        if len(left) == len(known):
            names = ", ".join(key.name for key in known) or "none"
            raise KeysError(f"{path} has no key named {name!r}; it has: {names}")
        _write(path, left)


def _first(error: ValidationError) -> str:
    """Name the first of the values that are wrong, without showing it."""
    return sentence(error.errors(include_url=False, include_input=False)[0])


@contextlib.contextmanager
def _changing(path: Path) -> Iterator[None]:
    """Lock out other commands from reading the file until it has been replaced."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # The folder is locked: every change replaces the file itself.
        descriptor = os.open(path.parent, os.O_RDONLY)
    except OSError as error:
        raise _unwritable(path, error) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _write(path: Path, keys: list[Key]) -> None:
    """Replace the file in one step; only its owner may read a new one."""
    content = _File(keys=keys).model_dump_json(indent=2, exclude_none=True) + "\n"
    # One name for all: the next command replaces what a killed one has left behind.
    temporary = path.with_name(f".{path.name}.new")
    try:
        temporary.unlink(missing_ok=True)
        # O_EXCL: the mode applies only to a file that is created here, and a link that lies in wait is not followed.
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                _keep_access(path, descriptor)
                file.write(content)
                file.flush()
                # The rename may reach the disk before the content: a crash could leave a file without keys.
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
    except OSError as error:
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError) -> KeysError:
    return KeysError(f"cannot write {path}: {error.strerror}; make room or name another file with --file")


def _keep_access(path: Path, descriptor: int) -> None:
    """Give the new file the old one's mode and owner: a gateway that cannot read it would keep revoked keys valid."""
    with contextlib.suppress(FileNotFoundError, PermissionError):
        old = path.stat()
        os.fchmod(descriptor, stat.S_IMODE(old.st_mode))
        os.fchown(descriptor, old.st_uid, old.st_gid)
