"""`conch export`: a checkpoint becomes models in the repository."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.table import Table

from conch.preload import console, refused
from conch.quantities import TOKENS, tokens
from conch.verify import measured

if TYPE_CHECKING:
    from conch_export import Exported, Options

_PACKING = {
    "packed": "share the token-wise products",
    "row by row": "run one after the other through optimum's graph: this architecture has no family here, which costs"
    " speed on short texts",
}


def _prompts(stated: str) -> dict[str, str]:
    try:
        found = json.loads(stated if stated.lstrip().startswith("{") else Path(stated).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        msg = f'--prompts takes JSON such as {{"query": "query: "}}, or a file with it: {error}'
        raise typer.BadParameter(msg) from error
    if not isinstance(found, dict) or not all(isinstance(text, str) for text in found.values()):
        raise typer.BadParameter("--prompts takes one JSON object, with a text for each name")
    return found


def _template(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise typer.BadParameter(f"--pair-template takes a file with UTF-8 text: {error}") from error


def _lengths(stated: str) -> tuple[int, ...]:
    try:
        return tuple(int(size) for size in stated.split(",") if size)
    except ValueError as error:
        raise typer.BadParameter(f"--matryoshka takes lengths such as 64,128,256, not {stated!r}") from error


def _yes_and_no(stated: str) -> tuple[str, str]:
    yes, comma, no = stated.partition(",")
    if not (yes and comma and no):
        raise typer.BadParameter(f"--score-tokens takes two words such as yes,no, not {stated!r}")
    return yes, no


def export(
    model: Annotated[str, typer.Argument(help="A known name, a folder or a Hub id.")] = "all-minilm-l6-v2",
    repository: Annotated[
        Path, typer.Option(envvar="CONCH_MODEL_REPOSITORY", help="Triton's model repository.")
    ] = Path("model_repository"),
    name: Annotated[str | None, typer.Option(help="Name under which the model is served.")] = None,
    revision: Annotated[
        str | None,
        typer.Option(help="Commit, branch or tag on the Hub."),
    ] = None,
    precision: Annotated[
        Literal["fp32", "fp16", "int8"] | None,
        typer.Option(help="Number format of the matrix products. [default: int8, with --target cuda fp16]"),
    ] = None,
    target: Annotated[Literal["cpu", "cuda"], typer.Option(help="Hardware that the encoder runs on.")] = "cpu",
    pooling: Annotated[
        Literal["mean", "cls", "max", "last", "weighted-mean", "mean-sqrt-length"] | None,
        typer.Option(help="Pooling of token vectors, if the checkpoint does not state it."),
    ] = None,
    normalize: Annotated[
        bool | None,
        typer.Option(
            "--normalize/--no-normalize", help="Whether vectors have length 1, if the checkpoint does not state it."
        ),
    ] = None,
    max_length: Annotated[
        int | None,
        typer.Option(
            parser=tokens,
            metavar=TOKENS,
            help="Tokens at which texts are truncated, instead of the checkpoint's limit.",
        ),
    ] = None,
    late_interaction: Annotated[
        bool | None,
        typer.Option(
            "--late-interaction/--no-late-interaction",
            help="Also serve token vectors and a MaxSim reranker on the same encoder.",
        ),
    ] = None,
    lexical: Annotated[
        bool | None,
        typer.Option("--lexical/--no-lexical", help="Also serve lexical weights, if the checkpoint has them."),
    ] = None,
    task: Annotated[
        Literal["embedding", "cross-encoder", "multi-vector", "sparse"] | None,
        typer.Option(help="Kind of the model, if the checkpoint does not state it."),
    ] = None,
    prompts: Annotated[
        str | None, typer.Option(help="Prompts by name as JSON or a file with JSON, instead of the checkpoint's.")
    ] = None,
    default_prompt: Annotated[
        str | None, typer.Option(help="Name of the prompt for requests that name none; '' for no prompt.")
    ] = None,
    matryoshka: Annotated[
        str | None, typer.Option(help="Dimensions to which vectors may be cut, such as 64,128,256.")
    ] = None,
    matryoshka_centred: Annotated[
        bool | None,
        typer.Option(
            "--matryoshka-centred/--no-matryoshka-centred",
            help="Whether the authors subtract a vector's mean (as a layer norm does) before they cut it.",
        ),
    ] = None,
    score_tokens: Annotated[
        str | None, typer.Option(help="The two words of a generative reranker, such as yes,no.")
    ] = None,
    pair_template: Annotated[
        Path | None,
        typer.Option(help="File with the prompt of a generative reranker, containing {query} and {document}."),
    ] = None,
    cores: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Cores to plan for. [default: those of the machine that `conch serve` runs on; with --check and "
            "--missing, those that the repository was planned for]",
        ),
    ] = None,
    aim: Annotated[
        Literal["throughput", "latency"], typer.Option(help="Optimise throughput or latency.")
    ] = "throughput",
    queue: Annotated[int, typer.Option(min=1, help="Requests that may wait for a model; others are refused.")] = 512,
    queue_timeout_s: Annotated[int, typer.Option(min=1, help="Seconds that a request may wait for a model.")] = 600,
    missing: Annotated[bool, typer.Option("--missing", help="Do nothing if the repository has the model.")] = False,
    check: Annotated[
        bool,
        typer.Option(
            "--check", help="Write nothing; fail if the configurations differ from what an export would write."
        ),
    ] = False,
    update_lock: Annotated[
        bool,
        typer.Option(
            "--update-lock", help="Take the checkpoint as it is now and record it, even if it differs from conch.lock."
        ),
    ] = False,
    trust_remote_code: Annotated[
        bool,
        typer.Option(
            "--trust-remote-code",
            help="Run the checkpoint's own code if no other code knows its architecture; needs a full --revision.",
        ),
    ] = False,
) -> None:
    """Convert, quantize and verify a model, and publish it in the repository, all or nothing."""
    from conch_export import (  # noqa: PLC0415
        Aim,
        Options,
        Overrides,
        Pooling,
        Precision,
        Queue,
        Target,
        Task,
        plan,
        planned,
        public_name,
    )

    overrides = Overrides(
        pooling=pooling and Pooling(pooling),
        normalize=normalize,
        max_length=max_length,
        task=task and Task(task),
        prompts=None if prompts is None else _prompts(prompts),
        default_prompt=default_prompt,
        matryoshka=None if matryoshka is None else _lengths(matryoshka),
        matryoshka_centred=matryoshka_centred,
        lexical=lexical,
        score_tokens=None if score_tokens is None else _yes_and_no(score_tokens),
        pair_template=None if pair_template is None else _template(pair_template),
    )
    options = Options(
        reference=model,
        repository=repository,
        name=name,
        revision=revision,
        precision=Precision(precision or ("int8" if target == "cpu" else "fp16")),
        late_interaction=late_interaction,
        plan=plan(cores, Aim(aim), Target(target), Queue(queue, queue_timeout_s)),
        overrides=overrides,
        update_lock=update_lock,
        trust_remote_code=trust_remote_code,
    )
    with refused():
        there = planned(repository, public_name(options)) if (check or missing) and cores is None else None
        if there is not None:
            options = replace(options, plan=replace(there, queue=options.plan.queue))
        _run(options, missing=missing, check=check)


def _run(options: Options, *, missing: bool, check: bool) -> None:
    import conch_export  # noqa: PLC0415

    if check:
        conch_export.check(options)
        console.print(f"{conch_export.public_name(options)}: the configurations are what an export writes")
    elif missing and conch_export.is_complete(options):
        console.print(f"{conch_export.public_name(options)}: already exported")
    else:
        with console.status("starting") as status:
            exported = conch_export.export(options, lambda step: status.update(f"{step} …"))
        _print(exported, options.repository)


def _print(exported: Exported, repository: Path) -> None:
    description = exported.description
    table = Table(title=f"{description.name} → {repository}", title_justify="left", show_header=False)
    table.add_row("from", f"{description.source.origin} {description.source.revision}")
    if description.source.code_sha256:
        table.add_row("by its own code", f"SHA-256 {description.source.code_sha256}")
    table.add_row("models", "\n".join(exported.models))
    table.add_row("merged texts", _PACKING[description.packing.value])
    table.add_row("compared with", exported.verification[description.name].reference)
    for name, each in exported.verification.items():
        table.add_row(name, measured(each))
    console.print(table)
