"""Memory of a second name: as an alias of a model, and as a second export of it; `results/aliases.json`.

    python benchmarks/aliases.py

starts `conch serve` over all-MiniLM-L6-v2 (int8) alone, under two names more, and exported twice; each name has been
asked for 512 texts before the memory is read: of everything, and of Triton with its model processes (`children_pss`).
"""

from __future__ import annotations

import json
import sys
import tempfile
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

from conch.load.texts import Lengths, synthetic_texts
from conch_export import Options, export

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
from benchmarks import deployments  # noqa: E402 - the folder of the script is not its package's
from benchmarks.machine import keep  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Sequence

RESULT = ROOT / "benchmarks" / "results" / "aliases.json"
MODEL = "all-minilm-l6-v2"
NAMES = ("tool-selection", "code-search")
TEXTS, TEXTS_PER_REQUEST = 512, 64


def memory_mb(place: Path, exported: Sequence[str], aliases: Sequence[str]) -> dict[str, float]:
    """Memory of a deployment that has these exports, and these names for the first of them."""
    place.mkdir()
    for name in exported:
        export(Options(MODEL, place / "models", name=name, late_interaction=False))
    names = place / "models.toml"
    names.write_text("".join(f'[{alias}]\nmodel = "{exported[0]}"\n' for alias in aliases), encoding="utf-8")
    with deployments.served(place / "models", place, {"CONCH_MODELS_FILE": str(names)}) as served:
        for name in (*exported, *aliases):
            ask(f"{served.url}/v1/embeddings", name)
        return served.server.memory_mb()


def ask(url: str, name: str) -> None:
    """Have a model compute texts of mixed lengths."""
    texts = synthetic_texts(Lengths(4, 256, median=40))[:TEXTS]
    for begin in range(0, len(texts), TEXTS_PER_REQUEST):
        body = json.dumps({"model": name, "input": texts[begin : begin + TEXTS_PER_REQUEST]}).encode()
        request = urllib.request.Request(url, body, {"Content-Type": "application/json"})  # noqa: S310 - loopback
        urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60).close()


def main() -> None:
    """Measure and write the result."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        measured = {
            "one name": memory_mb(place / "one", [MODEL], []),
            "two aliases more": memory_mb(place / "aliases", [MODEL], NAMES),
            "two exports": memory_mb(place / "exports", NAMES, []),
        }
    aliases, exports = measured["two aliases more"], measured["two exports"]
    saved = {kind: round(1 - aliases[kind] / exports[kind], 3) for kind in ("pss", "children_pss")}
    keep(RESULT, "python benchmarks/aliases.py", {"memory_mb": measured, "saved_by_aliases": saved})


if __name__ == "__main__":
    main()
