"""Writes what is generated here, or with `--check` says what is out of date.

Whole pages come from `PAGES`. Pages written by hand may have generated parts, between `<!-- NAME -->` and
`<!-- /NAME -->`; those come from `BLOCKS`. Both name files from the root of the repository.
"""

from __future__ import annotations

import argparse
import inspect
import json
import re
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_origin

import conch_gateway
import typer
from conch.app import EXIT_STATUS
from conch.app import app as command_line
from conch_client import AsyncClient, ConchError
from conch_export import CATALOG, Entry, families
from conch_gateway import GatewaySettings
from conch_gateway.errors import RULES
from conch_server import ServerSettings
from pydantic import SecretStr

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks import bridge_table, curves, replica_table
from benchmarks import table as benchmarks
from benchmarks.browser import table as browser
from benchmarks.corpora import table as corpora
from benchmarks.markdown import table
from benchmarks.simulation import page as scale
from deploy import generated as deployment
from deploy.grafana import dashboard
from docs import monitoring, python_api, sync_client
from tests.declared import PROJECT
from tests.soak import page as failures

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

    from pydantic.fields import FieldInfo
    from pydantic_settings import BaseSettings

ROOT = Path(__file__).parents[1]
CLIENT_LEFT = 499
GENERATED = "Generated from the code by `make docs`."
DECISION = re.compile(
    r"# (?P<number>\d+)\. (?P<title>.+)\n\n- Status: (?P<status>.+)\n- Date: (?P<date>\d{4}-\d\d-\d\d)\n\n## Context\n"
)


def openapi() -> str:
    """Return the gateway's OpenAPI document."""
    document = conch_gateway.create_app(GatewaySettings.model_construct(), AsyncClient()).openapi()
    document["info"]["version"] = PROJECT["version"]  # whatever version is installed
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def settings() -> str:
    """Return the page of all settings."""
    lines = [
        "# Settings",
        "",
        GENERATED,
        "A command-line flag wins over the environment, the environment over the default.",
    ]
    for title, kind in (("Gateway", GatewaySettings), ("Server", ServerSettings)):
        lines += ["", f"## {title}", "", *table(("variable", "values", "default", "meaning"), _settings(kind))]
    return "\n".join(lines) + "\n"


def _settings(kind: type[BaseSettings]) -> Iterator[tuple[str, ...]]:
    prefix = kind.model_config.get("env_prefix", "")
    for name, field in kind.model_fields.items():
        default = "required" if field.is_required() else _shown(field.get_default(call_default_factory=True))
        yield f"`{prefix}{name.upper()}`", _values(field), default, field.description or ""


def _values(field: FieldInfo) -> str:
    kind = field.annotation
    if type(None) in get_args(kind):
        kind = next(option for option in get_args(kind) if option is not type(None))
    if get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    if kind is SecretStr:
        return "secret"
    if get_origin(kind) is not None:
        return ", ".join(map(str, get_args(kind)))
    return getattr(kind, "__name__", str(kind)).lower()


def _shown(value: object) -> str:
    return "unset" if value is None else f"`{value}`"


def commands() -> str:
    """Return the page of the command line."""
    group: Any = typer.main.get_command(command_line)
    lines = ["# Command line", "", GENERATED, "[json.md](json.md) says what `--json` prints.", "", EXIT_STATUS]
    for name, command in _flattened("", group):
        context = typer.Context(command, info_name=f"conch {name}".strip())
        usage = command.get_usage(context).removeprefix("Usage: ")
        records = (parameter.get_help_record(context) for parameter in command.get_params(context))
        options = ((f"`{flags}`", " ".join(meaning.split())) for flags, meaning in filter(None, records))
        lines += ["", f"## `{usage}`", "", command.help, "", *table(("option", "meaning"), options)]
    return "\n".join(lines) + "\n"


def _flattened(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    yield name, command
    for child, its in getattr(command, "commands", {}).items():
        yield from _flattened(f"{name} {child}".strip(), its)


def architectures() -> str:
    """Return the list of encoder families."""
    rows = ((f"`{name}`", _first_line(module)) for name, module in sorted(families.modules().items()))
    return "\n".join(table(("family", "what it is"), rows))


def known_models() -> str:
    """Return the page of the models known by name."""
    heads = (
        "model",
        "dimension",
        "tokens",
        "million",
        "languages",
        "licence",
        "family",
        "prompts",
        "shorter vectors",
        "safetensors",
    )
    lines = [
        "# Known models",
        "",
        GENERATED,
        "[Exporting models](export.md#known-models) says what the list is for.",
    ]
    for task in dict.fromkeys(entry.task for entry in CATALOG.values()):
        rows = (_known_model(entry) for entry in CATALOG.values() if entry.task == task)
        lines += ["", f"## {task.capitalize()} models", "", *table(heads, rows)]
    return "\n".join(lines) + "\n"


def _known_model(entry: Entry) -> tuple[str, ...]:
    numbers = (entry.dimension, entry.max_length, entry.parameters_m)
    shown = (
        ""
        if entry.task in {"cross-encoder", "classification"} and index == 0
        else "?"
        if number is None
        else f"{number:,g}"
        for index, number in enumerate(numbers)
    )
    return (
        f"`{entry.hub_id}`",
        *shown,
        entry.languages,
        entry.licence or "?",
        f"`{entry.family}`",
        ", ".join(f"`{name}`" for name in entry.usage.prompts),
        ", ".join(map(str, sorted(entry.usage.matryoshka))),
        f"`{entry.safetensors}`" if entry.safetensors else "none known",
    )


def smallest_family() -> str:
    """Return the change that added the smallest family with settings of its own: its file."""
    own = (module for module in families.modules().values() if "settings" in vars(type(module.FAMILY)))
    module = min(own, key=lambda module: len(inspect.getsource(module)))
    path = Path(str(module.__file__)).relative_to(ROOT)
    lines = inspect.getsource(module).splitlines()
    return "\n".join(["```diff", "--- /dev/null", f"+++ {path}", *(f"+{line}" for line in lines), "```"])


def _first_line(module: ModuleType) -> str:
    return (inspect.getdoc(module) or "").splitlines()[0]


def errors() -> str:
    """Return the table of what goes wrong, as the client raises it and as the gateway answers it."""
    rows = []
    for kind, rule in sorted(RULES.items(), key=lambda entry: entry[1].status):
        meaning = "Whatever else goes wrong." if kind is Exception else (inspect.getdoc(kind) or "").split("\n")[0]
        if rule.status != CLIENT_LEFT:
            raised = f"`{kind.__name__}`" if issubclass(kind, ConchError) else ""
            rows.append((str(rule.status), f"`{rule.code}`", raised, meaning))
    return "\n".join(table(("status", "code", "raised by the client", "meaning"), rows))


def decisions() -> str:
    """Return the index of the decision records; raises ValueError for one that does not begin as all do."""
    rows = []
    for path in sorted((ROOT / "docs" / "adr").glob("[0-9]*.md")):
        begin = DECISION.match(path.read_text(encoding="utf-8"))
        if begin is None or int(begin["number"]) != int(path.name[:4]):
            message = f"{path.name} has to begin with its number and title, status, date and context, as the others do"
            raise ValueError(message)
        rows.append((begin["number"], f"[{begin['title']}]({path.name})", begin["status"], begin["date"]))
    head = (
        "A record says what was decided, why, what was rejected and what was measured. Numbers that are missing were "
        "never used."
    )
    return "\n".join(["# Decisions", "", GENERATED, head, "", *table(("", "decision", "status", "date"), rows)]) + "\n"


def setup_times() -> str:
    """Return the table of what `benchmarks/cold_start.py` measured last."""
    path = ROOT / "benchmarks" / "results" / "setup.json"
    if not path.exists():
        return "Not measured yet: `python benchmarks/cold_start.py` does, and `make docs` puts it here."
    result = json.loads(path.read_text(encoding="utf-8"))
    until = {"make serve": "until every model answers", "make test": "until the last test has passed"}
    rows = (
        (f"`{command}`, {until[command]}", _minutes(seconds["cold_s"]), _minutes(seconds["again_s"]))
        for command, seconds in result["commands"].items()
    )
    machine = result["machine"]
    told = (
        f"Cold is a bare clone with empty caches of pip and Hugging Face. Measured with `{result['command']}` on "
        f"{result['date']} at commit {result['commit'][:10]}: {machine['cores']} cores ({machine['processor']}), "
        f"{machine['memory_gib']} GiB, Python {result['versions']['python']}, packages from {machine['packages_from']}."
    )
    return "\n".join([*table(("command", "cold", "again"), rows), "", told])


def _minutes(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"


def with_blocks(name: str) -> str:
    """Return a page written by hand with its generated parts renewed."""
    text = (ROOT / name).read_text(encoding="utf-8")
    for block, content in BLOCKS[name].items():
        begin, end = f"<!-- {block} -->", f"<!-- /{block} -->"
        head, opened, rest = text.partition(begin)
        _, closed, foot = rest.partition(end)
        if not (opened and closed):
            message = f"{name} has no place for this part: write {begin} and {end} where it belongs"
            raise ValueError(message)
        text = f"{head}{begin}\n{content()}\n{end}{foot}"
    return text


BLOCKS: dict[str, dict[str, Callable[[], str]]] = {
    "README.md": {"setup-times": setup_times, "benchmarks": benchmarks.block, "long-chunks": corpora.long_chunks},
    "docs/browser.md": {"measured": browser.block, "memory": browser.memory},
    "docs/clients.md": {"errors": errors},
    "docs/corpus.md": {"measured": corpora.measured},
    "docs/checkpoints.md": {"architectures": architectures},
    "docs/compose.md": {"compose-variables": deployment.variables},
    "docs/migration.md": {"measured": bridge_table.block},
    "docs/replicas.md": {"measured": replica_table.block},
    "CONTRIBUTING.md": {"smallest-family": smallest_family},
    "docs/autoscaling.md": {"burst": curves.burst},
    "docs/monitoring.md": {"picture": curves.block, "metrics": monitoring.metrics, "alerts": monitoring.alerts},
    "docs/scale.md": scale.blocks(),
}
PAGES: dict[str, Callable[[], str]] = {
    "docs/openapi.json": openapi,
    "docs/settings.md": settings,
    "docs/cli.md": commands,
    **sync_client.pages(),  # before the page of the API, which reads it
    "docs/python.md": python_api.page,
    "docs/adr/README.md": decisions,
    "docs/catalog.md": known_models,
    "docs/failures.md": failures.page,
    "deploy/grafana/dashboards/conch.json": dashboard.page,
    **deployment.pages(),
    **{name: partial(with_blocks, name) for name in BLOCKS},
    **benchmarks.pages(),
    **curves.pages(),
    **scale.pages(),
}


def main(arguments: list[str] | None = None) -> int:
    """Write or check every page; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a page is out of date")
    check = parser.parse_args(arguments).check
    stale = []
    for name, page in PAGES.items():
        path, text = ROOT / name, page()
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            stale.append(name)
            if not check:
                path.write_text(text, encoding="utf-8")
    if stale:
        print(f"out of date: {', '.join(stale)}; run make docs" if check else f"wrote {', '.join(stale)}")
    return int(check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
