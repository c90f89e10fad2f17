"""Two vectors have the same space id exactly if they can be compared."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from conch_contract import (
    Interaction,
    ModelInfo,
    SpaceError,
    Task,
    approximated_space_of,
    check_space,
    space_of,
)

from tests.unit.contract.test_contract import EMBEDDING

MODEL = replace(EMBEDDING, checkpoint_sha256="2" * 64)
RULES = Interaction(1, 2, 32, 180, augmentation=103, attends_to_augmentation=False, skip_list=(5, 6))


def test_indexes_stay_valid_with_later_releases() -> None:
    assert MODEL.space_id == "467aebd9f91c40b2"


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "letters-2"},
        {"precision": "int8"},
        {"description": "other words", "source": "hub:a/b", "revision": "7", "ready": False},
        {"max_length": 256, "max_rows": 8, "instances": 4},
        {"task": Task.LATE_CHUNKING, "base": "letters"},
    ],
    ids=str,
)
def test_the_same_space_under_other_circumstances(changes: dict[str, Any]) -> None:
    assert replace(MODEL, **changes).space_id == MODEL.space_id


CHANGES: list[dict[str, Any]] = [
    {"checkpoint_sha256": "3" * 64},
    {"code_sha256": "3" * 64},
    {"adapter": "retrieval"},
    {"tokenizer_sha256": "3" * 64},
    {"pooling": "cls"},
    {"pools_prompt": False},
    {"normalized": False},
    {"matryoshka_centred": False},
    {"prompts": {"query": "Frage: "}},
    {"default_prompt_name": None},
    {"dimension": 4},
    {"task": Task.MULTI_VECTOR},
    {"task": Task.MULTI_VECTOR, "interaction": RULES},
    {"task": Task.MULTI_VECTOR, "skips_first": True},
    {"task": Task.SPARSE},
    {"bridge_sha256": "3" * 64, "bridges_to": "0123456789abcdef"},
    {"bridge_sha256": "4" * 64, "bridges_to": "0123456789abcdef"},
]


def test_another_space_with_every_change_of_what_vectors_mean() -> None:
    spaces = [MODEL.space_id, *(replace(MODEL, **changes).space_id for changes in CHANGES)]
    assert None not in spaces
    assert len(set(spaces)) == len(spaces)


@pytest.mark.parametrize("info", [EMBEDDING, replace(MODEL, task=Task.CROSS_ENCODER, dimension=None)], ids=str)
def test_no_space_where_it_is_not_known_or_there_are_no_vectors(info: ModelInfo) -> None:
    assert info.space_id is None
    assert space_of(info, 4) is None


def test_calls_that_change_vectors_have_spaces_of_their_own() -> None:
    assert space_of(MODEL) == space_of(MODEL, 8) == space_of(MODEL, normalize=False) == MODEL.space_id
    assert space_of(MODEL, 4) == f"{MODEL.space_id}/4"
    raw = replace(MODEL, normalized=False)
    assert [space_of(raw, normalize=False), space_of(raw, 4)] == [raw.space_id, f"{raw.space_id}/4/unit"]


def test_another_space_than_expected_is_refused() -> None:
    check_space(None, "a", "letters")
    check_space("a", "a", "letters")
    with pytest.raises(SpaceError, match="'a', and letters answers in the vector space 'b'"):
        check_space("a", "b", "letters")
    with pytest.raises(SpaceError, match="letters states no vector space"):
        check_space("a", None, "letters")


def test_a_bridge_names_the_space_that_it_approximates_as_a_call_changes_it() -> None:
    bridge = replace(MODEL, bridge_sha256="3" * 64, bridges_to="0123456789abcdef", normalized=False)
    assert approximated_space_of(MODEL) is None
    assert approximated_space_of(bridge, normalize=False) == "0123456789abcdef"
    assert approximated_space_of(bridge, 4) == "0123456789abcdef/4/unit"


def test_a_bridge_answers_only_who_accepts_an_approximation() -> None:
    check_space("own", "own", "a-as-b", "old")
    check_space("~old", "own", "a-as-b", "old")
    check_space("~own", "own", "a-as-b")  # what is exact is approximate too, so that one request serves throughout
    with pytest.raises(SpaceError, match="a learned map brings close to that one; expect '~old'"):
        check_space("old", "own", "a-as-b", "old")
    with pytest.raises(SpaceError, match="'~other', and a-as-b answers in the vector space 'own'"):
        check_space("~other", "own", "a-as-b", "old")
    with pytest.raises(SpaceError, match="states no vector space"):
        check_space("~old", None, "letters")
