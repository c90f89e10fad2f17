"""Qwen3-VL's language model, which reads text alone here: Qwen3 (Qwen Team 2025)."""

from __future__ import annotations

from conch_export.families.decoders.qwen2_5_vl import Qwen25Vl
from conch_export.families.decoders.qwen3 import Qwen3


class Qwen3Vl(Qwen25Vl, Qwen3):
    """Qwen3 with the tensor names and positions of Qwen2.5-VL; what images add to the first layers is left out."""

    model_types = ("qwen3_vl_text",)


FAMILY = Qwen3Vl()
