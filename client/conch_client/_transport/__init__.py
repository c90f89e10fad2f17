"""gRPC to one Triton: address, deadlines, tensors on the wire, what the server serves, connections of both kinds."""

from __future__ import annotations
