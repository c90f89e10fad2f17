"""How a checkpoint writes queries and documents for late interaction is read as its library reads it, or refused."""

from __future__ import annotations

import string
from typing import TYPE_CHECKING, Any

import pytest
from conch_export import Description, UnsupportedError
from conch_export.model.description import MultiVectorModel

from tests.unit.export.conftest import MODULES, put, tokenizer_settings, words

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conch_contract import Interaction

    Change = Callable[[Path], Any]

TOKENS = ("[CLS]", "[MASK]", "[unused0]", "[unused1]", "[Q] ", "[D] ", ".", "!", "a")
LAYER = {"idx": 1, "name": "1", "path": "1_Dense", "type": "pylate.models.Dense.Dense"}
PYLATE = {"query_prefix": "[unused0]", "document_prefix": "[unused1]", "query_length": 16, "document_length": 64}
SETTINGS = "config_sentence_transformers.json"


def pylate(**stated: Any) -> list[Change]:
    """A checkpoint as PyLate saves it; a value of None is null."""
    return [
        put("modules.json", [MODULES[0], LAYER]),
        put("1_Dense/config.json", {"out_features": 16, "activation_function": "torch.nn.modules.linear.Identity"}),
        put("1_Dense/model.safetensors", ""),
        put("tokenizer.json", words(*TOKENS)),
        put(SETTINGS, {**PYLATE, **stated}),
    ]


def colbert(**metadata: Any) -> list[Change]:
    """A checkpoint as ColBERT's own library saves it, with a layer of PyLate's beside."""
    return [*pylate(), put("artifact.metadata", {"query_maxlen": 16, "doc_maxlen": 64, **metadata})]


def of_sentence_transformers(**stated: Any) -> list[Change]:
    """A checkpoint as sentence-transformers 6 saves it."""
    listed = [
        {"idx": index, "name": str(index), "path": f"{index}_{kind}", "type": f"sentence_transformers.x.{kind}"}
        for index, kind in enumerate(("Dense", "MultiVectorMask", "Normalize"), 1)
    ]
    prompts = {"query": "[unused0]", "document": "[unused1]"}
    saved_as = {"model_type": "MultiVectorEncoder", "prompts": prompts}
    return [*pylate(), put("modules.json", [MODULES[0], *listed]), put(SETTINGS, {**saved_as, **stated})]


def rules(description: Description) -> Interaction:
    assert isinstance(description, MultiVectorModel)
    assert description.interaction is not None
    return description.interaction


@pytest.mark.parametrize("missing", [True, False], ids=["missing", "null"])
def test_what_pylate_does_not_state_is_as_it_takes_it(read: Callable[..., Description], *, missing: bool) -> None:
    keys = ["query_prefix", "document_prefix", "document_length", "skiplist_words"]
    bare = {"query_length": None} | ({} if missing else dict.fromkeys(keys))
    found = rules(read(*pylate(), put(SETTINGS, bare)))
    assert (found.query_marker, found.document_marker) == (TOKENS.index("[Q] "), TOKENS.index("[D] "))
    assert (found.query_length, found.document_length) == (32, 128), "180, and no more than there are positions"
    assert set(".!") < set(string.punctuation)
    assert found.skip_list == (TOKENS.index("."), TOKENS.index("!"))
    assert (found.augmentation, found.attends_to_augmentation) == (TOKENS.index("[MASK]"), False)


@pytest.mark.parametrize(
    "stated", [{"model_type": "ColBERT"}, {"document_length": 64}, {"query_prefix": "[Q] "}], ids=str
)
def test_one_setting_of_pylate_is_enough_for_its_rules(
    read: Callable[..., Description], stated: dict[str, Any]
) -> None:
    found = rules(read(*pylate(), put(SETTINGS, stated)))
    assert (found.query_marker, found.query_length) == (TOKENS.index("[Q] "), 32)
    assert found.document_length == stated.get("document_length", 128)


def test_an_empty_list_and_an_empty_prefix_are_none(read: Callable[..., Description]) -> None:
    found = rules(read(*pylate(skiplist_words=[], query_prefix="", document_prefix="")))
    assert (found.query_marker, found.document_marker, found.skip_list) == (None, None, ())


def test_words_outside_the_vocabulary_skip_unknown_tokens_in_pylate_alone(read: Callable[..., Description]) -> None:
    words, unknown = ["a", "outside"], put(*tokenizer_settings(unk_token=TOKENS[0]))
    assert rules(read(*pylate(skiplist_words=words), unknown)).skip_list == (0, TOKENS.index("a"))
    mask = put("2_MultiVectorMask/config.json", {"skiplist_words": words})
    assert rules(read(*of_sentence_transformers(), mask, unknown)).skip_list == (TOKENS.index("a"),)


@pytest.mark.parametrize(
    ("special", "token"),
    [
        ({"mask_token": "a", "eos_token": "!", "pad_token": "."}, "a"),
        ({"eos_token": "!", "pad_token": "."}, "!"),
        ({"pad_token": "."}, "."),
    ],
    ids=["mask", "end", "pad"],
)
def test_queries_are_filled_up_with_the_token_that_pylate_takes(
    read: Callable[..., Description], special: dict[str, str], token: str
) -> None:
    assert rules(read(*pylate(), put(*tokenizer_settings(**special)))).augmentation == TOKENS.index(token)


@pytest.mark.parametrize(
    "setting", [{"similarity": "l2"}, {"interaction": "flipr"}, {"relu": True}, {"pool_factor": 2}], ids=str
)
def test_vectors_that_colbert_compares_otherwise_are_refused(
    read: Callable[..., Description], setting: dict[str, Any]
) -> None:
    usual = {"similarity": "cosine", "interaction": "colbert", "relu": False, "nbits": 2, "meta": {"version": "0.4"}}
    assert rules(read(*colbert(**usual))).query_length == 16
    ((key, value),) = setting.items()
    with pytest.raises(UnsupportedError, match=rf"artifact\.metadata states {key} = {value!r}, which is not built"):
        read(*colbert(**usual | setting))


def test_an_unknown_setting_of_colbert_is_refused_by_name(read: Callable[..., Description]) -> None:
    with pytest.raises(UnsupportedError, match=r"artifact\.metadata states new_in_8 = 2, which is not known"):
        read(*colbert(new_in_8=2))


@pytest.mark.parametrize("saved", [pylate, of_sentence_transformers])
def test_another_comparison_of_token_vectors_is_refused(
    read: Callable[..., Description], saved: Callable[..., list[Change]]
) -> None:
    assert rules(read(*saved(similarity_fn_name="MaxSim")))
    with pytest.raises(UnsupportedError, match="similarity_fn_name = 'xtr', which is not built for token vectors"):
        read(*saved(similarity_fn_name="xtr"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (pylate(prompts={"query": "find: "}), "states the prompt 'query', which is not built for late interaction"),
        (of_sentence_transformers(prompts={"title": "title: "}), "states the prompt 'title'"),
        (
            of_sentence_transformers(prompts={"query": "[unused0]"}, default_prompt_name="query"),
            "default_prompt_name = 'query', but .* as documents",
        ),
    ],
    ids=["PyLate", "sentence-transformers", "queries by default"],
)
def test_prompts_that_texts_would_lose_are_refused(
    read: Callable[..., Description], changes: list[Change], message: str
) -> None:
    with pytest.raises(UnsupportedError, match=message):
        read(*changes)


@pytest.mark.parametrize(
    ("option", "stated"),
    [
        ("--max-length", {"max_length": 20}),
        ("--prompts", {"prompts": {"query": "q: "}}),
        ("--default-prompt", {"default_prompt": ""}),
    ],
    ids=str,
)
def test_options_that_the_rules_leave_no_room_for_are_refused(
    read: Callable[..., Description], option: str, stated: dict[str, Any]
) -> None:
    with pytest.raises(UnsupportedError, match=f"{option} is not built for a model that states how its queries"):
        read(*pylate(), **stated)


def test_a_layer_whose_activation_is_not_stated_has_that_of_its_library(read: Callable[..., Description]) -> None:
    bare = put("1_Dense/config.json", {"out_features": 16})
    for saved, activation in ((pylate, "identity"), (of_sentence_transformers, "tanh")):
        description = read(*saved(), bare)
        assert isinstance(description, MultiVectorModel)
        assert [layer.activation for layer in description.dense] == [activation]
