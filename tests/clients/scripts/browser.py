"""Chromium without a screen: uses the page as a person would, and says what it saw and whom it asked."""

from __future__ import annotations

import json
import shutil
import sys

from playwright.sync_api import sync_playwright

url, work = sys.argv[1], json.load(sys.stdin)


def use(page, section, **fields):
    """Fill a section's fields, press its button, and return what it shows."""
    place = page.locator(f"#{section}")
    for name, text in fields.items():
        place.locator(f"[name={name}]").fill(text)
    place.locator("button").click()
    place.locator("button:enabled").wait_for()
    return place.locator(".answer").inner_text()


with sync_playwright() as playwright:
    browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
    page = browser.new_page(viewport={"width": 1100, "height": 900}, color_scheme=work.get("color_scheme", "light"))
    asked, complaints = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))

    page.goto(url, wait_until="networkidle")
    complaints.clear()  # about what takes a key
    page.locator("#key").fill(work["key"])
    page.locator("#key").blur()
    page.locator("#models table").wait_for()
    said = {
        "models": page.locator("#models .answer").inner_text(),
        "limits": page.locator("#limits .answer").inner_text(),
        "embed": use(page, "embed", text=work["texts"][0]),
        "compare": use(page, "compare", left=work["query"], right=work["documents"][1]),
        "rerank": use(page, "rerank", query=work["query"], documents="\n".join(work["documents"])),
    }
    if "screenshot" in work:
        page.screenshot(path=work["screenshot"], full_page=True)
    said["complaints"] = list(complaints)
    said["empty text"] = use(page, "embed", text="")
    said["kept"] = page.evaluate("JSON.stringify([document.cookie, {...localStorage}, {...sessionStorage}])")
    said["asked"] = asked
    page.goto(f"{url}/docs", wait_until="networkidle")
    page.locator("#key").fill(work["key"])
    page.locator("#key").blur()
    page.locator("#operations details").first.wait_for()
    said["operations"] = page.locator("#operations details").count()
    browser.close()

print(json.dumps(said))
