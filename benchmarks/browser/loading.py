"""How long a page waits for the first vector: in a browser that has nothing, and in one that has been there before."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from tests.serving import Serving
from tests.web.browser import Chromium

if TYPE_CHECKING:
    from benchmarks.browser.prepared import Prepared

ROUNDS = 5
MODEL = "minilm-int8"
FIRST_VECTOR = """async (name) => {
    const began = performance.now();
    const { load } = await import(new URL("web/conch-web/conch-web.js", document.baseURI));
    const model = await load(`web/${name}/`);
    const loaded = performance.now();
    const { length } = await model.embed("How do I reverse a list in Python?");
    const found = {loaded_s: (loaded - began) / 1000, first_vector_s: (performance.now() - began) / 1000, length};
    model.dispose();
    return found;
}"""


def measure(files: Prepared) -> dict[str, Any]:
    """Seconds from a page's import of the module to its first vector, from the gateway of `conch serve`."""
    cold, cached = [], []
    with tempfile.TemporaryDirectory() as place, Chromium() as chromium:
        folder = Path(place)
        # The gateway serves the same model, as it would where a page compares both.
        for model in files.repository.glob(f"{MODEL}*"):
            shutil.copytree(model, folder / "repository" / model.name)
        with Serving(folder / "repository", folder, CONCH_WEB_MODELS=str(files.web)) as serving:
            for number in range(ROUNDS):
                # A browser of its own for each round: a flag that it does not know makes it another one.
                how = {"flags": [f"--round={number}"], "context": "visitor"}
                cold.append(chromium.run(serving.url, FIRST_VECTOR, MODEL, **how))
                cached.append(chromium.run(serving.url, FIRST_VECTOR, MODEL, **how))
    return {"rounds": ROUNDS, "model": MODEL, "cold": _medians(cold), "cached": _medians(cached)}


def _medians(rounds: list[dict[str, float]]) -> dict[str, Any]:
    times = {name: [round(each[name], 3) for each in rounds] for name in ("loaded_s", "first_vector_s")}
    return {name: {"median": median(numbers), "all": numbers} for name, numbers in times.items()}
