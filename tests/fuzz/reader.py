"""`python -m tests.fuzz.reader NAME RUNS FOLDER`: fuzzes one reader; exits with a traceback at the first fault.

libFuzzer mutates bytes; JSON is mutated as a value half of the time, because most damaged JSON ends in the parser.
"""

from __future__ import annotations

import sys
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import atheris

if TYPE_CHECKING:
    from collections.abc import Callable

with atheris.instrument_imports(include=["conch_client", "conch_export", "conch_gateway", "conch_server"]):
    from tests.fuzz.mutation import changed_value
    from tests.fuzz.targets import Targets

SECONDS_PER_INPUT = 10
MEGABYTES = 4096
MAX_BYTES = 65_536


def main(name: str, runs: str, folder: str, seed: str = "1") -> None:
    """Fuzz; ends the process."""
    work, corpus = Path(folder) / "work", Path(folder) / "corpus"
    work.mkdir()
    corpus.mkdir()
    target = Targets(work).make(name)
    for number, content in enumerate(target.seeds):
        (corpus / str(number)).write_bytes(content)

    def read(data: bytes) -> None:
        try:
            target.read(data)
        except target.expected:
            return

    options = [f"-runs={runs}", f"-seed={seed}", f"-timeout={SECONDS_PER_INPUT}", f"-rss_limit_mb={MEGABYTES}"]
    options += [f"-max_len={MAX_BYTES}", f"-artifact_prefix={folder}/", "-print_final_stats=1"]
    atheris.Setup([sys.argv[0], *options, str(corpus)], read, custom_mutator=_mutator(target.seeds))
    atheris.Fuzz()


def _mutator(seeds: tuple[bytes, ...]) -> Callable[[bytes, int, int], bytes]:
    def mutate(data: bytes, max_size: int, seed: int) -> bytes:
        random = Random(seed)  # noqa: S311 - the same seed makes the same inputs
        # Coverage does not see into compiled parsers, so libFuzzer's corpus shrinks to what is refused at once.
        start = random.choice((data, random.choice(seeds)))
        changed = changed_value(start, random) if random.random() < 0.5 else b""
        if 0 < len(changed) <= max_size:
            return changed
        mutant: bytes = atheris.Mutate(start, max_size)
        return mutant

    return mutate


if __name__ == "__main__":
    main(*sys.argv[1:])
