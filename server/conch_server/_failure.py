"""Diagnosis of a tritonserver that could not start or has ended: one sentence with the fix, from its status and log."""

from __future__ import annotations

import re
import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

# Messages of release 24.10 for a model that was not loaded and for a configuration that could not be read. The end of
# the line is the reason, in which line breaks are written as two characters.
NOT_LOADED = re.compile(r"\"failed to load '(?P<model>[^']+)' version \d+: (?P<reason>.*)\"$")
NOT_READ = re.compile(r"\"Poll failed for model directory '(?P<model>[^']+)': (?P<reason>.*)\"$")
INCOMPLETE = re.compile(r"\"Invalid argument: ensemble (?P<model>\S+) contains models that are (?P<reason>.*)\"$")
MISPRINT = re.compile(r"Error parsing text-format inference\.ModelConfig: (?P<reason>.*)$")
# Prefixes of a reason: Triton's kind of error, and class and model of an error of our backend.
KIND = re.compile(r"^(Internal|Invalid argument|Not found|Unavailable): |^ConfigError: model '[^']+': ")
# Lines of level "I", tables and the absence of a GPU do not explain a failure.
NOISE = re.compile(r"^(\+|\||$|\S+ I )|CUDA|CudaDriver|pinned")
MODELS_NAMED = 3

AGAIN = "export it again with `conch export`, or move its folder out of the model repository"
FIXES = {
    "shared memory": "make /dev/shm larger; every model instance needs 1 MiB of it (docker: --shm-size)",
    "No space left on device": "make room on the disk",
    "backend library": "serve it with docker compose: the embedded Triton has the backend onnxruntime alone",
    "Permission denied": "make its files readable for this user",
    "bad_alloc": "give it more memory; `conch plan` says how much it takes",
    "BFCArena": "give it more memory; `conch plan` says how much it takes",
}


def explain(status: int, log: Sequence[str]) -> str:
    """Return why tritonserver did not start.

    Args:
        status: Exit status of its warden: that of tritonserver as a shell reports it (128 + signal); negative if the
            warden itself was killed.
        log: Lines that tritonserver wrote.
    """
    failures = _failed_models(log)
    if failures:
        named = [f"{model} ({reason})" for model, reason in list(failures.items())[:MODELS_NAMED]]
        more = f" and {len(failures) - MODELS_NAMED} more" if len(failures) > MODELS_NAMED else ""
        return f"Triton cannot load {', '.join(named)}{more}; {_fix(' '.join(failures.values()))}"
    return ending(status, log)


def ending(status: int, log: Sequence[str]) -> str:
    """Return how tritonserver ended once it had started; arguments are those of `explain`.

    A model that it could not load later has not ended it.
    """
    if status < 0:
        return f"the warden of Triton was ended by {_name(-status)}"
    if status > 128:
        return f"Triton was ended by {_name(status - 128)}"
    last = [line for line in log if not NOISE.search(line)][-1:]
    return ": ".join([f"Triton ended with status {status}", *last])


def has_failed(log: Sequence[str]) -> bool:
    """Return whether this start cannot succeed any more, because Triton has failed to load a model."""
    return any(NOT_LOADED.search(line) or NOT_READ.search(line) for line in log)


def _failed_models(log: Sequence[str]) -> dict[str, str]:
    """Return reasons by model; ensembles only if the log names no failure of the models they are made of."""
    failures: dict[str, str] = {}
    misprint = ""
    for line in log:
        if found := MISPRINT.search(line):
            misprint = f": {found['reason'].rstrip('.')}"
        elif found := NOT_LOADED.search(line) or NOT_READ.search(line):
            failures.setdefault(found["model"], _plain(found["reason"]) + misprint)
            misprint = ""
    if failures:
        return failures
    return {found["model"]: found["reason"] for line in log if (found := INCOMPLETE.search(line))}


def _plain(reason: str) -> str:
    """Return the reason without its prefixes and without the traceback."""
    text = reason.partition("\\n\\nAt:")[0]
    while found := KIND.match(text):
        text = text[found.end() :]
    return text.replace("\\n", " ").rstrip(". ")


def _name(number: int) -> str:
    """Return the signal's name; for SIGKILL with its most likely cause."""
    name = next((known.name for known in signal.Signals if known == number), f"signal {number}")
    return f"{name}, as by the kernel when memory runs out" if number == signal.SIGKILL else name


def _fix(reasons: str) -> str:
    return next((fix for sign, fix in FIXES.items() if sign in reasons), AGAIN)
