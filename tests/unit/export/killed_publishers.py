"""A program that publishes into copies of a repository and is killed, in each copy at another moment.

Rather than after a time, a publisher kills itself at its n-th call that changes the file system: every such moment is
met once, whatever the speed of the machine. The last copy's publisher lives to the end.
"""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import sys
from pathlib import Path

from conch_export.triton.publish import staged

CHANGES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "open"}


def main(repository: Path, copies: Path) -> None:
    for number in itertools.count(1):
        copy = copies / f"{number:03}"
        shutil.copytree(repository, copy)
        child = os.fork()
        if child == 0:
            publish_until_killed(copy, number)
        if os.WIFEXITED(os.waitpid(child, 0)[1]):
            return


def publish_until_killed(repository: Path, number: int) -> None:
    """Publish "new" in place of every model, but die just before the number-th change; never returns."""
    models = [path.name for path in repository.iterdir()]
    changes = itertools.count(1)

    def hook(event: str, _: tuple[object, ...]) -> None:
        if event in CHANGES and next(changes) == number:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    with staged(repository) as folder:
        for model in models:
            (folder / model).mkdir()
            (folder / model / "config.pbtxt").write_text("new")
            (folder / model / "weights").write_bytes(b"new" * 10_000)
    os._exit(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
