"""A program that kills conch's commands at random moments and looks at what they leave.

`python tests/interrupted.py --kills 200 --json FILE` kills each command so often: every second time just before one of
its changes to the file system, drawn at random, otherwise after a random part of the time that it takes. What is there
afterwards must be wholly what it was or wholly what it was to become, as `conch serve` finds it. Running the command
again must lead to the latter and leave nothing over. It ends with status 1 if anything else is found.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import json
import os
import platform
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parent.parent))

import pytest
from conch_export import Options, Overrides, Precision, export, make_bundle, open_bundle, preload
from conch_export.triton.publish import complete
from conch_export.verification import reference  # noqa: F401  or each command imports it, and is killed in that mostly
from conch_export.verification.texts import docstrings
from conch_gateway.auth.keys import create_key, read_keys, revoke_key
from huggingface_hub import constants

from tests.checkpoints import Checkpoints
from tests.hub import only_hub

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_CHANGES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate", "os.chmod", "os.symlink", "os.link"}
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_HUB_ID = "somebody/model"


@dataclass(frozen=True)
class Command:
    """What is killed.

    Attributes:
        before: makes what there is before it, in an empty folder.
        run: the command, in that folder.
        places: everything that it changes, by name: a value that says whether it is old or new.
        again: after every how many kills it is run again, which for one that takes seconds is not every one.
    """

    before: Callable[[Path], object]
    run: Callable[[Path], object]
    places: Callable[[Path], Mapping[str, Any]]
    again: int = 1


def commands(checkpoint: Path, bundle: Path) -> dict[str, Command]:
    """All commands that write, each with something to replace."""

    def repository(folder: Path) -> Mapping[str, Any]:
        complete(folder / "models")
        return {"models": _files(folder / "models")}

    def opened(folder: Path) -> Mapping[str, Any]:
        complete(folder / "assets" / "conch" / "checkpoints")
        return {**repository(folder), "checkpoints": _files(folder / "assets")}

    def exported(folder: Path, **options: Any) -> None:
        export(Options(str(checkpoint), folder / "models", "m", precision=Precision.FP32, **options))

    def old_model(folder: Path) -> None:
        exported(folder, late_interaction=True, overrides=Overrides(max_length=16))

    def unbundle(folder: Path) -> None:
        constants.HF_ASSETS_CACHE = str(folder / "assets")
        open_bundle(bundle, folder / "models")

    def fetch(folder: Path) -> None:
        constants.HF_HUB_CACHE = str(folder / "cache")
        preload([_HUB_ID], folder / "models")

    def two_keys(folder: Path) -> None:
        for name in ("a", "b"):
            create_key(folder / "keys.json", name)

    def key_names(folder: Path) -> Mapping[str, Any]:
        return {"keys": [key.name for key in read_keys(folder / "keys.json")]}

    return {
        "export": Command(old_model, exported, repository, again=10),
        "preload": Command(lambda folder: (folder / "models").mkdir(), fetch, repository),
        "bundle": Command(
            lambda folder: (folder / "out.tar").write_text("old"),
            lambda folder: make_bundle([str(checkpoint)], folder / "models", folder / "out.tar"),
            lambda folder: {"bundle": hashlib.sha256((folder / "out.tar").read_bytes()).hexdigest()},
        ),
        "unbundle": Command(old_model, unbundle, opened),
        "keys create": Command(two_keys, lambda folder: create_key(folder / "keys.json", "c"), key_names),
        "keys revoke": Command(two_keys, lambda folder: revoke_key(folder / "keys.json", "a"), key_names),
    }


def _files(folder: Path) -> dict[str, str]:
    """Hashes of a folder's visible files; a report's, without the figures that were measured."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if path.is_file() and not any(part.startswith(".") for part in name.parts):
            content = path.read_bytes()
            if path.name == "report.json":
                content = json.dumps(json.loads(content)["files"]).encode()
            found[name.as_posix()] = hashlib.sha256(content).hexdigest()
    return found


def _child(work: Callable[[], object]) -> int:
    """The process id of a copy of this process that does the work and ends."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            with Path(os.devnull).open("w") as nowhere:
                os.dup2(nowhere.fileno(), 1)
                work()
            status = 0
        except BaseException as error:  # noqa: BLE001 - whatever it is, the parent must not run on in here
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
        os._exit(status)
    return child


def _done(child: int) -> None:
    """Wait for a child, which fails only if it is killed."""
    status = os.waitpid(child, 0)[1]
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        message = "a command failed where none was killed"
        raise SystemExit(message)


def _counted(command: Command, folder: Path, at: int = 0) -> int:
    """Run a command; die just before its change number `at`; returns how many changes there were."""
    changes = 0

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal changes
        if event in _CHANGES or (event == "open" and isinstance(arguments[2], int) and arguments[2] & _WRITING):
            changes += 1
            if changes == at:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    command.run(folder)
    return changes


def _measured(command: Command, folder: Path) -> tuple[int, float]:
    """Changes and seconds of a run that nobody kills."""
    reader, writer = os.pipe()
    begin = time.monotonic()
    child = _child(lambda: os.write(writer, str(_counted(command, folder)).encode()))
    _done(child)
    seconds = time.monotonic() - begin
    return int(os.read(reader, 20)), seconds


def kill(command: Command, kills: int, chance: random.Random, work: Path) -> dict[str, Any]:
    """Kill a command so often; returns what was found."""
    old, new = work / "old", work / "new"
    old.mkdir()
    _done(_child(lambda: command.before(old)))
    shutil.copytree(old, new)
    changes, seconds = _measured(command, new)
    outcomes, wrong = Counter[str](), []
    was, is_to_be = command.places(old), command.places(new)
    for number in range(kills):
        folder = Path(shutil.copytree(old, work / "killed"))
        moment = _kill(command, folder, chance.randint(1, changes) if number % 2 else chance.uniform(0, seconds))
        found = command.places(folder)
        states = {p: "old" if found[p] == was[p] else "new" if found[p] == is_to_be[p] else "between" for p in was}
        outcomes[" and ".join(f"{place} {state}" for place, state in states.items())] += 1
        if "between" in states.values():
            wrong.append(f"{moment}: {states}")
        if number % command.again == 0:
            if "keys" not in was or found != is_to_be:  # a key is neither made nor revoked twice
                _done(_child(partial(command.run, folder)))
            if command.places(folder) != is_to_be or _left_over(folder):
                wrong.append(f"{moment}: running it again left {_left_over(folder) or 'something else'}")
        shutil.rmtree(folder)
    again = len(range(0, kills, command.again))
    figures = {"changes": changes, "seconds": round(seconds, 3), "kills": kills, "run_again": again}
    return {**figures, "outcomes": outcomes, "wrong": wrong}


def _kill(command: Command, folder: Path, moment: float) -> str:
    """Kill a command just before the change of that number, or after so many seconds; says when that was."""
    if isinstance(moment, int):
        _done(_child(partial(_counted, command, folder, moment)))
        return f"before change {moment}"
    child = _child(partial(command.run, folder))
    time.sleep(moment)
    os.kill(child, signal.SIGKILL)
    _done(child)
    return f"after {moment:.3f} s"


def _left_over(folder: Path) -> list[str]:
    """Hidden files and unfinished downloads; the cache's own locks are none."""
    paths = (path for path in folder.rglob("*") if ".locks" not in path.parts)
    return sorted(str(p.relative_to(folder)) for p in paths if p.name.startswith(".") or p.suffix == ".incomplete")


def main() -> None:
    """Kill all commands and say what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200, help="of each command")
    parser.add_argument("--only", action="append", help="command, instead of all; repeat for more")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="file for the figures")
    asked = parser.parse_args()
    gc.freeze()  # or each command, a copy of this process, looks through all that was imported, again and again
    docstrings()  # or each export reads them anew, in a process of its own
    begin, found = time.monotonic(), {}
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        work = Path(name)
        with only_hub(patch, work / "hub") as hub:
            made = _prepared(work)
            hub.push(_HUB_ID, made[0])
            for called, command in commands(*made).items():
                if not asked.only or called in asked.only:
                    (work / called).mkdir()
                    chance = random.Random(asked.seed)  # noqa: S311 - nothing secret
                    found[called] = kill(command, asked.kills, chance, work / called)
                    print(called, json.dumps(found[called]), flush=True)
    if asked.json:
        only = "".join(f" --only {called!r}" for called in asked.only or ())
        command_line = f"python tests/interrupted.py --kills {asked.kills} --seed {asked.seed}{only}"
        machine = {"cores": os.cpu_count(), "python": platform.python_version(), "system": platform.platform()}
        date = datetime.now(timezone.utc).isoformat(timespec="seconds")
        figures = {"date": date, "command": command_line, "machine": machine, "commands": found}
        asked.json.write_text(
            json.dumps({**figures, "minutes": round((time.monotonic() - begin) / 60, 1)}, indent=1) + "\n"
        )
    sys.exit(any(each["wrong"] for each in found.values()))


def _prepared(work: Path) -> tuple[Path, Path]:
    """A checkpoint, and a bundle of it with a model; made by a child, so that no thread is here when this one forks."""

    def make() -> None:
        checkpoint = Checkpoints(work / "checkpoints").xlm_roberta("model")
        export(Options(str(checkpoint), work / "models", "m", precision=Precision.FP32, late_interaction=False))
        make_bundle([str(checkpoint)], work / "models", work / "model.tar")

    _done(_child(make))
    return work / "checkpoints" / "model", work / "model.tar"


if __name__ == "__main__":
    main()
