"""sentence-transformers' Dense as version 6 has it, for the installed version, which knows no `use_residual`."""

from __future__ import annotations

from typing import Any

import torch
from sentence_transformers.base.modules import Dense as InstalledDense


class Dense(InstalledDense):
    """The library's layer, which adds what comes in to what it gives where `use_residual` is stated."""

    def __init__(self, *arguments: Any, use_residual: bool = False, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.adds = use_residual
        if use_residual and self.in_features != self.out_features:
            self.residual = torch.nn.Linear(self.in_features, self.out_features, bias=False)

    def forward(self, features: dict[str, Any], **_: Any) -> dict[str, Any]:
        """The features with the layer's output."""
        given = features[self.module_input_name]
        features = super().forward(features)
        if self.adds:
            added = self.residual(given) if hasattr(self, "residual") else given
            features[self.module_output_name] = features[self.module_output_name] + added
        return features
