"""OpenTelemetry: a span for each request and one for each call to Triton in it; imported only when an endpoint is set.

A caller's `traceparent` is continued, and Triton gets one with every call.
"""

from __future__ import annotations

from opentelemetry import trace as otel
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.grpc import GrpcAioInstrumentorClient
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from conch_gateway.telemetry.request import Ended

_FAILED = 500


def exporting_provider(endpoint: str) -> TracerProvider:
    """Return a provider that sends spans to an OTLP collector (gRPC), in batches and beside the requests.

    Channels of gRPC that are made after this get a span for each call.
    """
    provider = TracerProvider(resource=Resource.create({"service.name": "conch-gateway"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint)))
    GrpcAioInstrumentorClient().instrument(tracer_provider=provider)  # type: ignore[no-untyped-call]
    return provider


class Tracing:
    """Puts each request into a span, and the calls to Triton into spans below it."""

    def __init__(self, app: ASGIApp, provider: TracerProvider) -> None:
        self._app = app
        self._tracer = provider.get_tracer("conch_gateway")
        self._propagator = TraceContextTextMapPropagator()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the request."""
        context = self._propagator.extract(Headers(scope=scope))
        with self._tracer.start_as_current_span(scope["method"], context, SpanKind.SERVER):
            await self._app(scope, receive, send)


def describe_span(ended: Ended) -> None:
    """Write into the span what is known of a request that has ended."""
    span, usage = otel.get_current_span(), ended.usage
    span.update_name(f"{ended.method} {ended.route}")
    facts: dict[str, str | float | None] = {
        "http.request.method": ended.method,
        "http.route": ended.route,
        "http.response.status_code": ended.status,
        "conch.request_id": ended.context.request_id,
    }
    if usage is not None:
        facts |= {"conch.model": usage.model, "conch.texts": usage.texts, "conch.tokens": usage.tokens}
        facts |= {"conch.cache_hits": usage.cache_hits}
        facts |= {f"conch.{phase}_s": spent for phase, spent in usage.phases.items()}
    span.set_attributes({name: value for name, value in facts.items() if value is not None})
    if (ended.status or _FAILED) >= _FAILED:
        span.set_status(StatusCode.ERROR)
