"""`conch export`: a checkpoint becomes models in the repository."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from conch import export_options as of
from conch.console import facts, refused, stderr, steps
from conch.options import (
    DEFAULT_MODEL,
    DEFAULT_REPOSITORY,
    Adapter,
    Aim,
    MaxLength,
    Model,
    Repository,
    Revision,
    Task,
    UpdateLock,
)
from conch.verify import agreement

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from conch_export import Exported, Options

    Stated = TypeVar("Stated")
    Read = TypeVar("Read")

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
    label: of.Label = None,
    cores: of.Cores = None,
    aim: Aim = "throughput",
    queue: of.QueueLength = 512,
    queue_timeout_s: of.QueueTimeout = 600,
    missing: of.Missing = False,
    check: of.Check = False,
    update_lock: UpdateLock = False,
    trust_remote_code: of.TrustRemoteCode = False,
    ignore_memory: of.IgnoreMemory = False,
) -> None:
    """Convert, quantize and verify a model, and publish it in the repository, all or nothing."""
    import conch_export as ce  # noqa: PLC0415

    overrides = ce.Overrides(
        pooling=pooling and ce.Pooling(pooling),
        normalize=normalize,
        max_length=max_length,
        task=task and ce.Task(task),
        prompts=_read(of.read_prompts, prompts),
        default_prompt=default_prompt,
        matryoshka=_read(of.read_lengths, matryoshka),
        matryoshka_centred=matryoshka_centred,
        lexical=lexical,
        late_chunking=late_chunking,
        score_tokens=_read(of.read_yes_and_no, score_tokens),
        pair_template=_read(of.read_template, pair_template),
        default_instruction=default_instruction,
        label=label,
    )
    options = ce.Options(
        reference=model,
        repository=repository,
        name=name,
        revision=revision,
        precision=ce.Precision(precision or ("int8" if target == "cpu" else "fp16")),
        late_interaction=late_interaction,
        plan=ce.plan(cores, ce.Aim(aim), ce.Target(target), ce.Queue(queue, queue_timeout_s)),
        overrides=overrides,
        update_lock=update_lock,
        trust_remote_code=trust_remote_code,
        ignore_memory=ignore_memory,
        adapter=adapter,
    )
    with refused():
        if (check or missing) and cores is None:
            options = _as_planned(options)
        _run(options, missing=missing, check=check)


def _read(read: Callable[[Stated], Read], stated: Stated | None) -> Read | None:
    return None if stated is None else read(stated)


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
