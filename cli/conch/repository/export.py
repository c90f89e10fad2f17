"""`conch export`: writes the models of a checkpoint into the repository."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

from conch.console import facts, fail, refused, stderr, steps
from conch.options import (
    DEFAULT_MODEL,
    DEFAULT_REPOSITORY,
    Adapter,
    Aim,
    Label,
    MaxLength,
    Model,
    Repository,
    Revision,
    Task,
    UpdateLock,
)
from conch.repository import options as of
from conch.repository.verify import agreement

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from conch_export import Exported, Options, Overrides, Queue

_PACKING = {
    "packed": "share the token-wise products",
    "row by row": "run one after the other through optimum's graph: this architecture has no family here, which costs"
    " speed on short texts",
}


def export(
    model: Model = DEFAULT_MODEL,
    repository: Repository = DEFAULT_REPOSITORY,
    name: of.Name = None,
    revision: Revision = None,
    adapter: Adapter = None,
    precision: of.Precision = None,
    target: of.Target = "cpu",
    pooling: of.Pooling = None,
    normalize: of.Normalize = None,
    max_length: MaxLength = None,
    late_interaction: of.LateInteraction = None,
    lexical: of.Lexical = None,
    late_chunking: of.LateChunking = None,
    task: Task = None,
    prompts: of.Prompts = None,
    default_prompt: of.DefaultPrompt = None,
    matryoshka: of.Matryoshka = None,
    matryoshka_centred: of.MatryoshkaCentred = None,
    score_tokens: of.ScoreTokens = None,
    pair_template: of.PairTemplate = None,
    default_instruction: of.DefaultInstruction = None,
    label: Label = None,
    cores: of.Cores = None,
    aim: Aim = "throughput",
    queue: of.QueueLength = None,
    queue_timeout_s: of.QueueTimeout = None,
    missing: of.Missing = False,
    check: of.Check = False,
    update_lock: UpdateLock = False,
    trust_remote_code: of.TrustRemoteCode = False,
    ignore_memory: of.IgnoreMemory = False,
) -> None:
    """Convert, quantize and verify a model, and publish it in the repository, all or nothing."""
    stated = locals()
    import conch_export as ce  # noqa: PLC0415

    options = ce.Options(
        reference=model,
        repository=repository,
        name=name,
        revision=revision,
        precision=ce.Precision(precision or ("int8" if target == "cpu" else "fp16")),
        late_interaction=late_interaction,
        plan=ce.plan(cores, ce.Aim(aim), ce.Target(target), _queue(queue, queue_timeout_s)),
        overrides=_overrides(stated),
        update_lock=update_lock,
        trust_remote_code=trust_remote_code,
        ignore_memory=ignore_memory,
        adapter=adapter,
    )
    with refused():
        if (check or missing) and cores is None:
            options = _as_planned(options)
        _run(options, missing=missing, check=check)


def _queue(requests: int | None, timeout_s: int | None) -> Queue | None:
    from conch_export import Queue  # noqa: PLC0415

    if requests is None:
        if timeout_s is not None:
            fail("--queue-timeout-s is for a limited queue: say how many requests may wait, as in --queue 512")
        return None
    return Queue(requests) if timeout_s is None else Queue(requests, timeout_s)


def _overrides(stated: Mapping[str, Any]) -> Overrides:
    """What is stated instead of the checkpoint: each of its fields is an option of the same name."""
    import conch_export as ce  # noqa: PLC0415

    kinds: dict[str, Callable[[Any], Any]] = {
        "pooling": ce.Pooling,
        "task": ce.Task,
        "prompts": of.read_prompts,
        "matryoshka": of.read_lengths,
        "score_tokens": of.read_yes_and_no,
        "pair_template": of.read_template,
    }
    values = {field.name: stated[field.name] for field in fields(ce.Overrides)}
    read = {name: kinds[name](value) for name, value in values.items() if name in kinds and value is not None}
    return ce.Overrides(**values | read)


def _as_planned(options: Options) -> Options:
    """The same with the plan that the repository has of the model, if it has one."""
    from conch_export import planned, public_name  # noqa: PLC0415

    found = planned(options.repository, public_name(options))
    return options if found is None else replace(options, plan=replace(found, queue=options.plan.queue))


def _run(options: Options, *, missing: bool, check: bool) -> None:
    import conch_export  # noqa: PLC0415

    if check:
        conch_export.check(options)
        stderr.print(f"{conch_export.public_name(options)}: the configurations are what an export writes")
    elif missing and conch_export.is_complete(options):
        stderr.print(f"{conch_export.public_name(options)}: already exported")
    else:
        with steps() as progress:
            exported = conch_export.export(options, progress)
        stderr.print(facts(f"{exported.description.name} → {options.repository}", _told(exported)))


def _told(exported: Exported) -> Iterator[tuple[str, str]]:
    description = exported.description
    yield "from", f"{description.source.origin} {description.source.revision}"
    if description.source.adapter:
        yield "adapter", description.source.adapter
    if description.source.code_sha256:
        yield "by its own code", f"SHA-256 {description.source.code_sha256}"
    yield "models", "\n".join(exported.models)
    yield "merged texts", _PACKING[description.packing.value]
    yield "compared with", exported.verification[description.name].reference
    for name, each in exported.verification.items():
        yield name, agreement(each)
