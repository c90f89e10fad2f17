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
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from conch_gateway.telemetry.trace import trace_of

_FAILED = 500


def exporting_provider(endpoint: str) -> TracerProvider:
    """Return a provider that sends spans to an OTLP collector (gRPC), in batches and beside the requests."""
    provider = TracerProvider(resource=Resource.create({"service.name": "conch-gateway"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint)))
    return provider


class Tracing:
    """Puts each request into a span, and the calls to Triton into spans below it."""

    def __init__(self, app: ASGIApp, provider: TracerProvider) -> None:
        self._app = app
        self._tracer = provider.get_tracer("conch_gateway")
        self._propagator = TraceContextTextMapPropagator()
        # The client's channel is made at its first call, so this comes in time.
        GrpcAioInstrumentorClient().instrument(tracer_provider=provider)  # type: ignore[no-untyped-call]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        context = self._propagator.extract(request.headers)
        with self._tracer.start_as_current_span(scope["method"], context, SpanKind.SERVER) as span:
            try:
                await self._app(scope, receive, send)
            finally:
                _describe(span, request)


def _describe(span: otel.Span, request: Request) -> None:
    trace, route = trace_of(request), getattr(request.scope.get("route"), "path", "unmatched")
    span.update_name(f"{request.method} {route}")
    facts = {
        "http.request.method": request.method,
        "http.route": route,
        "http.response.status_code": trace.status,
        "conch.request_id": trace.request_id,
        "conch.model": trace.model,
        "conch.texts": trace.texts,
        "conch.tokens": trace.tokens,
        "conch.cache_hits": trace.cache_hits,
        **{f"conch.{phase}_s": spent for phase, spent in trace.phases.items()},
    }
    span.set_attributes({name: value for name, value in facts.items() if value is not None})
    if (trace.status or _FAILED) >= _FAILED:
        span.set_status(StatusCode.ERROR)
