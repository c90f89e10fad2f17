"""The gateway's page computes the same text in the browser and on the server, and says how far they are apart."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.serving import Serving
    from tests.web.browser import Chromium

USE = """async ([model, text]) => {
    const section = document.getElementById("local");
    const until = async (holds) => { while (!holds()) await new Promise((done) => setTimeout(done, 50)); };
    await until(() => !section.hidden);
    section.querySelector("[name=model]").value = model;
    section.querySelector("[name=text]").value = text;
    section.querySelector("button").click();
    await until(() => !section.querySelector("button").disabled);
    return { answer: section.querySelector(".answer").innerText, isolated: crossOriginIsolated };
}"""


END_WORKER = """async ([model, text]) => {
    const use = USE;
    await use([model, text]);
    const { postMessage } = Worker.prototype;
    Worker.prototype.postMessage = function () { this.dispatchEvent(new ErrorEvent("error", { message: "it died" })); };
    const ended = await use([model, text]);
    Worker.prototype.postMessage = postMessage;
    return [ended.answer, (await use([model, text])).answer];
}""".replace("USE", USE)


@pytest.fixture(scope="module")
def used(chromium: Chromium, serving: Serving) -> list[Any]:
    """What the page says of a text, at first and when it is opened again."""
    said: list[Any] = []
    for _ in range(2):
        said.append(chromium.run(serving.url, USE, ["all-minilm-l6-v2-int8", "größer, 日本語 and 🐚!"], context="page"))
        assert all(asked.startswith(serving.url) for asked in chromium.asked)
    return said


def test_the_same_text_has_the_same_vector_here_and_there(used: list[Any]) -> None:
    found = re.match(r"([01]\.\d{6}) cosine of the two", used[0]["answer"])

    assert found is not None, used[0]["answer"]
    assert float(found[1]) >= 0.999
    assert "different vector spaces" not in used[0]["answer"]


def test_vectors_that_calls_normalise_are_in_one_space_here_and_there(chromium: Chromium, serving: Serving) -> None:
    answer = chromium.run(serving.url, USE, ["unnormalised", "a cat"])["answer"]

    assert re.match(r"1\.0{6} cosine of the two", answer), answer
    assert "different vector spaces" not in answer


def test_a_model_whose_worker_has_ended_is_loaded_anew(chromium: Chromium, serving: Serving) -> None:
    ended, again = chromium.run(serving.url, END_WORKER, ["unnormalised", "a cat"])

    assert "the model's worker ended (it died)" in ended
    assert re.search(r"cosine of the two.*loaded from", again, re.DOTALL), again


def test_it_tells_both_timings_and_what_loading_took(used: list[Any]) -> None:
    first, again = (each["answer"] for each in used)

    assert re.search(r"in this browser\s+\d+(\.\d)?\s+.*loaded from this gateway in \d+ ms", first), first
    assert re.search(r"on the server\s+\d+(\.\d)?\s+.*inference", first), first
    assert "loaded from this browser's cache" in again, again


def test_the_page_may_use_threads(used: list[Any]) -> None:
    assert used[0]["isolated"]
