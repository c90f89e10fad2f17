"""Errors of the embedded Triton; every message names the fix.

ServingError
├── InstallationError   this machine or this environment lacks something
├── RepositoryError     the model repository is missing or has no weights
├── PortTakenError      another process listens on a port that Triton needs
└── StartError          tritonserver ran and gave up; the message says why and names its log
"""

from __future__ import annotations


class ServingError(Exception):
    """Root of this package's errors."""


class InstallationError(ServingError):
    """The platform, the C library, the wheel, the stub or a package that the backend needs is missing."""


class RepositoryError(ServingError):
    """The model repository cannot be served as it is."""


class PortTakenError(ServingError):
    """A port that Triton should listen on is in use."""


class StartError(ServingError):
    """Tritonserver ended, or was not ready in time, at its first start."""
