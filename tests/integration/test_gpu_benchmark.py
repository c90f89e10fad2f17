"""benchmarks/gpu.py runs where little of what an export needs is installed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
ABSENT = ("conch_client", "conch_gateway", "conch_server", "grpc", "optimum", "sentence_transformers", "tritonclient")
RUN = f"""
import runpy, sys
sys.modules.update(dict.fromkeys({ABSENT}))  # importing them fails, as if they were not installed
sys.argv = ["benchmarks/gpu.py", "--device=cpu", "--tiny"]
runpy.run_path("benchmarks/gpu.py", run_name="__main__")
"""


def test_it_needs_neither_triton_nor_optimum_and_finds_the_vectors_of_transformers() -> None:
    run = subprocess.run([sys.executable, "-c", RUN], cwd=ROOT, capture_output=True, text=True, check=True)
    (tiny,) = json.loads(run.stdout)["shapes"].values()
    assert tiny["least_cosine"]["fp32"] > 0.9999
    assert tiny["tokens_per_s"].keys() == {"packed", "transformers"}
