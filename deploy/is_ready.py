"""Health check of the gateway's image: ends with status 0 if the gateway says that every model is ready."""

from __future__ import annotations

import os
import ssl
import urllib.request

scheme = "https" if os.environ.get("CONCH_TLS_CERTIFICATE") else "http"
# The certificate is for the name under which others reach the gateway, not for loopback.
unverified = urllib.request.HTTPSHandler(context=ssl._create_unverified_context())  # noqa: S323
# The proxy that Docker may name in the environment does not lead to this container.
no_proxy = urllib.request.ProxyHandler({})
port = os.environ.get("CONCH_PORT", "8080")
urllib.request.build_opener(unverified, no_proxy).open(f"{scheme}://127.0.0.1:{port}/health/ready", timeout=4)
