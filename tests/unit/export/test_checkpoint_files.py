"""What lies in the folder of a checkpoint and is none of its files, or not what its name says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from conch_export import Description, SourceError

from tests.unit.export.conftest import config, without

if TYPE_CHECKING:
    from collections.abc import Callable


def test_a_link_to_nowhere_is_no_file_of_a_checkpoint(read: Callable[..., Description]) -> None:
    expected = read()
    assert read(lambda folder: (folder / "README.md").symlink_to(folder / "gone")) == expected


@pytest.mark.parametrize("stated", ["5.0", ["5.0"], 5])
def test_what_should_be_an_object_is_told_with_its_place(read: Callable[..., Description], stated: Any) -> None:
    reranker = config(architectures=["BertForSequenceClassification"], num_labels=1, sentence_transformers=stated)
    told = f"states sentence_transformers = {stated!r}, where an object should be"
    with pytest.raises(SourceError) as caught:
        read(without("modules.json"), reranker)
    assert told in str(caught.value)
