"""Runs JavaScript in pages of a Chromium without a screen: a line of JSON with what to run in, one with its result out.

A line has `url`, `code` (an async function), `argument`, and may have `flags` (of Chromium), `context` (pages of one
name share their caches) and `screenshot` (a file). The answer has `result` or `error`, and `asked`: the addresses that
the page and its workers have asked for.
"""

from __future__ import annotations

import json
import shutil
import sys

from playwright.sync_api import Error, sync_playwright

TIMEOUT_MS = 300_000


class Browsers:
    """Browsers by their flags, and contexts by their names."""

    def __init__(self, chromium):
        self._chromium = chromium
        self._browsers, self._contexts = {}, {}

    def page(self, flags, context):
        """A new page."""
        if flags not in self._browsers:
            path = shutil.which("chromium")
            self._browsers[flags] = self._chromium.launch(executable_path=path, args=["--no-sandbox", *flags])
        key = flags, context
        if context is None or key not in self._contexts:
            self._contexts[key] = self._browsers[flags].new_context(viewport={"width": 1100, "height": 900})
        return self._contexts[key].new_page()


def run(browsers, *, url, code, argument=None, flags=(), context=None, screenshot=None):
    """What the code returns in a page at that address."""
    page, asked = browsers.page(tuple(flags), context), []
    page.set_default_timeout(TIMEOUT_MS)
    page.context.on("request", lambda request: asked.append(request.url))
    try:
        page.goto(url)
        answer = {"result": page.evaluate(code, argument)}
        if screenshot:
            page.screenshot(path=screenshot, full_page=True)
    except Error as error:
        answer = {"error": str(error)}
    finally:
        page.close()
    return {**answer, "asked": asked}


with sync_playwright() as playwright:
    here = Browsers(playwright.chromium)
    for line in sys.stdin:
        print(json.dumps(run(here, **json.loads(line))), flush=True)
