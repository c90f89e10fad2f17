"""Runs a job over a corpus and shows its progress: a bar on a terminal, lines elsewhere, and a table at the end."""

from __future__ import annotations

import logging
import os
import shlex
import signal
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from conch import INTERRUPTED
from conch.console import LINE_EVERY_S, facts, fail, stderr

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conch_batch import Done, Job, Report, Workers


def compute(job: Job, workers: Workers) -> None:
    """Run a job, show its progress, and print its result; ends with status 1 on an error, 130 on Ctrl-C."""
    import conch_batch  # noqa: PLC0415

    logging.disable(logging.CRITICAL)  # Ray logs errors with their tracebacks that it raises too
    try:
        with _shown() as watcher:
            report = conch_batch.run(job, workers, watcher)
    except (conch_batch.InterruptedRun, KeyboardInterrupt) as error:
        _interrupted(str(error) or "stopped")
    except conch_batch.BatchError as error:
        fail(str(error))
    stderr.print(facts(f"{job.model} → {job.output}", _told(job, report, watcher.seconds)))


class _Counts:
    """Counts of a run so far."""

    def __init__(self) -> None:
        self.rows = self.of = self.failed = self.tokens = self._before = 0
        self._began = time.monotonic()

    def reading(self, files: int, of: int) -> None:
        """See `conch_batch.Watcher`."""

    def starting(self, rows: int, present: int) -> None:
        """See `conch_batch.Watcher`."""
        self.of, self.rows, self._before, self._began = rows, present, present, time.monotonic()

    def done(self, shard: Done) -> None:
        """See `conch_batch.Watcher`."""
        self.rows += shard.rows
        self.failed += shard.failed
        self.tokens += shard.tokens

    @property
    def seconds(self) -> float:
        """Seconds since computing began."""
        return max(time.monotonic() - self._began, 1e-3)

    @property
    def rate(self) -> str:
        """Tokens per second, and the number of failed rows if there are any."""
        failed = f", {self.failed:,} failed" if self.failed else ""
        return f"{self.tokens / self.seconds:,.0f} tokens/s{failed}"

    @property
    def left_s(self) -> float:
        """Seconds that the rest takes at the current rate."""
        return self.seconds * (self.of - self.rows) / max(self.rows - self._before, 1)


class _Lines(_Counts):
    """A line when something begins, and one every few seconds."""

    def __init__(self) -> None:
        super().__init__()
        self._said = time.monotonic()

    def reading(self, files: int, of: int) -> None:
        """See `conch_batch.Watcher`."""
        if not files or self._is_time():
            stderr.print(f"reading {of:,} file(s) … {files:,} read", highlight=False)

    def starting(self, rows: int, present: int) -> None:
        """See `conch_batch.Watcher`."""
        super().starting(rows, present)
        stderr.print(f"{rows:,} rows, {present:,} of them are there already", highlight=False)

    def done(self, shard: Done) -> None:
        """See `conch_batch.Watcher`."""
        super().done(shard)
        if self._is_time():
            left = f"about {self.left_s:.0f} s left" if self.rows > self._before else "repeated rows first"
            stderr.print(f"{self.rows:,} of {self.of:,} rows … {self.rate}, {left}", highlight=False)

    def _is_time(self) -> bool:
        if time.monotonic() - self._said < LINE_EVERY_S:
            return False
        self._said = time.monotonic()
        return True


class _Bar(_Counts):
    """A bar of files that are read, then of rows that are computed."""

    def __init__(self, bars: Progress) -> None:
        super().__init__()
        self._bars = bars
        self._task = bars.add_task("reading", total=None)

    def reading(self, files: int, of: int) -> None:
        """See `conch_batch.Watcher`."""
        self._bars.update(self._task, description="reading", completed=files, total=of)

    def starting(self, rows: int, present: int) -> None:
        """See `conch_batch.Watcher`."""
        super().starting(rows, present)
        self._bars.remove_task(self._task)
        self._task = self._bars.add_task("starting", completed=present, total=rows)

    def done(self, shard: Done) -> None:
        """See `conch_batch.Watcher`."""
        super().done(shard)
        self._bars.update(self._task, description=self.rate, completed=self.rows)


@contextmanager
def _shown() -> Iterator[_Counts]:
    if not stderr.is_terminal:
        yield _Lines()
        return
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=stderr, transient=True) as bars:
        yield _Bar(bars)


def _interrupted(what: str) -> NoReturn:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process ends now, however often the keys are pressed
    command = shlex.join(["conch", *sys.argv[1:]])
    stderr.print(f"{what}. To go on, run the same command again:\n  {command}", soft_wrap=True, highlight=False)
    stderr.file.flush()
    # Not by an exception: threads of Ray that outlive it end an exiting process with a status of their own.
    os._exit(INTERRUPTED)


def _told(job: Job, report: Report, seconds: float) -> Iterator[tuple[str, str | Text]]:
    rows, failed = (sum(getattr(done, name) for done in report.done) for name in ("rows", "failed"))
    tokens = sum(done.tokens for done in report.done)
    yield "rows", f"{report.rows:,}, {report.present:,} of them were there already"
    if rows:
        yield "computed", f"{rows:,} rows, {tokens:,} tokens in {seconds:.0f} s: {tokens / seconds:,.0f} tokens/s"
    if failed:
        yield "failed", Text(f"{failed:,}, listed with their reasons in {job.output.rstrip('/')}/_failed", "red")
