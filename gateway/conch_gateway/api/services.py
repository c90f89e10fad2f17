"""The services that endpoints call."""

from __future__ import annotations

from dataclasses import dataclass

from conch_gateway.batches.records import Stored
from conch_gateway.inference.service import Inference
from conch_gateway.models.readiness import Readiness
from conch_gateway.models.registry import Models
from conch_gateway.settings import GatewaySettings
from conch_gateway.telemetry.metrics import Metrics


@dataclass(frozen=True, slots=True)
class Services:
    """The services of one application, which every module of `api` gets.

    Attributes:
        batches: where files and batches are stored; None where none are.
    """

    settings: GatewaySettings
    inference: Inference
    models: Models
    readiness: Readiness
    metrics: Metrics
    batches: Stored | None = None
