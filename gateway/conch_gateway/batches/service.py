"""Files and batches of one gateway: assembles the parts and runs their background tasks."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from pydantic import SecretStr

from conch_gateway.background import end_all, repeat, start
from conch_gateway.batches.attempts import Attempts
from conch_gateway.batches.closing import Closing
from conch_gateway.batches.computing import Computing
from conch_gateway.batches.database import Database
from conch_gateway.batches.files import Files
from conch_gateway.batches.intake import Intake
from conch_gateway.batches.ledger import Ledger
from conch_gateway.batches.lines import LEASE_S, Lines
from conch_gateway.batches.pace import Pace
from conch_gateway.batches.records import Limits
from conch_gateway.batches.runner import Runner
from conch_gateway.errors import DatabaseError
from conch_gateway.settings import GatewaySettings

_log = logging.getLogger("conch_gateway")
_LOOK_S = 0.5  # interval of looking for work that other gateways have made, or that is due
_STORE_S = 0.1  # time in which answers are collected for one transaction
_SWEEP_S = 60.0
_LONGEST_PAUSE_S = 5.0  # while the database is away; far less than claims last
_DAY_S = 86_400


class Batches(Collector):
    """Files and batches of one gateway, and a collector of their metrics.

    Attributes:
        files: stored files.
        ledger: batches.
    """

    def __init__(self, setting: SecretStr, settings: GatewaySettings, computing: Computing) -> None:
        """Raises SettingError if the setting names no database."""
        limits = _limits(settings)
        gateway_id = f"{socket.gethostname()[:32]}-{os.getpid()}-{secrets.token_hex(4)}"
        self._database = database = Database(setting)
        self.files = Files(database, limits)
        self.ledger = Ledger(database, limits)
        self._lines = Lines(database, gateway_id)
        self._intake = Intake(database, self.files, limits, gateway_id)
        self._closing = Closing(database, limits)
        pace = Pace()
        attempts = Attempts(computing, pace)
        self._runner = Runner(self._lines, attempts.outcome, attempts.control, attempts.resting, pace)
        self._waiting = 0

    async def check(self) -> None:
        """Open the database and close it again; raises SettingError if it cannot be used."""
        async with self._database.opened():
            pass

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run the background tasks inside the block; failures are logged and tried again."""
        async with self._database.opened():
            await self._tidy()
            work: dict[str, tuple[Callable[[], Awaitable[None]], float, asyncio.Event | None]] = {
                "making the tables of batches": (self._database.prepare, _LOOK_S, None),
                "reading batches": (self._intake.step, _LOOK_S, self.ledger.has_new),
                "beginning lines of batches": (self._runner.fill, _LOOK_S, self._intake.has_read),
                "storing answers of batches": (self._runner.settle, _STORE_S, None),
                "holding lines of batches": (self._runner.hold, LEASE_S / 4, None),
                "holding batches that are read": (self._intake.hold, LEASE_S / 4, None),
                "ending lines of batches": (self._runner.end_late, _LOOK_S, None),
                "ending batches": (self._close, _LOOK_S, self._runner.has_ended),
                "deleting old files and batches": (self._sweep, _SWEEP_S, None),
            }
            tasks = [
                start(repeat(step, every_s, name, longest_s=_LONGEST_PAUSE_S, soon=soon), name)
                for name, (step, every_s, soon) in work.items()
            ]
            try:
                yield
            finally:
                await end_all(tasks)
                await self._stop()

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics."""
        lines = GaugeMetricFamily(
            "conch_gateway_batch_lines",
            "Lines of batches that this gateway is computing (running), and unanswered lines in the database, which "
            "gateways may share (waiting; includes running).",
            labels=("state",),
        )
        lines.add_metric(("running",), self._runner.running)
        lines.add_metric(("waiting",), self._waiting)
        results = CounterMetricFamily(
            "conch_gateway_batch_results",
            "Lines of batches that this gateway has answered (completed, failed) or postponed (put off).",
            labels=("result",),
        )
        for result, number in self._runner.results.items():
            results.add_metric((result,), number)
        most = GaugeMetricFamily(
            "conch_gateway_batch_most_lines",
            "Most lines of batches, large ones apart, that are computed at once; adapts to the backlog.",
            self._runner.pace.most,
        )
        yield from (lines, results, most)

    async def _tidy(self) -> None:
        """Release claims and delete uploads of an earlier run, in a database that no other gateway uses."""
        if self._database.shared:
            return
        try:
            await self._lines.release(of_all=True)
            await self.files.drop_unfinished()
        except DatabaseError as error:  # a full disk, say; claims expire, and uploads are deleted later
            _log.error("claims and uploads of an earlier run stay until they expire: %s", error)

    async def _close(self) -> None:
        await self._closing.step()
        self._waiting = await self._lines.waiting()

    async def _sweep(self) -> None:
        while await self.files.sweep():
            pass
        await self._closing.sweep()

    async def _stop(self) -> None:
        try:
            await self._runner.stop()
        except DatabaseError as error:  # its claims expire by themselves
            _log.warning("lines of batches are computed again later, by any gateway: %s", error)


def _limits(settings: GatewaySettings) -> Limits:
    return Limits(
        file_bytes=settings.batch_file_bytes,
        lines=settings.batch_lines,
        line_bytes=settings.max_body_bytes,
        key_bytes=settings.batch_key_bytes,
        key_files=settings.batch_key_files,
        key_batches=settings.batch_key_batches,
        retention_s=settings.batch_retention_days * _DAY_S,
    )
