"""Small checkpoints, exported as an operator would, each once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from conch_export import Overrides, Pooling, inspection

from tests.exports import export_once, options_of
from tests.hub import LocalHub, only_hub
from tests.merging import Published

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.checkpoints import Checkpoints


class Exports:
    """Exports a kind of checkpoint when it is first asked for."""

    def __init__(self, folder: Path, checkpoints: Checkpoints) -> None:
        self._folder = folder
        self._checkpoints = checkpoints
        self._made: dict[str, Published] = {}

    def __call__(
        self, kind: str, precision: str = "fp32", pooling: str | None = None, *, normalize: bool | None = None
    ) -> Published:
        """The published model of `Checkpoints.KIND` in a repository of its own."""
        name = "-".join(filter(None, [kind, precision, pooling, "raw" if normalize is False else ""]))
        if name not in self._made:
            overrides = Overrides(pooling=Pooling(pooling) if pooling else None, normalize=normalize)
            chosen: dict[str, Any] = {"name": name, "overrides": overrides}
            export_once(options_of(self._checkpoints, kind, self._folder / name, precision, **chosen))
            self._made[name] = Published(self._folder / name, name)
        return self._made[name]


@pytest.fixture(scope="session", autouse=True)
def _one_torch_thread() -> None:
    """For models this small its threads only wait for each other."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def _speed_is_measured_in_a_moment() -> Iterator[None]:
    """`conch verify` takes two seconds for it, and nothing here asks how fast a model is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inspection, "_SPEED_S", 0.1)
        yield


@pytest.fixture(scope="session")
def exports(tmp_path_factory: pytest.TempPathFactory, checkpoints: Checkpoints) -> Exports:
    return Exports(tmp_path_factory.mktemp("models"), checkpoints)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[LocalHub]:
    """A Hub that this process takes for the only one, and an empty cache."""
    with only_hub(monkeypatch, tmp_path) as server:
        yield server
