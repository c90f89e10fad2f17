"""The rows that a verification computes are those that clients send: the export does not import the client."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from conch_client._tokenization.late_interaction import encode_marked, marked_rows
from conch_client._tokenization.tokenizer import TextTokenizer
from conch_client._transport.deadline import Deadline
from conch_export import Options, Overrides
from conch_export.model.description import EmbeddingModel, GenerativeReranker, interaction_of
from conch_export.model.public_models import sides
from conch_export.options import described
from conch_export.verification.rows import Rows
from conch_export.verification.samples import Item, Role, verification_sample

from tests import head_checkpoints, lookup_checkpoints
from tests.steps import finish

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conch_export.model.description import Description

TEMPLATE = {"score_tokens": ("yes", "no"), "pair_template": "<{query}|{document}>"}


def as_clients_do(description: Description, tokenizer: TextTokenizer, item: Item) -> tuple[list[int], int, int]:
    """Ids, how many of the last ones are not attended to, and how many of the first ones are not pooled."""
    limits: Any = {"max_length": description.max_length, "truncate": "end"}
    rules = interaction_of(description)
    prompt = description.default_prompt if item.prompt_name is None else description.prompts[item.prompt_name]
    if rules is not None:
        encoding = encode_marked(tokenizer, rules, [item.text], query=item.role is Role.QUERY, truncate="end")
        rows = marked_rows(rules, finish(encoding, Deadline(60)))
        return rows.tolist()[0], 0 if rows.masked is None else int(rows.masked[0]), 0
    if isinstance(description, GenerativeReranker):
        steps = tokenizer.encode_framed(description.pair_template, item.query, [item.text], **limits)
    elif item.role is Role.PAIR:
        steps = tokenizer.encode_pairs(prompt + item.query, [item.text], **limits)
    else:
        is_query = item.role is Role.QUERY  # of a model that looks queries up
        steps = tokenizer.encode(
            [prompt * (item.role is Role.TEXT) + item.text], **limits, add_special_tokens=not is_query
        )
    unpooled = 0
    if isinstance(description, EmbeddingModel) and not description.pools_prompt and item.role is Role.TEXT:
        unpooled = finish(tokenizer.prompt_length(prompt, max_length=description.max_length), Deadline(60))
    return finish(steps, Deadline(60)).tolist()[0], 0, unpooled


@pytest.mark.parametrize(
    ("make", "overrides"),
    [
        (lambda folder: head_checkpoints.with_dense(folder, "torch.nn.modules.linear.Identity"), {}),
        (lambda folder: head_checkpoints.make(folder, "bert", "ForSequenceClassification", num_labels=1), {}),
        (lambda folder: head_checkpoints.make(folder, "qwen3", "ForCausalLM"), TEMPLATE),
        (head_checkpoints.instructor, {}),
        (head_checkpoints.colbert, {}),
        (head_checkpoints.pylate, {}),
        (head_checkpoints.splade, {}),
        (lookup_checkpoints.inference_free, {}),
    ],
    ids=["embedding", "cross-encoder", "template", "instructor", "colbert", "pylate", "sparse", "inference-free"],
)
def test_they_are_equal(make: Callable[[Path], Path], overrides: dict[str, Any], tmp_path: Path) -> None:
    options = Options(str(make(tmp_path / "model")), tmp_path / "repository", overrides=Overrides(**overrides))
    description, checkpoint = described(options)
    tokenizer = TextTokenizer(checkpoint.tokenizer)
    rows_of = Rows(description)
    sample = verification_sample(description, rows_of.added_tokens)
    items = [item for model in sides(description) for item in sample.items(description, model, rows_of.count)]
    assert len(items) > 50
    for item, row in ((item, rows_of(item)) for item in items):
        if not row.ids:  # a query that is looked up has no special tokens
            assert not item.text
            continue
        assert (row.ids, row.masked, row.prompt) == as_clients_do(description, tokenizer, item), item
