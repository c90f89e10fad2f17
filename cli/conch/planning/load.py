"""`conch plan --rate`: prints how many replicas a load needs, and the simulated results."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from conch.capacity.need import Need, sample
from conch.capacity.profile import Profile, ProfileError
from conch.capacity.sizing import TooSlowError, size
from conch.console import facts, fail, stdout, steps

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from rich.table import Table
    from rich.text import Text

    from conch.capacity.sizing import Simulated, Sizing


def plan_load(
    per_s: float, lengths: str, p99_s: float, profile_path: Path | None, *, model: str | None, as_json: bool
) -> None:
    """Print the plan.

    Args:
        per_s: Texts in a second.
        lengths: Their lengths, as on the command line.
        p99_s: Time in which 99 % of them are to be answered.
        profile_path: File of a measured profile.
        model: Model that the profile must be of; None for any.
        as_json: Whether to print JSON.
    """
    if profile_path is None:
        fail(
            "--rate needs a measured profile: start one replica, measure it with conch bench --profile FILE, and give "
            "the file as --profile FILE"
        )
    tokens = sample(lengths)
    try:
        profile = Profile.read(profile_path)
        if model not in {None, profile.model}:
            fail(
                f"{profile_path} is of {profile.model}; measure {model} with conch bench --model {model} --profile FILE"
            )
        need = Need(per_s, tokens, p99_s)
        with steps("simulating") as progress:
            sizing = size(profile, need, progress)
    except (ProfileError, TooSlowError, ValueError) as error:
        fail(str(error))
    if as_json:
        typer.echo(json.dumps(asdict(sizing), indent=2))
    else:
        stdout.print(_table(profile, sizing))


def _table(profile: Profile, sizing: Sizing) -> Table:
    """Return a table with the answer as its title, and the results as rows."""
    needed = f"{_counted(sizing.replicas, 'replica')} with {_hardware(sizing.hardware)} in all"
    if sizing.gateways is not None:
        needed += f", {_counted(sizing.gateways, 'gateway')}"
    return facts(f"{profile.model}: {needed}", _rows(profile, sizing))


def _rows(profile: Profile, sizing: Sizing) -> Iterator[tuple[str, str | Text]]:
    cut = f"; {sizing.truncated:.0%} are truncated to {profile.max_length}" if sizing.truncated else ""
    yield "load", f"{sizing.texts_per_s:,.4g} texts/s of {sizing.tokens_mean:.0f} tokens in the mean{cut}"
    each = {kind: number // sizing.replicas for kind, number in sizing.hardware.items()}
    yield "a replica", f"{_hardware(each)} compute at most {sizing.replica_texts_per_s:,.0f} such texts/s"
    yield "a lone text", f"of {sizing.tokens_p99:.0f} tokens, as 1 % have or more, takes {sizing.lone_ms:,.1f} ms"
    for tried in sizing.tried:
        if tried.replicas < sizing.replicas - 1:
            yield "too few", _done(tried)
    yield "enough", f"{_done(sizing.chosen)} of the {sizing.p99_ms:g} allowed; {sizing.busy:.0%} of their time is used"
    if sizing.without_one is not None:
        yield "with one less", f"{_done(sizing.without_one)}, as when one is lost"
    if sizing.gateway_busy is None:
        yield "gateways", "not in the profile: measure one with conch bench http://HOST:PORT --profile FILE"
    else:
        yield "gateways", f"{sizing.gateways}, each of whose one thread is busy {sizing.gateway_busy:.0%} of the time"
    yield (
        "simulated",
        f"{sizing.simulated_requests:,} requests at random moments, through the gateway's own scheduling",
    )


def _done(found: Simulated) -> str:
    refused = f", {found.refused:.1%} refused" if found.refused else ""
    return f"{_counted(found.replicas, 'replica')}: p50 {found.p50_ms:,.1f} ms, p99 {found.p99_ms:,.1f} ms{refused}"


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _hardware(counts: dict[str, int]) -> str:
    names = {"cores": "core", "gpus": "GPU"}
    return " and ".join(_counted(number, names.get(kind, kind)) for kind, number in counts.items())
