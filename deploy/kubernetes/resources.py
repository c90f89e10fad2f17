"""Requests and limits of the pods, from what `conch plan` says of the models that they serve.

conch plan MODEL --cores 4 --rows 8 --json > deploy/kubernetes/overlays/cpu/plan.json
python deploy/kubernetes/resources.py deploy/kubernetes/overlays/cpu

For several models `plan.json` has one plan after the other. `make docs` does the same for every folder.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

MARGIN = 1.25
"""Of the planned memory: the plan is within a quarter of what is measured."""
GATEWAY_LIMIT_MIB = 1024
"""Of a gateway without a cache: its default limits keep the bodies and answers of requests in flight within it."""
_GPU_CORES = 2
_ROUNDED_TO_MIB = 32


def plans(folder: Path) -> list[dict[str, Any]]:
    """Return the plans in a folder's `plan.json`, one for each model.

    Raises:
        ValueError: it is no JSON, or holds none of this version.
    """
    text, found = (folder / "plan.json").read_text(encoding="utf-8").strip(), []
    while text:
        plan, end = json.JSONDecoder().raw_decode(text)
        found.append(plan)
        text = text[end:].lstrip()
    if not found or any("cores" not in plan for plan in found):
        msg = f"{folder / 'plan.json'} has no plan of this version: write the output of `conch plan --json` to it"
        raise ValueError(msg)
    return found


def triton_mb(planned: list[dict[str, Any]]) -> float:
    """Return the memory of a Triton that serves all of these models, in MB: Triton itself counts once."""
    models = sum(plan["total_mb"] - plan["triton_mb"] - plan["gateway_mb"] for plan in planned)
    return float(models + max(plan["triton_mb"] for plan in planned))


def gateway_mb(planned: list[dict[str, Any]]) -> float:
    """Return the memory of an idle gateway, in MB; models with equal tokenizers share one, which this leaves out."""
    return float(sum(plan["gateway_mb"] for plan in planned))


def mebibytes(megabytes: float) -> int:
    """Return an amount with the margin, in MiB."""
    wanted = megabytes * MARGIN * 1e6 / 2**20
    return math.ceil(wanted / _ROUNDED_TO_MIB) * _ROUNDED_TO_MIB


def patch(folder: Path) -> str:
    """Return the patch that gives the pods of an overlay their requests and limits."""
    planned = plans(folder)
    on_gpu = folder.name == "gpu"
    cores = _GPU_CORES if on_gpu else max(plan["cores"] for plan in planned)
    memory, gateway = f"{mebibytes(triton_mb(planned))}Mi", mebibytes(gateway_mb(planned))
    # Equal requests and limits: such a pod is the last to be evicted, and a static policy gives it cores of its own.
    triton = {"cpu": str(cores), "memory": memory, **({"nvidia.com/gpu": "1"} if on_gpu else {})}
    head = f"# Generated from plan.json by `make docs`: {cores} cores and {memory} for each Triton.\n"
    if folder.name == "kserve":
        return head + _inference_service(triton)
    disk = mebibytes(sum(plan["disk_mb"][plan["precision"]] for plan in planned))
    pods = (
        _deployment("triton", triton | {"ephemeral-storage": f"{disk}Mi"}, triton),
        _deployment(
            "gateway",
            {"cpu": "1", "memory": f"{gateway}Mi"},
            {"cpu": "1", "memory": f"{max(GATEWAY_LIMIT_MIB, gateway)}Mi"},
        ),
    )
    return head + "---\n".join(pods)


def _deployment(name: str, requests: dict[str, str], limits: dict[str, str]) -> str:
    return f"""\
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}}}
spec:
  template:
    spec:
      containers:
        - name: {name}
          resources:
            requests: {_flow(requests)}
            limits: {_flow(limits)}
"""


def _inference_service(amounts: dict[str, str]) -> str:
    return f"""\
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata: {{name: conch}}
spec:
  predictor:
    model:
      resources:
        requests: {_flow(amounts)}
        limits: {_flow(amounts)}
"""


def _flow(amounts: dict[str, str]) -> str:
    return "{" + ", ".join(f'{name}: "{amount}"' for name, amount in amounts.items()) + "}"


if __name__ == "__main__":
    place = Path(sys.argv[1])
    (place / "resources.yaml").write_text(patch(place), encoding="utf-8")
