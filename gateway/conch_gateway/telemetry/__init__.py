"""What is reported of requests: trace records, metrics, spans, access log."""
