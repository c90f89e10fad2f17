"""Which series there are, and which of them a query names. A query that names another would show nothing, silently."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from conch_client import AsyncClient
from conch_gateway import GatewaySettings, create_app
from conch_gateway.telemetry.embedded import EmbeddedTriton
from conch_server import ServerSettings, Supervisor
from pydantic import SecretStr

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client import CollectorRegistry

RULES = Path(__file__).parent / "rules"
PROMETHEUS = frozenset({"up"})
"""Series that Prometheus makes itself, which the rules or the dashboard use."""
TRITON = frozenset(
    {
        "nv_cpu_memory_total_bytes",
        "nv_cpu_memory_used_bytes",
        "nv_inference_count",
        "nv_inference_exec_count",
        "nv_inference_pending_request_count",
        "nv_inference_queue_duration_us",
        "nv_inference_request_failure",
        "nv_inference_request_success",
    }
)
"""Of Triton's own series those that are used here; an end-to-end test finds them on its metrics port."""
_SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "gauge": ("",)}
_WORDS = frozenset({"and", "or", "unless", "bool", "offset", "by", "without", "on", "ignoring"})


@dataclass(frozen=True)
class Series:
    """A metric as it is exposed.

    Attributes:
        name: with the suffix of a counter; a histogram's without any.
        kind: `counter`, `gauge` or `histogram`.
        labels: of its samples.
        meaning: a sentence.
    """

    name: str
    kind: str
    labels: tuple[str, ...]
    meaning: str


def exposed() -> list[Series]:
    """Return what `/metrics` of `conch serve` exposes, by name; samples are not needed."""
    embedded = EmbeddedTriton(Supervisor(ServerSettings.model_construct(), cores=1))
    # With a Redis and a database, which are not connected to, as they have metrics too.
    settings = GatewaySettings.model_construct(
        redis_url=SecretStr("redis://redis"), batch_database=SecretStr("batches.db")
    )
    app = create_app(settings, AsyncClient(), [embedded])
    return sorted(_series(app.state.metrics.registry), key=lambda series: series.name)


def _series(registry: CollectorRegistry) -> Iterator[Series]:
    # prometheus_client tells the labels of a metric without samples nowhere else.
    for collector in registry._collector_to_names:
        for metric in collector.collect():
            labels = getattr(collector, "_labelnames", ()) or getattr(metric, "_labelnames", ())
            suffix = "_total" if metric.type == "counter" else ""
            yield Series(f"{metric.name}{suffix}", metric.type, tuple(labels), metric.documentation)


def rules() -> list[dict[str, Any]]:
    """Return all rules, in the order of their files."""
    files = (yaml.safe_load(path.read_text(encoding="utf-8")) for path in sorted(RULES.glob("*.yml")))
    return [rule for file in files for group in file["groups"] for rule in group["rules"]]


def known() -> frozenset[str]:
    """Return the name of every series that a query may name."""
    scraped = {f"{each.name.removesuffix('_total')}{end}" for each in exposed() for end in _SUFFIXES[each.kind]}
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    return frozenset(scraped | recorded | TRITON | PROMETHEUS)


def named(query: str) -> frozenset[str]:
    """Return the names of series in a query: words that are neither functions, nor operators, nor names of labels."""
    bare = re.sub(r'"[^"]*"|\{[^}]*\}|\[[^\]]*\]', " ", query)
    bare = re.sub(r"\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)", " ", bare)
    words = re.findall(r"(?<![\w:.$])([a-zA-Z_:][\w:]*)\b(?!\s*\()", bare)
    return frozenset(words) - _WORDS


def check(queries: dict[str, str]) -> None:
    """Raise ValueError for a query, given by where it is, that names a series that does not exist."""
    existing = known()
    for place, query in queries.items():
        if unknown := sorted(named(query) - existing):
            message = f"{place}: there is no series {', '.join(unknown)}; docs/monitoring.md lists what there is"
            raise ValueError(message)
