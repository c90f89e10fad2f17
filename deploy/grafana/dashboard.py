"""Grafana's dashboard as data, and the JSON that Grafana is provisioned with.

`docs/generate.py` writes dashboards/conch.json, and fails for a query that names a series that does not exist.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from deploy.prometheus import series

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

DATASOURCE = {"type": "prometheus", "uid": "conch-prometheus"}
COLUMNS, WIDTH, HEIGHT = 24, 8, 8
RATE = "$__rate_interval"
"""Grafana's: at least four scrapes, whatever is zoomed to."""
OF_MODEL = '{model=~"$model"}'


@dataclass(frozen=True)
class Panel:
    """Curves over time.

    Attributes:
        title: of the panel.
        unit: one of Grafana's.
        queries: what each curve is called, where braces hold a label, to its query.
        meaning: what to read from it.
        most: of its axis, where that is known.
    """

    title: str
    unit: str
    queries: Mapping[str, str]
    meaning: str
    most: float | None = None


def _mean(histogram: str) -> str:
    """The mean of what was observed lately, by model and shadow."""
    total, count = (f"sum by (model, shadow) (rate({histogram}_{of}{OF_MODEL}[{RATE}]))" for of in ("sum", "count"))
    return f"{total} / {count}"


ROWS: Mapping[str, tuple[Panel, ...]] = {
    "Requests": (
        Panel(
            "Requests",
            "reqps",
            {"{{status}}": f"sum by (status) (rate(conch_gateway_requests_total[{RATE}]))"},
            "By status of the answer; 499 are callers who hung up.",
        ),
        Panel(
            "Error rate",
            "percentunit",
            {"failed (5xx)": "conch:failures:ratio_rate5m", "refused (429)": "conch:refusals:ratio_rate5m"},
            "Shares of all requests.",
        ),
        Panel(
            "Errors",
            "reqps",
            {"{{code}}": f"sum by (code) (rate(conch_gateway_errors_total[{RATE}]))"},
            "By code; docs/clients.md says what each means.",
        ),
        Panel(
            "Latency",
            "s",
            {
                "p50 {{model}}": f"model:conch_request_seconds:p50_5m{OF_MODEL}",
                "p95 {{model}}": f"model:conch_request_seconds:p95_5m{OF_MODEL}",
                "p99 {{model}}": f"model:conch_request_seconds:p99_5m{OF_MODEL}",
            },
            "From headers read to answer sent, over five minutes.",
        ),
        Panel(
            "Phases",
            "s",
            {
                "{{phase}} {{model}}": "histogram_quantile(0.95, sum by (phase, model, le) "
                f"(rate(conch_gateway_phase_seconds_bucket{OF_MODEL}[{RATE}])))"
            },
            "What a request spends its time on, 95th percentile.",
        ),
        Panel(
            "Throughput",
            "short",
            {
                "tokens/s {{model}}": f"model:conch_tokens:rate5m{OF_MODEL}",
                "texts/s {{model}}": f"sum by (model) (rate(conch_gateway_texts_total{OF_MODEL}[{RATE}]))",
            },
            "Real tokens: no padding, and nothing that the cache answered.",
        ),
    ),
    "Load": (
        Panel(
            "Predicted wait",
            "s",
            {"{{model}}": f"max by (model) (conch_gateway_predicted_wait_seconds{OF_MODEL})"},
            "Of a request that arrives now: the backlog's tokens by the throughput measured so far.",
        ),
        Panel(
            "Queue",
            "short",
            {
                "{{state}} {{model}}": f"sum by (state, model) (conch_gateway_backlog_requests{OF_MODEL})",
                "in flight": "sum(conch_gateway_in_flight_requests)",
            },
            "Requests in the gateways.",
        ),
        Panel(
            "Calls to Triton",
            "short",
            {
                "under way": "sum(conch_gateway_triton_calls)",
                "slots": "sum(conch_gateway_triton_slots)",
                "pending in Triton": "sum(nv_inference_pending_request_count)",
            },
            "With all slots taken, requests wait in the gateways, where they are merged.",
        ),
        Panel(
            "Triton's queue",
            "µs",
            {
                "{{model}}": f"sum by (model) (rate(nv_inference_queue_duration_us[{RATE}])) "
                f"/ sum by (model) (rate(nv_inference_request_success[{RATE}]))"
            },
            "Time that a call waits within Triton.",
        ),
        Panel(
            "Merged rows",
            "short",
            {
                "{{model}}": f"sum by (model) (rate(nv_inference_count[{RATE}])) "
                f"/ sum by (model) (rate(nv_inference_exec_count[{RATE}]))"
            },
            "Rows that an execution of a Triton model computes together.",
        ),
    ),
    "Batches": (
        Panel(
            "Lines",
            "short",
            {
                "waiting": 'max(conch_gateway_batch_lines{state="waiting"})',
                "running": 'sum(conch_gateway_batch_lines{state="running"})',
                "most at once": "sum(conch_gateway_batch_most_lines)",
            },
            "Of batches, in the background of all requests.",
        ),
        Panel(
            "Lines answered",
            "short",
            {"{{result}}/s": f"sum by (result) (rate(conch_gateway_batch_results_total[{RATE}]))"},
            "And those that could not be computed then, and are tried again (put off).",
        ),
    ),
    "Answers": (
        Panel(
            "Cache hit rate",
            "percentunit",
            {"{{model}}": f"model:conch_cache_hits:ratio_rate5m{OF_MODEL}"},
            "Share of the texts that were remembered.",
            most=1,
        ),
        Panel(
            "Truncated texts",
            "percentunit",
            {"{{model}}": f"model:conch_truncated:ratio_rate5m{OF_MODEL}"},
            "Share of the texts that are longer than the model reads.",
        ),
        Panel(
            "NaN rows",
            "short",
            {"{{model}}": f"sum by (model) (increase(conch_gateway_nan_rows_total{OF_MODEL}[{RATE}]))"},
            "Texts that a model has answered with NaN; should be none.",
        ),
        Panel(
            "Canary",
            "short",
            {"{{model}} {{instance}}": f"conch_gateway_canary_cosine{OF_MODEL}"},
            "Cosine of a known text's vector with the one that its authors' library computed.",
            most=1,
        ),
    ),
    "Shadow traffic": (
        Panel(
            "Agreement",
            "percentunit",
            {
                "{{model}} and {{shadow}}": _mean("conch_gateway_shadow_agreement"),
                "correlation of {{model}} and {{shadow}}": _mean("conch_gateway_shadow_correlation"),
            },
            "Of nearest recent texts in common, and of cosines, between the model that answers and its shadow.",
            most=1,
        ),
        Panel(
            "Time",
            "short",
            {"{{shadow}} to {{model}}": _mean("conch_gateway_shadow_time_ratio")},
            "The shadow's time for inference, relative to that of the answer.",
        ),
        Panel(
            "Shadow requests",
            "reqps",
            {
                "{{outcome}} {{shadow}}": "sum by (outcome, shadow) "
                f"(rate(conch_gateway_shadow_requests_total{OF_MODEL}[{RATE}]))"
            },
            "Those that were to go to the shadow as well; many dropped ones mean that there is no time to spare.",
        ),
    ),
    "Processes": (
        Panel(
            "Load time",
            "s",
            {
                "{{model}}": f"conch_gateway_model_load_seconds{OF_MODEL}",
                "start of the embedded Triton": "conch_server_start_seconds",
            },
            "Of models that the gateway has loaded, and of the whole repository where Triton is embedded.",
        ),
        Panel(
            "Memory",
            "bytes",
            {
                "gateway {{instance}}": 'process_resident_memory_bytes{job="conch-gateway"}',
                "embedded Triton {{instance}}": "conch_server_resident_memory_bytes",
                "machine of Triton {{instance}}": "nv_cpu_memory_used_bytes",
            },
            "Resident memory of processes; of Triton in a container its machine's, as Triton tells it.",
        ),
        Panel(
            "Replicas",
            "short",
            {
                "{{state}} {{backend}}": "sum by (backend, state) "
                "(max by (backend, replica, state) (conch_gateway_replica_state))"
            },
            "Servers that compute, by their state as the gateways see them.",
        ),
        Panel(
            "Calls by replica",
            "short",
            {"{{replica}}": "sum by (replica) (conch_gateway_replica_calls)"},
            "Under way; a server that is slower gets fewer.",
        ),
        Panel(
            "Targets",
            "short",
            {
                "{{job}}": "sum by (job) (up)",
                "restarts of the embedded Triton": "sum(conch_server_restarts_total)",
            },
            "Processes that Prometheus reaches.",
        ),
    ),
}


def queries() -> dict[str, str]:
    """Return every query by its panel and curve."""
    return {
        f"panel {panel.title!r}, {legend!r}": query
        for panels in ROWS.values()
        for panel in panels
        for legend, query in panel.queries.items()
    }


def page() -> str:
    """Return the dashboard as JSON; raises ValueError for a query that names a series that does not exist."""
    series.check(queries())
    dashboard = {
        "uid": "conch",
        "title": "conch",
        "description": "Generated from deploy/grafana/dashboard.py by `make docs`.",
        "tags": ["conch"],
        "schemaVersion": 39,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [_models()]},
        "panels": list(_panels()),
    }
    return json.dumps(dashboard, indent=1, ensure_ascii=False) + "\n"


def _models() -> dict[str, Any]:
    query = "label_values(conch_gateway_tokens_total, model)"
    return {
        "name": "model",
        "type": "query",
        "datasource": DATASOURCE,
        "query": {"query": query, "refId": "model"},
        "refresh": 2,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
    }


def _panels() -> Iterator[dict[str, Any]]:
    number, y = 1, 0
    for title, panels in ROWS.items():
        yield {"id": number, "type": "row", "title": title, "gridPos": {"x": 0, "y": y, "w": COLUMNS, "h": 1}}
        number, y = number + 1, y + 1
        for place, panel in enumerate(panels):
            x, line = place * WIDTH % COLUMNS, place * WIDTH // COLUMNS
            yield _panel(panel, number, {"x": x, "y": y + line * HEIGHT, "w": WIDTH, "h": HEIGHT})
            number += 1
        y += -(-len(panels) * WIDTH // COLUMNS) * HEIGHT


def _panel(panel: Panel, number: int, place: dict[str, int]) -> dict[str, Any]:
    limits = {"unit": panel.unit} | ({} if panel.most is None else {"max": panel.most})
    return {
        "id": number,
        "type": "timeseries",
        "title": panel.title,
        "description": panel.meaning,
        "datasource": DATASOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": limits, "overrides": []},
        "options": {"tooltip": {"mode": "multi"}, "legend": {"displayMode": "list", "placement": "bottom"}},
        "targets": [
            {"refId": chr(ord("A") + index), "datasource": DATASOURCE, "expr": query, "legendFormat": legend}
            for index, (legend, query) in enumerate(panel.queries.items())
        ],
    }
