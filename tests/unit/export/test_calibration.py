"""Calibration: what the choice of a rounding is based on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from conch_export.model.heads import Vocabulary
from conch_export.onnx.engine import Row, head_feed
from conch_export.onnx.heads import vocabulary_graph
from conch_export.onnx.quantization import calibrate as calibration
from conch_export.onnx.quantization.schemes import choose

from tests.random_weights import linear

if TYPE_CHECKING:
    from conch_export.onnx.quantization.schemes import Samples

HIDDEN = 96


def test_a_head_behind_an_encoder_is_calibrated_on_about_a_thousand_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = []

    def counted(samples: Samples, *others: Any, **options: Any) -> Any:
        counts.append(len(samples.tokens))
        return choose(samples, *others, **options)

    monkeypatch.setattr(calibration, "choose", counted)
    head = vocabulary_graph(HIDDEN, Vocabulary((), linear(HIDDEN, 50)), tile_tokens=None)
    rows = [Row(list(range(length)), [0] * length) for length in range(30, 90)]
    random = np.random.default_rng(0)
    known = [head_feed([row], random.standard_normal((len(row.ids), HIDDEN), np.float32)) for row in rows]
    feeds = [{name: feed[name] for name in sorted(feed, reverse=True)} for feed in known]  # in whatever order

    calibration.calibrate(head, feeds)

    assert counts == [pytest.approx(1024, rel=0.2)]
