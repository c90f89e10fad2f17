"""Telemetry: the context and usage of requests, metrics, spans, access log."""
