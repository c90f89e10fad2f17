"""Takes the screenshot of the gateway's page, with every section used: `python docs/screenshots.py` writes page.png."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from conch_export import Options  # noqa: E402

from tests.exports import export_once  # noqa: E402
from tests.serving import Serving  # noqa: E402
from tests.web.browser import Chromium  # noqa: E402
from web import make  # noqa: E402

MODEL = "all-minilm-l6-v2"
# Twice, as the first answer of each section includes what is done once.
USE = """async (rounds) => {
    const until = async (holds) => { while (!holds()) await new Promise((done) => setTimeout(done, 50)); };
    await until(() => !document.getElementById("local").hidden);
    for (let round = 0; round < rounds; round++)
        for (const button of document.querySelectorAll("section button")) {
            button.click();
            await until(() => !button.disabled);
        }
    return document.querySelectorAll(".error").length;
}"""


def main() -> None:
    """Serve the default model and its files for browsers, and use the page as a person would."""
    with tempfile.TemporaryDirectory() as place:
        repository, web = Path(place, "repository"), Path(place, "web")
        export_once(Options(MODEL, repository))
        command = [sys.executable, "-m", "conch", "web", MODEL, "--repository", str(repository), "--output", str(web)]
        subprocess.run(command, check=True)
        shutil.copytree(make.built(), web / "conch-web", dirs_exist_ok=True)
        with Serving(repository, Path(place), CONCH_WEB_MODELS=str(web)) as serving, Chromium() as chromium:
            picture = str(ROOT / "docs" / "page.png")
            if chromium.run(serving.url, USE, 2, screenshot=picture):
                sys.exit("the page shows an error; see docs/page.png")


if __name__ == "__main__":
    main()
