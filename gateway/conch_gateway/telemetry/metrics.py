"""The gateway's metrics for Prometheus: one registry per app, so that several apps in one process count apart.

Labels come from fixed sets only (route templates, statuses, names of served models), never from what a user sent.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from conch_client import NotComputedError
from prometheus_client import PROCESS_COLLECTOR, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from conch_gateway.errors import RULES, problem_of
from conch_gateway.scheduling.admission import Admission
from conch_gateway.scheduling.load import UNKNOWN, Load, loads
from conch_gateway.scheduling.slots import Slots
from conch_gateway.telemetry.request import Ended, Usage

_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_ABANDONED = 499  # nginx's status for a request that ended without an answer


class Metrics:
    """The gateway's metrics.

    Attributes:
        registry: of all of them.
    """

    def __init__(self, admission: Admission, slots: Slots) -> None:
        """`slots` are those of Triton."""
        self.registry = registry = CollectorRegistry()
        counter = partial(Counter, registry=registry)
        histogram = partial(Histogram, buckets=_BUCKETS_S, registry=registry)
        gauge = partial(Gauge, registry=registry)
        self._requests = counter("conch_gateway_requests", "Requests answered.", ("route", "model", "status"))
        self._errors = counter("conch_gateway_errors", "Requests refused or failed, by code.", ("code",))
        self._tokens = counter(
            "conch_gateway_tokens",
            "Real tokens of answered requests, of cached texts too; those of other requests count for quotas only.",
            ("model",),
        )
        self._texts = counter("conch_gateway_texts", "Texts and documents of answered requests.", ("model",))
        self._cache = counter(
            "conch_gateway_cache_texts", "Texts that were looked for in the cache: hit or miss.", ("model", "result")
        )
        self._truncated = counter("conch_gateway_truncated_texts", "Texts and documents that lost tokens.", ("model",))
        self._nan_rows = counter(
            "conch_gateway_nan_rows", "Texts and documents that a model answered with NaN.", ("model",)
        )
        # From the start, because a rate misses the step from nothing to a counter's first value.
        for rule in RULES.values():
            self._errors.labels(rule.code)
        self._seconds = histogram(
            "conch_gateway_request_seconds", "From headers read to response sent.", ("route", "model")
        )
        self._phases = histogram(
            "conch_gateway_phase_seconds",
            "Parts of a request's time: tokenize, queue and inference.",
            ("phase", "model"),
        )
        for what, meaning in (("requests", "Requests"), ("texts", "Texts and documents"), ("tokens", "Tokens")):
            in_flight = gauge(f"conch_gateway_in_flight_{what}", f"{meaning} being computed or queued.")
            in_flight.set_function(partial(getattr, admission, what))
        calls = gauge("conch_gateway_triton_calls", "Calls to Triton under way.")
        calls.set_function(lambda: slots.under_way)
        told = "Most calls to Triton at once; half of them keep every instance busy."
        gauge("conch_gateway_triton_slots", told).set_function(lambda: slots.calls)
        registry.register(_Backlog(admission))
        registry.register(PROCESS_COLLECTOR)

    def record(self, ended: Ended) -> None:
        """Count a request that has ended."""
        usage = ended.usage
        model = usage.model if usage is not None else ""
        self._requests.labels(ended.route, model, str(ended.status or _ABANDONED)).inc()
        self._seconds.labels(ended.route, model).observe(ended.total_s)
        if ended.error is not None:
            self._errors.labels(problem_of(ended.error).code).inc()
        if usage is None:
            return
        self.count(usage, ended.error)
        for phase, spent in usage.phases.items():
            self._phases.labels(phase, model).observe(spent)

    def count(self, usage: Usage, error: Exception | None) -> None:
        """Count what a model has computed, for a request or for a line of a batch, whose times say nothing."""
        model = usage.model
        # Also when nothing is added: see the errors above.
        self._truncated.labels(model).inc(usage.truncated)
        self._nan_rows.labels(model).inc(len(error.indices) if isinstance(error, NotComputedError) else 0)
        if error is None:
            self._tokens.labels(model).inc(usage.tokens)
            self._texts.labels(model).inc(usage.texts)
        if usage.cache_hits is not None:
            self._cache.labels(model, "hit").inc(usage.cache_hits)
            self._cache.labels(model, "miss").inc(usage.texts - usage.cache_hits)

    def exposition(self) -> bytes:
        """Return Prometheus' text format."""
        return generate_latest(self.registry)


class _Backlog(Collector):
    """The work that waits and runs, by model, as it is when Prometheus asks; a model that has had some stays listed."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._models = {UNKNOWN}

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield the gauges."""
        found = loads(self._admission)
        self._models |= found.keys()
        wait = GaugeMetricFamily(
            "conch_gateway_predicted_wait_seconds",
            "Until the calls that wait now have been computed, at the throughput measured while calls wait; no less "
            "than the oldest waiting request has waited.",
            labels=("model",),
        )
        requests = GaugeMetricFamily(
            "conch_gateway_backlog_requests",
            "Requests whose first call waits for a slot (waiting), and the others (running).",
            labels=("model", "state"),
        )
        tokens = GaugeMetricFamily(
            "conch_gateway_backlog_tokens",
            "Tokens of calls that wait for a slot (waiting), and the others (running).",
            labels=("model", "state"),
        )
        for model in sorted(self._models):
            load = found.get(model, Load())
            wait.add_metric((model,), load.predicted_wait_s)
            requests.add_metric((model, "waiting"), load.waiting_requests)
            requests.add_metric((model, "running"), load.running_requests)
            tokens.add_metric((model, "waiting"), load.waiting_tokens)
            tokens.add_metric((model, "running"), load.running_tokens)
        yield from (wait, requests, tokens)
