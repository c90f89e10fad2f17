"""Failures between this machine and the Hub, as SourceErrors that name the fix."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from huggingface_hub import constants
from huggingface_hub.errors import (
    EntryNotFoundError,
    FileMetadataError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from conch_export.errors import SourceError, file_of

if TYPE_CHECKING:
    from collections.abc import Iterator

_REFUSED = {401, 403, 404, 410, 451}
_LIBRARY = HfHubHTTPError.__bases__[0].__module__.partition(".")[0]
TransportError: type[Exception] = [
    kind for kind in HfHubHTTPError.__mro__ if kind.__module__.partition(".")[0] == _LIBRARY
][-1]
"""Root of a connection's errors; huggingface_hub has requests for HTTP before 1.0, httpx in 1.x and httpx2 since."""


class NotFoundError(SourceError):
    """The checkpoint is neither in the cache nor to be had from the Hub; another source may have it."""


def incomplete(hub_id: str, there: str) -> NotFoundError:
    """The error for a checkpoint that is not known to be in the cache as a whole, while the Hub cannot be reached.

    Args:
        hub_id: of the checkpoint.
        there: what the cache has or lacks of it.
    """
    fix = f"fetch it where there is a network (`conch preload {hub_id}`), or carry it here (`conch bundle`)"
    return NotFoundError(f"the local cache {there} of {hub_id!r}, and the Hub cannot be reached: {fix}")


@contextmanager
def explained(hub_id: str, revision: str | None) -> Iterator[None]:
    """Turn what huggingface_hub, its connections and the disk raise into a SourceError."""
    try:
        yield
    except (HFValidationError, TransportError, OSError) as error:
        raise _explain(error, hub_id, revision) from error


def is_refusal(error: Exception) -> bool:
    """Whether the Hub could be reached and has decided."""
    return isinstance(error, HfHubHTTPError) and _status(error) in _REFUSED


def is_interruption(error: BaseException) -> bool:
    """Whether the connection failed, rather than that the Hub answered with an error."""
    return isinstance(error, TransportError) and not isinstance(error, HfHubHTTPError)


def _explain(error: Exception, hub_id: str, revision: str | None) -> SourceError:
    if isinstance(error, HFValidationError):
        return NotFoundError(f"{hub_id!r} is neither a folder, a known name nor a Hub id: {error}")
    if isinstance(error, LocalEntryNotFoundError):
        wanted = f"{hub_id!r} at revision {revision!r}" if revision else f"{hub_id!r}"
        return NotFoundError(
            f"{wanted} is not in the local cache and the Hub cannot be reached ({_cause(error)}): give a folder, set "
            "HF_ENDPOINT to a mirror, or carry it here from where there is a network (`conch bundle`)"
        )
    if isinstance(error, HfHubHTTPError):
        return _refusal(error, hub_id, revision)
    return SourceError(_interruption(error, hub_id))


def _refusal(error: HfHubHTTPError, hub_id: str, revision: str | None) -> SourceError:
    if isinstance(error, GatedRepoError):
        return SourceError(f"{hub_id!r} is gated: accept its terms on its page, then set HF_TOKEN to a token of yours")
    if isinstance(error, RepositoryNotFoundError):
        return NotFoundError(f"the Hub has no {hub_id!r}: check the name, or set HF_TOKEN if it is private")
    if isinstance(error, RevisionNotFoundError):
        return SourceError(
            f"{hub_id!r} has no revision {revision!r}: check --revision, or if conch.lock asks for it, take what there "
            "is now with --update-lock"
        )
    if isinstance(error, EntryNotFoundError):
        return SourceError(f"the Hub has lost a file of {hub_id!r}: set HF_ENDPOINT to another mirror")
    if is_refusal(error):
        return SourceError(f"the Hub refuses {hub_id!r} ({_status(error)}): check the name, or set HF_TOKEN")
    return SourceError(f"the Hub failed with {_status(error)} while {hub_id!r} was fetched: run it again later")


def _interruption(error: Exception, hub_id: str) -> str:
    again = "run it again, it goes on where it stopped"
    if is_interruption(error):
        return f"the connection broke off while {hub_id!r} was fetched ({type(error).__name__}): {again}"
    if isinstance(error, FileMetadataError):
        return f"{constants.ENDPOINT} does not answer as the Hub does ({error}): check HF_ENDPOINT"
    if isinstance(error, OSError) and error.errno is not None:
        where = file_of(error) or constants.HF_HUB_CACHE
        fix = "give this user the right to it" if isinstance(error, PermissionError) else "make room"
        return f"cannot write to {where}: {error.strerror}; {fix} or set HF_HOME, then {again}"
    return f"{hub_id!r} arrived incomplete: {again}, or set HF_ENDPOINT to another mirror"


def _status(error: HfHubHTTPError) -> int:
    return 0 if error.response is None else error.response.status_code


def _cause(error: BaseException) -> str:
    while earlier := error.__cause__ or error.__context__:
        error = earlier
    return type(error).__name__
