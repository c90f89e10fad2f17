"""From checkpoint to model repository: ONNX graphs, Triton configurations and the verification that goes with them."""

from conch_export.agreement import Verification
from conch_export.bundle import Bundle, make_bundle, open_bundle
from conch_export.capacity import Capacity, PlannedHead, capacity
from conch_export.catalog import CATALOG, DEFAULT, Entry
from conch_export.description import Description, Overrides, Precision, Task
from conch_export.errors import (
    ExportError,
    OutdatedError,
    SourceError,
    UndecidedError,
    UnsupportedError,
    VerificationError,
)
from conch_export.graphs.encoder import Target
from conch_export.graphs.heads import Pooling
from conch_export.inspection import Inspection, inspect
from conch_export.memory import Budget
from conch_export.pipeline import Exported, Options, check, export, is_complete, public_name
from conch_export.plan import Aim, Plan, Queue, plan, usable_cores
from conch_export.provenance import preload
from conch_export.published import planned
from conch_export.report import exported_from
from conch_export.sources import Source

__all__ = [
    "CATALOG",
    "DEFAULT",
    "Aim",
    "Budget",
    "Bundle",
    "Capacity",
    "Description",
    "Entry",
    "ExportError",
    "Exported",
    "Inspection",
    "Options",
    "OutdatedError",
    "Overrides",
    "Plan",
    "PlannedHead",
    "Pooling",
    "Precision",
    "Queue",
    "Source",
    "SourceError",
    "Target",
    "Task",
    "UndecidedError",
    "UnsupportedError",
    "Verification",
    "VerificationError",
    "capacity",
    "check",
    "export",
    "exported_from",
    "inspect",
    "is_complete",
    "make_bundle",
    "open_bundle",
    "plan",
    "planned",
    "preload",
    "public_name",
    "usable_cores",
]
