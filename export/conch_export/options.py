"""Options of an export, and the description that they give to the checkpoint that they name."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from conch_contract import INNER_NAMES

from conch_export.checkpoints.checkpoint import Checkpoint
from conch_export.checkpoints.describe import describe
from conch_export.errors import UndecidedPoolingError, UnsupportedError
from conch_export.model.description import Overrides, Pooling, Precision
from conch_export.progress import silent
from conch_export.provenance import find
from conch_export.sources import catalog
from conch_export.triton.plan import Plan, plan

if TYPE_CHECKING:
    from conch_export.model.description import Description
    from conch_export.progress import Progress


@dataclass(frozen=True)
class Options:
    """Options of an export.

    Attributes:
        reference: catalog name, Hub id or folder.
        repository: Triton's model repository.
        name: public name; None takes the catalog's, or the last part of the reference in lower case.
        revision: commit on the Hub; None takes the newest.
        precision: of the encoder's matrix products.
        late_interaction: publish a MaxSim reranker on the same encoder, and an embedding model's token vectors; None
            does what the catalog says, and does it for every multi-vector model.
        plan: instances, threads and rows.
        overrides: what the checkpoint does not say, or says wrongly.
        update_lock: take the checkpoint as it is now, whatever the repository's lock file says.
        trust_remote_code: run the checkpoint's own code, where the model cannot be computed without.
        ignore_memory: export even where the machine seems to have too little memory for it.
        adapter: what is merged into the weights, see `provenance.find`.
    """

    reference: str
    repository: Path
    name: str | None = None
    revision: str | None = None
    precision: Precision = Precision.INT8
    late_interaction: bool | None = None
    plan: Plan = field(default_factory=plan)
    overrides: Overrides = field(default_factory=Overrides)
    update_lock: bool = False
    trust_remote_code: bool = False
    ignore_memory: bool = False
    adapter: str | None = None


def public_name(options: Options) -> str:
    """Name of the exported model.

    Raises:
        UnsupportedError: it cannot be the name of a folder in the repository.
    """
    entry, reference = _entry(options), Path(options.reference)
    folder = reference.resolve() if reference.is_dir() else reference
    name = options.name or "-".join([entry.name if entry else folder.name.lower(), *_adapter_name(options)])
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        msg = f"{name!r} cannot name a model: give letters, digits, '.', '_' and '-' with --name"
        raise UnsupportedError(msg)
    _, dot, ending = name.rpartition(".")
    if dot and ending in INNER_NAMES:
        msg = f"{name!r} is what the {ending} of a model is called: choose a --name without that ending"
        raise UnsupportedError(msg)
    return name


def _entry(options: Options) -> catalog.Entry | None:
    """The catalog's entry of the checkpoint; None for a folder, whatever it is called."""
    return None if Path(options.reference).is_dir() else catalog.find(options.reference)


def _adapter_name(options: Options) -> list[str]:
    """Return the part of the model name that comes from its adapter; nothing without one."""
    if options.adapter is None:
        return []
    path = Path(options.adapter)
    return [(path.resolve() if path.is_dir() else Path(options.adapter.partition("@")[0])).name.lower()]


def described(options: Options, progress: Progress = silent, *, hashed: bool = True) -> tuple[Description, Checkpoint]:
    """The description that an export would go by, and its checkpoint, fetched where it is not here.

    Args:
        options: of the export.
        progress: told while the checkpoint is fetched.
        hashed: whether the files of a folder are recorded, for which they are read; those from elsewhere always are.

    Raises:
        ExportError: the checkpoint was not found, or is not what can be exported.
    """
    source = find(
        options.reference,
        options.revision,
        options.repository,
        update_lock=options.update_lock,
        trust_remote_code=options.trust_remote_code,
        hashed=hashed,
        adapter=options.adapter,
        on_bytes=partial(progress, "fetching the checkpoint"),
    )
    checkpoint, wanted = Checkpoint.of(source), options.late_interaction
    if wanted is None and (entry := _entry(options)) is not None:
        wanted = entry.late_interaction or None
    name, overrides = public_name(options), options.overrides
    return describe(checkpoint, source, name, options.precision, overrides, late_interaction=wanted), checkpoint


def described_for_plan(options: Options, progress: Progress) -> tuple[Description, Checkpoint, str]:
    """Description, checkpoint, and what an export would ask for; nothing for what it would not."""
    try:
        return (*described(options, progress, hashed=False), "")
    except UndecidedPoolingError as error:
        # An export needs to know the pooling; a plan does not, as every pooling takes about the same memory.
        assumed = replace(options.overrides, pooling=Pooling.MEAN, normalize=True)
        return (*described(replace(options, overrides=assumed), progress, hashed=False), str(error))
