"""What well-known models publish in config.json is read, down to keys that nothing reads.

`tests/published_configs.json` has their keys, without those that are known to have no effect in any architecture.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from conch_export import CATALOG
from conch_export.checkpoints.architecture import in_this_generation, refuse_unread, refuse_wrong_types, with_defaults
from conch_export.checkpoints.settings import Settings
from conch_export.families import family_of

PUBLISHED: dict[str, dict[str, Any]] = json.loads(
    Path(__file__).parents[2].joinpath("published_configs.json").read_text(encoding="utf-8")
)
FAMILIES = {entry.hub_id: entry.family for entry in CATALOG.values()}


@pytest.mark.parametrize("hub_id", PUBLISHED)
def test_it_is_read_by_the_family_that_the_catalog_names(hub_id: str) -> None:
    stated = in_this_generation(Settings(hub_id, PUBLISHED[hub_id]))
    config = with_defaults(stated)
    family = family_of(config)
    assert family is not None
    assert type(family).__module__.rpartition(".")[2] == FAMILIES[hub_id]
    refuse_unread(stated, family.known_keys)
    refuse_wrong_types(stated, family.keys)
    assert {key: config.get(key) for key, values in family.built.items() if config.get(key) not in values} == {}
