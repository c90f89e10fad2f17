"""A corpus is answered alike by graphs in process and by a deployment."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from conch_batch import Embedding, EngineError, Job, Numbers, Reranking
from conch_batch.engines import opening
from conch_batch.engines.engine import Item, Question

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

TEXTS = ["a cat", "größer, 日本語 and 🐚!", "the quick brown fox " * 90, "x", *(f"text {n} " * n for n in range(1, 70))]
QUESTIONS = [Question("where is the cat", tuple(TEXTS[n : n + 7])) for n in (0, 5)]
CASES: dict[str, tuple[str, Embedding | Reranking, Sequence[Item]]] = {
    "dense": ("all-minilm-l6-v2", Embedding(), TEXTS),
    "int8": ("all-minilm-l6-v2-int8", Embedding(), TEXTS),
    "late": ("all-minilm-l6-v2-tokens", Embedding(numbers=Numbers.FLOAT16), TEXTS[:9]),
    "late interaction": ("all-minilm-l6-v2-maxsim", Reranking(top_n=3), QUESTIONS),
    "cross-encoder": ("tiny-cross-encoder", Reranking(raw_scores=True), QUESTIONS),
}


def job(repository: Path, model: str, task: Any, server: str | None = None) -> Job:
    return Job(inputs=(), output="", task=task, model=model, repository=repository, server=server)


def flat(column: Any) -> Any:
    values = column
    while hasattr(values, "values"):
        values = values.flatten()
    return values.to_numpy(zero_copy_only=False)


@pytest.mark.parametrize("case", CASES)
def test_a_deployment_answers_as_the_graphs_do(case: str, repository: Path, gateway_url: str) -> None:
    model, task, items = CASES[case]
    here, there = job(repository, model, task), job(repository, model, task, gateway_url)
    graphs = opening.opened(here, opening.describe(here), threads=1)
    with closing(opening.opened(there, opening.describe(there), threads=1)) as deployment:
        ours, theirs = graphs.compute(items), deployment.compute(items)
    assert graphs.schema.metadata == deployment.schema.metadata  # the vector space is in it
    assert ours.tokens == theirs.tokens
    for name in deployment.schema.names:
        assert ours.rows.column(name).type == theirs.rows.column(name).type
        np.testing.assert_allclose(flat(ours.rows.column(name)), flat(theirs.rows.column(name)), rtol=0, atol=1e-5)


def test_a_machine_with_another_export_of_the_model_is_noticed(repository: Path) -> None:
    asked = job(repository, "all-minilm-l6-v2", Embedding())
    described = opening.describe(asked)
    elsewhere = described._replace(identity={**described.identity, "graphs_sha256": "0" * 64})
    with pytest.raises(EngineError, match="another export here than where the run was started"):
        opening.opened(asked, elsewhere, threads=1)


@pytest.mark.parametrize("where", ["graphs", "deployment"])
def test_both_name_the_texts_that_cannot_be_answered(where: str, repository: Path, gateway_url: str) -> None:
    asked = job(
        repository, "all-minilm-l6-v2", Embedding(truncate="none"), gateway_url if where == "deployment" else None
    )
    too_long = ["many words " * 300, "more words " * 300]
    with closing(opening.opened(asked, opening.describe(asked), threads=1)) as engine:
        answers = engine.compute([*TEXTS[:2], *too_long])
    assert len(answers.rows) == 2
    assert list(answers.refused) == too_long
    assert all("256" in reason for reason in answers.refused.values())


@pytest.mark.parametrize(
    ("model", "task", "message"),
    [
        ("all-minilm-l6-v2", Embedding(dimensions=64), "not trained for shorter vectors"),
        ("all-minilm-l6-v2", Embedding(prompt_name="query"), "no prompt 'query'"),
        ("nothing", Embedding(), "nothing"),
        ("tiny-cross-encoder", Embedding(), "does not embed texts|not for embedding"),
        ("all-minilm-l6-v2", Reranking(), "ranks no documents|not for rerank"),
    ],
)
@pytest.mark.parametrize("where", ["graphs", "deployment"])
def test_what_the_model_cannot_do_is_refused_before_anything_is_computed(
    where: str, model: str, task: Any, message: str, repository: Path, gateway_url: str
) -> None:
    asked = job(repository, model, task, gateway_url if where == "deployment" else None)
    with pytest.raises(EngineError, match=message):
        opening.opened(asked, opening.describe(asked), threads=1)
