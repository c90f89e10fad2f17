"""Triton without a container: find the wheel's tritonserver, configure it, keep it alive.

async with Supervisor(ServerSettings()) as triton:
    print(triton.grpc_url)
"""

from ._arguments import TritonCommand
from ._errors import InstallationError, PortTakenError, RepositoryError, ServingError, StartError
from ._ports import check_free
from ._settings import ServerSettings
from ._supervisor import Supervisor

__all__ = [
    "InstallationError",
    "PortTakenError",
    "RepositoryError",
    "ServerSettings",
    "ServingError",
    "StartError",
    "Supervisor",
    "TritonCommand",
    "check_free",
]
