"""What is reported of requests: a request's context and usage, metrics, spans, access log."""
