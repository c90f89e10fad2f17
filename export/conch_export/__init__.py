"""From checkpoint to model repository: ONNX graphs, Triton configurations and the verification that goes with them."""

from __future__ import annotations

from conch_contract import Task

from conch_export.bundles.bundle import Bundle, make_bundle, open_bundle
from conch_export.errors import (
    ExportError,
    OutdatedError,
    SourceError,
    UndecidedError,
    UnsupportedError,
    VerificationError,
)
from conch_export.inspection import Inspection, inspect
from conch_export.migration.bridge import LEAST_RECALL, Bridge, fit
from conch_export.migration.comparison import THRESHOLDS, Comparison, compare
from conch_export.migration.evaluation import Recalls
from conch_export.model.description import Description, Overrides, Pooling, Precision, Target
from conch_export.options import Options, public_name
from conch_export.pipeline import Exported, check, export, is_complete
from conch_export.planning.browser import BrowserPlan, browser_plan
from conch_export.planning.capacity import Capacity, PlannedHead, capacity
from conch_export.planning.memory import Budget
from conch_export.provenance import preload
from conch_export.sources.catalog import CATALOG, DEFAULT, Entry
from conch_export.sources.source import Source
from conch_export.triton.ensemble import Ensemble, Published
from conch_export.triton.plan import Aim, Plan, Queue, plan
from conch_export.triton.published import planned
from conch_export.triton.repository import exported_from
from conch_export.verification.agreement import Verification
from conch_export.web.folder import Written, has_module, write_web

__all__ = [
    "CATALOG",
    "DEFAULT",
    "LEAST_RECALL",
    "THRESHOLDS",
    "Aim",
    "Bridge",
    "BrowserPlan",
    "Budget",
    "Bundle",
    "Capacity",
    "Comparison",
    "Description",
    "Ensemble",
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
    "Published",
    "Queue",
    "Recalls",
    "Source",
    "SourceError",
    "Target",
    "Task",
    "UndecidedError",
    "UnsupportedError",
    "Verification",
    "VerificationError",
    "Written",
    "browser_plan",
    "capacity",
    "check",
    "compare",
    "export",
    "exported_from",
    "fit",
    "has_module",
    "inspect",
    "is_complete",
    "make_bundle",
    "open_bundle",
    "plan",
    "planned",
    "preload",
    "public_name",
    "write_web",
]
