"""The `conch` command as a whole: what it says where packages are missing, and where its help has each command."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import typer
from conch.app import COMMANDS, app
from typer.testing import CliRunner

if TYPE_CHECKING:
    from pathlib import Path

WITHOUT = """
import json, os, sys
from conch.app import main
for module, *arguments in json.load(sys.stdin):
    assert module not in sys.modules
    if os.fork() == 0:
        sys.modules[module] = None
        sys.argv[1:] = arguments
        main()
    print(os.waitstatus_to_exitcode(os.wait()[1]), flush=True)  # not again by the next copy
"""
"""Runs commands, each as if a module were not installed, and prints their exit statuses."""
COMMANDS_WITHOUT = [
    ("export", "conch_export", "export"),
    ("models", "onnx", "export"),
    ("migrate compare old new --texts=texts.txt", "onnx", "export"),
    ("embed texts.txt --output=vectors", "pyarrow", "batch"),
    ("keys list", "starlette", "gateway"),
    ("plan --rate=200/s --profile=none.json", "pydantic_settings", "gateway"),
    ("serve", "starlette", "gateway,server"),
]
"""Commands, a module that each needs, and the extra that brings it."""


def test_a_command_names_the_extra_that_it_needs(tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("a text\n")
    commands = json.dumps([(module, *command.split()) for command, module, _ in COMMANDS_WITHOUT])
    ended = subprocess.run(
        [sys.executable, "-c", WITHOUT], input=commands, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert ended.stdout.split() == ["1"] * len(COMMANDS_WITHOUT)
    for said, (_, _, extra) in zip(ended.stderr.splitlines(), COMMANDS_WITHOUT, strict=True):
        assert said.startswith("error: ")
        assert said.endswith(f"pip install 'conch[{extra}]'")


def test_every_command_is_in_the_help_under_what_it_is_for() -> None:
    group: Any = typer.main.get_command(app)
    assert {command.rich_help_panel for command in group.commands.values()} == COMMANDS.keys()
    printed = CliRunner(env={"COLUMNS": "100"}).invoke(app, ["--help"]).output
    assert all(name in printed for name in [*COMMANDS, *group.commands])


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("bench", "[default: the first by name]"),
        ("serve", "[env var: CONCH_PORT; default: 8080]"),
        ("migrate compare", "[default: its own]"),
    ],
)
def test_help_on_a_terminal_states_what_stands_in_brackets(command: str, said: str) -> None:
    printed = CliRunner(env={"COLUMNS": "400"}).invoke(app, [*command.split(), "--help"]).output
    assert said in printed


@pytest.mark.parametrize(
    ("command", "status"),
    [
        ("--version", 0),
        ("keys list --file=there/is/none.json", 1),
        ("bench --texts=. --lengths=8", 1),
        ("bench --lengths=many", 2),
        ("plan --rate=1/s --profile=PROFILE --lengths=many", 2),
        ("bench --texts=there/is/none.txt", 2),
        ("export --prompts=there/is/none.json", 2),
        ("keys list --files=keys.json", 2),
        ("keys create", 2),
    ],
)
def test_a_wrong_command_line_is_status_2_and_what_is_refused_status_1(command: str, status: int) -> None:
    ended = CliRunner().invoke(app, command.split())
    assert ended.exit_code == status, ended.output
    assert (ended.stderr.startswith("error: ")) == (status == 1)
