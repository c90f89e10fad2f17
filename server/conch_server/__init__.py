"""Triton without a container: find the wheel's tritonserver, configure it, keep it alive.

async with Supervisor(ServerSettings(), cores=8) as triton:
    print(triton.grpc_url)
"""

from __future__ import annotations

from conch_server._errors import InstallationError, PortTakenError, RepositoryError, ServingError, StartError
from conch_server._preflight import check_free
from conch_server._settings import ServerSettings
from conch_server._supervisor import Supervisor

__all__ = [
    "InstallationError",
    "PortTakenError",
    "RepositoryError",
    "ServerSettings",
    "ServingError",
    "StartError",
    "Supervisor",
    "check_free",
]
