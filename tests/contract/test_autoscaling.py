"""Autoscalers in deploy/kubernetes/components: what Kubernetes and KEDA take, on series that exist, as measured."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from benchmarks.autoscaler import KEPT_S, WANTED_BUSY, WANTED_WAIT_S, Controller
from deploy.prometheus import series
from tests.contract import keda_schema

ROOT = Path(__file__).parents[2]
KUBERNETES = ROOT / "deploy" / "kubernetes"
VERSIONS = ("1.30", "1.37")
each_component = pytest.mark.parametrize("component", ["autoscaling-hpa", "autoscaling-keda"])


@cache
def rendered(component: str) -> list[dict[str, Any]]:
    """All resources of the overlay `cpu` with a component."""
    with TemporaryDirectory() as name:
        folder = Path(name).resolve()
        content = {
            "namespace": "conch",
            "resources": [os.path.relpath(KUBERNETES / "overlays" / "cpu", folder)],
            "components": [os.path.relpath(KUBERNETES / "components" / component, folder)],
        }
        (folder / "kustomization.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
        kubectl = Path(sys.executable).with_name("kubectl")
        done = subprocess.run([kubectl, "kustomize", folder], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def one(component: str, kind: str, name: str) -> dict[str, Any]:
    [found] = [each for each in rendered(component) if each["kind"] == kind and each["metadata"]["name"] == name]
    return found


def queries() -> dict[str, str]:
    """The queries of both components, without their labels."""
    adapter = yaml.safe_load(
        (KUBERNETES / "components" / "autoscaling-hpa" / "adapter.yaml").read_text(encoding="utf-8")
    )
    found = {rule["name"]["as"]: rule["metricsQuery"] for rule in adapter["externalRules"]}
    triggers = one("autoscaling-keda", "ScaledObject", "triton")["spec"]["triggers"]
    found |= {trigger["name"]: trigger["metadata"]["query"] for trigger in triggers}
    labels = ("{<<.LabelMatchers>>}", '{namespace="conch"}')
    return {name: query.replace(labels[0], "").replace(labels[1], "") for name, query in found.items()}


@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_takes_the_autoscaler(version: str) -> None:
    for each in rendered("autoscaling-hpa"):
        kubernetes_validate.validate(each, version, strict=True)


def test_prometheus_puts_on_the_label_that_autoscalers_select_by() -> None:
    path = ROOT / "deploy" / "prometheus" / "kubernetes.yml"
    for job in yaml.safe_load(path.read_text(encoding="utf-8"))["scrape_configs"]:
        assert "namespace" in {rule.get("target_label") for rule in job["relabel_configs"]}, job["job_name"]


def test_keda_takes_its_object() -> None:
    keda_schema.validate(one("autoscaling-keda", "ScaledObject", "triton"))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("apiVersion",), "keda.sh/v1"),
        (("spec", "pollingSeconds"), 5),
        (("spec", "minReplicaCount"), "0"),
        (("spec", "scaleTargetRef"), {"kind": "Deployment"}),
        (("spec", "triggers", 0, "metricTypes"), "Value"),
        (("spec", "triggers", 0, "metadata", "threshold"), 1),
        (("spec", "advanced", "horizontalPodAutoscalerConfig", "behavior", "scaleDown", "policies", 0, "period"), 60),
    ],
    ids=lambda value: str(value[-1]) if isinstance(value, tuple) else "",
)
def test_what_keda_does_not_know_is_noticed(path: tuple[str | int, ...], value: Any) -> None:
    changed: Any = copy.deepcopy(one("autoscaling-keda", "ScaledObject", "triton"))
    place = changed
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(jsonschema.ValidationError):
        keda_schema.validate(changed)


@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_takes_what_keda_makes_of_its_object(version: str) -> None:
    # KEDA makes an autoscaler of the object, with one external metric for each trigger.
    scaled = one("autoscaling-keda", "ScaledObject", "triton")["spec"]
    metrics = [
        {
            "type": "External",
            "external": {
                "metric": {"name": f"s{number}-prometheus"},
                "target": {
                    "type": trigger["metricType"],
                    trigger["metricType"].lower(): trigger["metadata"]["threshold"],
                },
            },
        }
        for number, trigger in enumerate(scaled["triggers"])
    ]
    made = {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "keda-hpa-triton"},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", **scaled["scaleTargetRef"]},
            "minReplicas": max(1, scaled["minReplicaCount"]),
            "maxReplicas": scaled["maxReplicaCount"],
            "metrics": metrics,
            "behavior": scaled["advanced"]["horizontalPodAutoscalerConfig"]["behavior"],
        },
    }
    kubernetes_validate.validate(made, version, strict=True)


@each_component
def test_the_number_of_tritons_is_left_to_the_autoscaler(component: str) -> None:
    assert "replicas" not in one(component, "Deployment", "triton")["spec"]
    assert one(component, "Deployment", "gateway")["spec"]["replicas"] == 2


def test_queries_name_series_that_exist() -> None:
    series.check(queries())


def test_both_scale_by_the_same_signals_as_the_measured_controller() -> None:
    autoscaler = one("autoscaling-hpa", "HorizontalPodAutoscaler", "triton")["spec"]
    external = [metric["external"] for metric in autoscaler["metrics"]]
    targets = {each["metric"]["name"]: each["target"]["value"] for each in external}
    assert targets == {"conch_predicted_wait_seconds": "1", "conch_triton_busy_ratio": "350m"}
    triggers = one("autoscaling-keda", "ScaledObject", "triton")["spec"]["triggers"]
    thresholds = {trigger["name"]: float(trigger["metadata"]["threshold"]) for trigger in triggers}
    assert (thresholds["predicted-wait"], thresholds["busy-ratio"]) == (WANTED_WAIT_S, WANTED_BUSY)
    assert (WANTED_WAIT_S, WANTED_BUSY) == (1.0, 0.35)
    asked = queries()
    assert asked["conch_predicted_wait_seconds"] == asked["predicted-wait"]
    assert asked["conch_triton_busy_ratio"] == asked["busy-ratio"]


def test_from_zero_requests_wait_for_the_first_triton_and_gateways_are_ready_meanwhile() -> None:
    assert one("autoscaling-keda", "ScaledObject", "triton")["spec"]["minReplicaCount"] == 0
    name = one("autoscaling-keda", "Deployment", "gateway")["spec"]["template"]["spec"]["containers"][0]["envFrom"]
    settings = one("autoscaling-keda", "ConfigMap", name[0]["configMapRef"]["name"])["data"]
    assert float(settings["CONCH_TRITON_WAIT_S"]) > 0


@pytest.mark.parametrize(
    ("ready", "wait_s", "busy", "wanted"),
    [
        pytest.param(0, 0.0, 0.0, 0, id="none without work"),
        pytest.param(0, 0.2, 0.0, 1, id="one for the first request"),
        pytest.param(1, 0.0, 0.3, 1, id="as many as are busy"),
        pytest.param(2, 2.5, 0.5, 5, id="more where work piles up"),
        pytest.param(2, 100.0, 1.0, 8, id="no more than there may be"),
    ],
)
def test_the_measured_controller_decides_as_autoscalers_do(ready: int, wait_s: float, busy: float, wanted: int) -> None:
    assert Controller(8).decide(0.0, ready, wait_s, busy) == wanted


def test_the_measured_controller_takes_none_away_at_once() -> None:
    controller = Controller(8)
    assert controller.decide(0.0, 2, 2.0, 0.5) == 4
    assert controller.decide(KEPT_S, 4, 0.0, 0.1) == 4
    assert controller.decide(KEPT_S + 1, 4, 0.0, 0.1) < 4
