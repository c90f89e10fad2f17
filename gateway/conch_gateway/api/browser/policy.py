"""Headers that restrict browsers: content security policies, and isolation from other origins.

A page that computes needs threads, which share memory: browsers give that only to pages that are isolated from other
origins (COOP and COEP), and their policy has to allow WebAssembly and scripts of this gateway. No other page may.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from functools import cache

_NOTHING = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; connect-src 'self'"
_COMPUTES = "'self' 'wasm-unsafe-eval'"
_TYPED = {"x-content-type-options": "nosniff"}
_ISOLATED = {
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-embedder-policy": "require-corp",
}


def page_headers(page: str, *, computes: bool) -> Mapping[str, str]:
    """Return the headers of a page with one script and one style, and of no other.

    Args:
        page: HTML.
        computes: whether it may load conch-web.
    """
    script, style = (_hash_of(tag, page) for tag in ("script", "style"))
    policy = f"{_NOTHING}; script-src {script}; style-src {style}"
    if computes:
        policy = f"{_NOTHING}; script-src {script} {_COMPUTES}; style-src {style}; worker-src 'self'"
    isolated = _ISOLATED if computes else {}
    return {"content-security-policy": policy, "referrer-policy": "no-referrer", **_TYPED, **isolated}


FILE_HEADERS: Mapping[str, str] = {
    # A worker has the policy that its script came with, not the page's.
    "content-security-policy": f"{_NOTHING}; script-src {_COMPUTES}; worker-src 'self'",
    "cross-origin-resource-policy": "same-origin",
    **_TYPED,
    **_ISOLATED,
}
"""Of the module's and models' files."""


@cache
def _hash_of(tag: str, page: str) -> str:
    """Return the source expression of the page's one block between `<tag>` and `</tag>`."""
    (block,) = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(block.encode()).digest()).decode("ascii")
    return f"'sha256-{digest}'"
