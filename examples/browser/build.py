"""Make a folder of static files that searches documents in the visitor's browser, without a server or a network.

    conch serve
    python examples/browser/build.py docs --output site
    conch web all-minilm-l6-v2 --output site/web
    python -m http.server --directory site

The server embeds the paragraphs once; pages embed queries, in the same vector space, which they check. After the first
visit everything is in the browser's caches. `conch web` adds conch-web itself where it has been built (`make web`).
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import numpy as np
from conch_client import Client
from conch_contract import space_of

PAGE = ("index.html", "search.js", "offline.js")
SUFFIXES = {".md", ".rst", ".txt"}
SHORTEST = 40
"""Characters of a paragraph that says something."""


def paragraphs(folder: Path) -> list[dict[str, str]]:
    """Return the paragraphs of all text files below the folder, each with the name of its file."""
    files = sorted(path for path in folder.rglob("*") if path.suffix in SUFFIXES)
    return [
        {"source": str(path.relative_to(folder)), "text": " ".join(part.split())}
        for path in files
        for part in path.read_text(encoding="utf-8", errors="replace").split("\n\n")
        if len(part) >= SHORTEST
    ]


def main() -> None:
    """Embed, and write the index and the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--url", default="127.0.0.1:8001", help="Triton's gRPC endpoint (default: %(default)s)")
    parser.add_argument("--model", default="all-minilm-l6-v2")
    options = parser.parse_args()
    documents = paragraphs(options.folder)
    if not documents:
        parser.error(f"{options.folder} has no {', '.join(sorted(SUFFIXES))} with text in it")
    with Client(options.url, timeout_s=600) as client:
        model = client.model(options.model)
        # Where the model has prompts for the two, embed with prompt_name="document" here and promptName in search.js.
        vectors = client.embed([each["text"] for each in documents], model=options.model)
    options.output.mkdir(parents=True, exist_ok=True)
    index = {"model": model.name, "space": space_of(model), "dimension": model.dimension, "documents": documents}
    (options.output / "index.json").write_text(json.dumps(index, ensure_ascii=False), encoding="utf-8")
    (options.output / "vectors.bin").write_bytes(np.asarray(vectors, "<f4").tobytes())
    for name in PAGE:
        shutil.copy(Path(__file__).parent / name, options.output)
    print(f"{len(documents)} paragraphs in {options.output}; now: conch web {model.name} --output {options.output}/web")


if __name__ == "__main__":
    main()
