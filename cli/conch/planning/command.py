"""`conch plan`: checks which options go together, and prints one of three plans."""

from __future__ import annotations

import typer

from conch.options import (
    DEFAULT_MODEL,
    DEFAULT_REPOSITORY,
    Adapter,
    Aim,
    AsJson,
    Label,
    MaxLength,
    Model,
    Repository,
    Revision,
    Task,
    named_options,
    refuse,
)
from conch.planning import options as of
from conch.planning.browser import plan_page
from conch.planning.server import plan_server

_LOAD = {"rate", "lengths", "p99", "profile"}
_SERVER = {"cores", "aim", "rows", "measure"}


def plan(
    context: typer.Context,
    model: Model = DEFAULT_MODEL,
    repository: Repository = DEFAULT_REPOSITORY,
    revision: Revision = None,
    adapter: Adapter = None,
    max_length: MaxLength = None,
    task: Task = None,
    label: Label = None,
    memory: of.Memory = None,
    precision: of.Precision = "int8",
    cores: of.Cores = None,
    aim: Aim = "throughput",
    rows: of.Rows = 1,
    measure: of.Measure = False,
    web: of.Web = False,
    rate: of.Rate = None,
    lengths: of.Lengths = "mixed",
    p99: of.P99 = "100ms",  # type: ignore[assignment] # goes through the parser
    profile: of.Profile = None,
    as_json: AsJson = False,
) -> None:
    """Predict the memory of a model: to export it, and to serve it on a CPU. No weights are read.

    With --web: the memory of a web page that runs it. With --rate: how many replicas answer a load, from
    a measured profile and a simulation.
    """
    given = named_options(context)
    if rate is not None:
        others = given.keys() - {*_LOAD, "model", "as_json"}
        refuse(given, others, "does not go with --rate: what a replica has is what its profile was measured with")
        from conch.planning.load import plan_load  # noqa: PLC0415

        plan_load(rate, lengths, p99, profile, model=model if "model" in given else None, as_json=as_json)
        return
    refuse(given, _LOAD, "is for a load: say how large it is, as in --rate 200/s")
    if web:
        refuse(given, _SERVER, "does not go with --web: it is about servers")
    import conch_export as ce  # noqa: PLC0415
    from conch_contract import usable_cores  # noqa: PLC0415

    options = ce.Options(
        reference=model,
        repository=repository,
        revision=revision,
        adapter=adapter,
        precision=ce.Precision(precision),
        plan=ce.plan(cores or usable_cores(), ce.Aim(aim)),
        overrides=ce.Overrides(max_length=max_length, task=task and ce.Task(task), label=label),
    )
    if web:
        plan_page(options, memory, as_json=as_json)
    else:
        plan_server(options, rows, memory, measure=measure, as_json=as_json)
