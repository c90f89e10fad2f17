"""A model of the repository as config.pbtxt describes it, run by onnxruntime.

It knows nothing of Triton's python stub (that is `model.py`), so it can be tested by itself, and it imports no more
than numpy and onnxruntime, because every model instance is a process of its own that pays for what is imported.
"""

from __future__ import annotations

from .contract import BatchInput, ConfigError, Contract, Input, Output
from .merge import merge
from .runner import GraphModel, RequestError
from .split import GraphError, split

__all__ = [
    "BatchInput",
    "ConfigError",
    "Contract",
    "GraphError",
    "GraphModel",
    "Input",
    "Output",
    "RequestError",
    "merge",
    "split",
]
