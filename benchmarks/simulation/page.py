"""The generated parts of docs/scale.md: the simulation beside measurements, and what it says of larger deployments."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from benchmarks import curves
from benchmarks.simulation.chart import Axis, Series, chart
from benchmarks.simulation.compare import COMPARED, MEASURED, SIMULATED
from benchmarks.simulation.scenarios import BURST_S, SCALED_S, START_S, ZONE_S, ZONE_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable

DEPLOYMENTS = {
    "single": "`conch serve`: one Triton with two instances",
    "tritons": "three Tritons with one instance each behind one gateway",
    "stand-ins": "three stand-ins for Tritons, whose runs take a fixed time, behind one gateway",
}
MILLISECONDS, REPLICAS = Axis("ms", log=True), Axis("replicas", log=True)
NEAR = 0.15  # of what was measured: as near as the simulation is to be
MISSING = (
    "Not measured yet: `python -m benchmarks.simulation.measure single tritons stand-ins`, then `compare` and "
    "`scenarios` beside it do, and `make docs` puts it here."
)

LATER = "Not simulated yet: `python -m benchmarks.simulation.scenarios` does, and `make docs` puts it here."


def pages() -> dict[str, Callable[[], str]]:
    """Charts of what has been simulated, by their path in the repository."""
    charts = {
        "docs/scale-compared.svg": ("compared", compared_chart),
        "docs/scale-gateway.svg": ("one_gateway", gateway_chart),
        "docs/scale-replicas.svg": ("sizes", replicas_chart),
        "docs/scale-choosing.svg": ("choosing", choosing_chart),
        "docs/scale-zone.svg": ("zone", zone_chart),
        "docs/scale-burst.svg": ("burst", burst_chart),
    }
    return {path: made for path, (needs, made) in charts.items() if _has(needs)}


def blocks() -> dict[str, Callable[[], str]]:
    """Parts of docs/scale.md, by their names."""
    parts = {
        "compared": ("compared", compared),
        "limits": ("one_gateway", limits),
        "replicas": ("sizes", replicas),
        "choosing": ("choosing", choosing),
        "zone": ("zone", zone),
        "burst": ("burst", burst),
    }
    return {name: made if _has(needs) else partial(_missing, name) for name, (needs, made) in parts.items()}


def _missing(name: str) -> str:
    return MISSING if name == "compared" else LATER


def _has(name: str) -> bool:
    return SIMULATED.exists() and name in _simulated()


def compared() -> str:
    """Return measured and simulated figures of every load, and where they were measured."""
    lines = [
        "| load | answered/s | simulated | p50 ms | simulated | p99 ms | simulated | other work, cores |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    found = _simulated()["compared"]
    for name, loads in found.items():
        lines.append(f"| **{DEPLOYMENTS[name]}** | | | | | | | |")
        for load in loads:
            cells = (_pair(load, each) for each in COMPARED)
            lines.append(f"| {load['load']} | {' | '.join(cells)} | {load['others_cores']:.1f} |")
    picture = "![99th percentile, measured and simulated](scale-compared.svg)"
    return "\n".join([*lines, "", _near(found), "", picture, "", _profile()])


def _near(found: dict[str, Any]) -> str:
    """How many figures of each kind are as near as they are to be."""
    told = []
    for name, loads in found.items():
        near = [sum(abs(_off(load, each)) <= NEAR for load in loads) for each in COMPARED]
        counts = f"{near[0]} throughputs, {near[1]} medians and {near[2]} 99th percentiles of {len(loads)}"
        told.append(f"{DEPLOYMENTS[name]}: {counts}")
    return (
        "Measured are rounds of a load that nothing disturbed, together, with the lowest and the highest of them in "
        "brackets; where other work disturbed all of them, the least disturbed one, and how many cores that work took, "
        f"of which the simulation knows nothing. Within {NEAR:.0%} of what was measured are: {'; '.join(told)}."
    )


def _profile() -> str:
    single = _measured()["single"]
    machine, profile = single["machine"], single["profile"]
    engine, gateway = profile["engine"], profile["gateway"]
    commands = ", ".join(f"`{of['command']}`" for of in _measured().values())
    return (
        f"Measured with {commands} on {single['date'][:10]}: {machine['cores']} cores ({machine['cpu']}). By the "
        f"profile a run of an instance takes {1e3 * engine['fixed_s']:.2f} ms, {1e6 * engine['row_s']:.0f} µs a text, "
        f"{1e6 * engine['token_s']:.1f} µs a token and {1e9 * engine['square_s']:.1f} ns a pair of tokens, "
        f"{engine['mixed']:.2f} times as long with texts of different lengths, {engine['slowdown']:.2f} times as long "
        f"while both instances run, and a call {1e3 * engine['call_s']:.2f} ms "
        f"beside; the gateway spends {1e3 * gateway['request_s']:.2f} ms on a request, {1e6 * gateway['token_s']:.1f} "
        f"µs on each token and {1e3 * gateway['call_s']:.2f} ms on a call, and a request takes "
        f"{1e3 * gateway['cold_s']:.1f} ms longer after a pause. The costs of runs are off by at most "
        f"{profile['about']['fit_off_by']:.0%} from the runs that were timed."
    )


def limits() -> str:
    """Return what one replica and one gateway do at most."""
    found = _simulated()["limits"]
    return (
        f"By the measured costs one replica of two cores computes {found['replica_per_s']:,.0f} texts of mixed lengths "
        f"in a second, and a gateway with a core of its own takes {found['gateway_per_s']:,.0f} requests with one each"
        ", if every text has a call of its own. Short texts of several requests share calls, which raises both.\n\n"
        "![99th percentile by rate](scale-gateway.svg)"
    )


def replicas() -> str:
    """Return how latency changes with the number of replicas."""
    rows = _simulated()["sizes"]
    first, last = rows[0], rows[-1]
    return (
        f"![99th percentile by replicas](scale-replicas.svg)\n\nSimulated, from 1 replica to {last['replicas']:,} with "
        f"{last['gateways']:,} gateways and {last['per_s']:,.0f} texts/s: the median goes from "
        f"{first['many_views_p50_ms']:.0f} to {last['many_views_p50_ms']:.0f} ms, the 99th percentile from "
        f"{first['many_views_p99_ms']:.0f} to {last['many_views_p99_ms']:.0f} ms."
    )


def choosing() -> str:
    """Return what it costs to choose a replica."""
    costs = {row["replicas"]: row["microseconds"] for row in _simulated()["choosing"]}
    told = ", ".join(f"{cost:,.0f} µs among {number:,}" for number, cost in costs.items() if number in {4, 64, 1024})
    return f"![Time to choose a replica](scale-choosing.svg)\n\nMeasured: {told}."


def zone() -> str:
    """Return what the loss of a third of the replicas does."""
    told = "; ".join(
        f"at {used} {found['refused'] + found['failed']:,} of {found['sent']:,} requests were refused or failed"
        for used, found in _simulated()["zone"].items()
    )
    return f"![Latency while a third of the replicas is gone](scale-zone.svg)\n\nSimulated: {told}."


def burst() -> str:
    """Return what an autoscaler makes of a burst."""
    told = "; ".join(
        f"by {name} {max(moment['replicas'] for moment in found['seen'])} replicas at most, and "
        f"{found['refused'] + found['failed']:,} of {found['sent']:,} requests were refused or failed"
        for name, found in _simulated()["burst"].items()
    )
    return (
        "![Replicas and latency during a burst](scale-burst.svg)\n\n"
        f"Simulated, with replicas that take {START_S:g} s to start: {told}."
    )


def compared_chart() -> str:
    """The 99th percentile, measured and simulated, by rate."""
    series = []
    for color, (name, loads) in enumerate(_simulated()["compared"].items()):
        rates = [load for load in loads if load["load"].endswith("/s")]
        for kind, marks in (("measured", True), ("simulated", False)):
            points = [(float(load["load"].removesuffix("/s")), load[kind]["p99_ms"]) for load in rates]
            series.append(Series(f"{name}, {kind}", points, marks, color))
    return chart("99th percentile of latency: measured and simulated", Axis("texts/s"), MILLISECONDS, series)


def gateway_chart() -> str:
    """Where one gateway ends."""
    rows = _simulated()["one_gateway"]
    series = [
        Series(label, [(row["per_s"], row[f"{name}_p99_ms"]) for row in rows], color=color)
        for color, (name, label) in enumerate({"one": "one gateway", "two": "two gateways"}.items())
    ]
    title = "99th percentile by rate, with more replicas than are needed (simulated)"
    return chart(title, Axis("requests/s"), MILLISECONDS, series)


def replicas_chart() -> str:
    """How latency changes with the number of replicas."""
    rows = _simulated()["sizes"]
    names = {"one_view": "one gateway that costs nothing", "many_views": "one gateway for every three"}
    series = [
        Series(label, [(row["replicas"], row[key]) for row in rows if (key := f"{name}_p99_ms") in row], color=color)
        for color, (name, label) in enumerate(names.items())
    ]
    return chart("99th percentile by replicas, each 70 % busy (simulated)", REPLICAS, Axis("ms"), series)


def choosing_chart() -> str:
    """What it costs to choose a replica."""
    points = [(row["replicas"], row["microseconds"]) for row in _simulated()["choosing"]]
    title = "Processor time to choose a replica for a call (measured)"
    return chart(title, REPLICAS, Axis("µs", log=True), [Series("the client's routing", points)])


def zone_chart() -> str:
    """Latency before, while and after a third of the replicas is gone."""
    found = _simulated()["zone"]
    events = [{"at_s": at_s, "what": ""} for at_s in ZONE_S]
    return curves.figure("The loss of a zone (simulated)", _percentiles(found), ZONE_SECONDS, events)


def burst_chart() -> str:
    """Replicas, predicted wait and latency during a burst."""
    found = _simulated()["burst"]
    events = [{"at_s": at_s, "what": ""} for at_s in BURST_S]
    seen = [
        {"title": title, "unit": unit, "curves": {name: _seen(each, key) for name, each in found.items()}}
        for title, unit, key in (("Replicas", "that serve", "replicas"), ("Predicted wait", "s", "wait_s"))
    ]
    panels = [*seen, _percentiles(found)[1]]
    return curves.figure("A burst (simulated)", panels, SCALED_S, events)


def _seen(found: dict[str, Any], key: str) -> list[list[float]]:
    return [[moment["at_s"], moment[key]] for moment in found["seen"]]


def _percentiles(found: dict[str, Any]) -> list[dict[str, Any]]:
    """The median and the 99th percentile of each run, over time."""
    return [
        {
            "title": title,
            "unit": "ms",
            "curves": {name: [[row["at_s"], row[key]] for row in each["windows"]] for name, each in found.items()},
        }
        for title, key in (("Median latency", "p50_ms"), ("99th percentile", "p99_ms"))
    ]


def _pair(load: dict[str, Any], name: str) -> str:
    was, least, most, found = (load[kind][name] for kind in ("measured", "least", "most", "simulated"))
    return f"{was:,.1f} ({least:,.0f} to {most:,.0f}) | {found:,.1f} ({_off(load, name):+.0%})"


def _off(load: dict[str, Any], name: str) -> float:
    """How far the simulation is off, relative to what was measured."""
    return float(load["simulated"][name] / load["measured"][name] - 1)


def _measured() -> dict[str, Any]:
    return curves.read(MEASURED)


def _simulated() -> dict[str, Any]:
    return curves.read(SIMULATED)
