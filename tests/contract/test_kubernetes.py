"""What kustomize renders of deploy/kubernetes is what Kubernetes and KServe take, and keeps what its pages promise."""

from __future__ import annotations

import copy
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from conch_client._transport.limits import LOOKUP_EVERY_S
from conch_gateway import GatewaySettings
from conch_server import ServerSettings

from deploy.generated import SCRIPT
from deploy.kubernetes import resources
from tests.contract import kserve_schema

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
OVERLAYS = ("cpu", "gpu")
# The oldest that is still maintained by somebody, and the newest that is known here.
VERSIONS = ("1.30", "1.37")
each_overlay = pytest.mark.parametrize("overlay", OVERLAYS)
each_pod = pytest.mark.parametrize(("overlay", "name"), [(o, n) for o in OVERLAYS for n in ("triton", "gateway")])


@cache
def rendered(folder: str) -> list[dict[str, Any]]:
    """All resources of a folder, as `kubectl apply --kustomize` sends them."""
    kubectl = Path(sys.executable).with_name("kubectl")
    done = subprocess.run(
        [kubectl, "kustomize", ROOT / "deploy" / "kubernetes" / folder], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""  # kustomize warns of what it will not take any more
    return list(yaml.safe_load_all(done.stdout))


def one(folder: str, kind: str, name: str = "") -> dict[str, Any]:
    """The resource of that kind whose name begins so."""
    [found] = [each for each in rendered(folder) if each["kind"] == kind and each["metadata"]["name"].startswith(name)]
    return found


def pod(overlay: str, name: str) -> dict[str, Any]:
    spec: dict[str, Any] = one(f"overlays/{overlay}", "Deployment", name)["spec"]["template"]["spec"]
    return spec


def container(overlay: str, name: str) -> dict[str, Any]:
    [found] = pod(overlay, name)["containers"]
    assert found["name"] == name
    return dict(found)


def containers(overlay: str, name: str) -> Iterator[dict[str, Any]]:
    yield from pod(overlay, name).get("initContainers", [])
    yield from pod(overlay, name)["containers"]


@pytest.mark.parametrize("version", VERSIONS)
@each_overlay
def test_kubernetes_takes_it(overlay: str, version: str) -> None:
    kinds = {each["kind"] for each in rendered(f"overlays/{overlay}")}
    assert {"Namespace", "Deployment", "Service", "ConfigMap", "NetworkPolicy", "PodDisruptionBudget"} == kinds
    for each in rendered(f"overlays/{overlay}"):
        kubernetes_validate.validate(each, version, strict=True)


@each_overlay
def test_what_kubernetes_does_not_know_is_noticed(overlay: str) -> None:
    changed = copy.deepcopy(one(f"overlays/{overlay}", "Deployment", "triton"))
    changed["spec"]["template"]["spec"]["containers"][0]["livenessProbe"]["patience"] = 3
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(changed, VERSIONS[-1], strict=True)


def test_kserve_takes_it() -> None:
    of_kserve = [each for each in rendered("kserve") if each["apiVersion"].startswith("serving.kserve.io/")]
    assert [each["kind"] for each in of_kserve] == ["ServingRuntime", "InferenceService"]
    for each in of_kserve:
        kserve_schema.validate(each)


@pytest.mark.parametrize(
    ("kind", "path", "value"),
    [
        ("ServingRuntime", ("spec", "multimodel"), True),
        ("ServingRuntime", ("spec", "containers"), None),
        ("ServingRuntime", ("spec", "volumes"), [{"name": "start", "configmap": {}}]),
        ("InferenceService", ("spec", "predictor", "minReplicas"), "two"),
        ("InferenceService", ("spec", "predictor", "model", "modelFormat"), {"nam": "conch"}),
    ],
)
def test_what_kserve_does_not_know_is_noticed(kind: str, path: tuple[str, ...], value: Any) -> None:
    changed = copy.deepcopy(one("kserve", kind))
    *above, last = path
    place = changed
    for key in above:
        place = place[key]
    place[last] = value
    with pytest.raises(jsonschema.ValidationError):
        kserve_schema.validate(changed)


@pytest.mark.parametrize("folder", ["overlays/cpu", "overlays/gpu", "kserve"])
def test_triton_is_started_by_the_script_of_all_containers(folder: str) -> None:
    script = one(folder, "ConfigMap", "tritonserver")
    assert script["data"] == {"tritonserver.sh": (ROOT / SCRIPT).read_text(encoding="utf-8")}
    spec = one(folder, "ServingRuntime")["spec"] if folder == "kserve" else pod(folder.split("/")[1], "triton")
    [triton] = spec["containers"]
    assert triton["command"] == ["/bin/sh", "/opt/conch/tritonserver.sh"]
    [mount] = [mount for mount in triton["volumeMounts"] if mount["mountPath"] == "/opt/conch"]
    [volume] = [volume for volume in spec["volumes"] if volume["name"] == mount["name"]]
    assert volume["configMap"]["name"] == script["metadata"]["name"]
    settings = ServerSettings.model_fields
    assert triton["ports"][0]["containerPort"] == settings["triton_grpc_port"].default
    # The image is the same everywhere.
    assert f"image: ${{CONCH_TRITON_IMAGE:-{triton['image']}}}" in (ROOT / "docker-compose.yml").read_text()


@each_overlay
def test_the_models_are_those_of_the_stated_hash(overlay: str) -> None:
    [repository] = pod(overlay, "triton")["initContainers"]
    [digest] = repository["env"]
    assert digest["name"] == "REPOSITORY_SHA256"
    stated = digest["valueFrom"]["configMapKeyRef"]
    assert stated["name"] == one(f"overlays/{overlay}", "ConfigMap", "repository")["metadata"]["name"]
    # Without a hash the container ends: nobody knows yet which repository will be served.
    assert one(f"overlays/{overlay}", "ConfigMap", "repository")["data"] == {stated["key"]: ""}
    source, target = repository["args"]
    dockerfile = (ROOT / "deploy" / "repository.Dockerfile").read_text(encoding="utf-8")
    assert f"COPY --from=export /repository {source}\n" in dockerfile
    [copied] = [mount["name"] for mount in repository["volumeMounts"] if mount["mountPath"] == target]
    served = {mount["name"]: mount for mount in container(overlay, "triton")["volumeMounts"]}[copied]
    assert served == {"name": copied, "mountPath": "/models", "readOnly": True}


@each_overlay
def test_the_gateway_gets_the_reports_of_all_models_and_nothing_else(overlay: str, tmp_path: Path) -> None:
    [reports] = pod(overlay, "gateway")["initContainers"]
    for path in ("a/report.json", "a/1/model.onnx", "a.encoder/config.pbtxt", "b/report.json"):
        (tmp_path / "models" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "models" / path).write_text(path)
    (tmp_path / "reports").mkdir()
    command = [re.sub(r"/(?=models|reports)", f"{tmp_path}/", argument) for argument in reports["command"]]
    subprocess.run(command, check=True)
    found = {str(path.relative_to(tmp_path / "reports")) for path in (tmp_path / "reports").rglob("*.*")}
    assert found == {"a/report.json", "b/report.json"}
    [mount] = reports["volumeMounts"]
    settings = one(f"overlays/{overlay}", "ConfigMap", "gateway")["data"]
    assert {"name": mount["name"], "mountPath": settings["CONCH_CANARY_REPOSITORY"], "readOnly": True} in container(
        overlay, "gateway"
    )["volumeMounts"]


@each_pod
def test_no_container_can_write_its_image_or_gain_privileges(overlay: str, name: str) -> None:
    spec = pod(overlay, name)
    assert spec["automountServiceAccountToken"] is False
    assert spec["enableServiceLinks"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for each in containers(overlay, name):
        confined = {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert each["securityContext"] == confined
        assert {"cpu", "memory"} <= each["resources"]["requests"].keys()
        assert {"cpu", "memory"} <= each["resources"]["limits"].keys()
    labels = one(f"overlays/{overlay}", "Namespace")["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


@each_overlay
def test_pods_of_triton_are_the_last_to_be_evicted(overlay: str) -> None:
    # Kubernetes' class "Guaranteed": of every container, those that only prepare included, request and limit are equal.
    for each in containers(overlay, "triton"):
        resources = each["resources"]
        assert [resources["requests"][key] for key in ("cpu", "memory")] == [
            resources["limits"][key] for key in ("cpu", "memory")
        ], each["name"]


def test_requests_in_flight_may_finish_before_kubernetes_ends_a_pod() -> None:
    gateway = GatewaySettings.model_fields["shutdown_grace_s"].default
    triton = ServerSettings.model_fields["exit_timeout_s"].default
    for name, drain_s in (("gateway", gateway), ("triton", triton)):
        [_, before_s] = container("cpu", name)["lifecycle"]["preStop"]["exec"]["command"]
        assert pod("cpu", name)["terminationGracePeriodSeconds"] > int(before_s) + drain_s


def test_a_triton_that_is_to_end_is_looked_up_no_more_by_then() -> None:
    [_, before_s] = container("cpu", "triton")["lifecycle"]["preStop"]["exec"]["command"]
    cached_s = 5  # by the cluster's DNS
    assert int(before_s) > LOOKUP_EVERY_S + cached_s


def test_a_busy_pod_is_neither_killed_nor_taken_out() -> None:
    fields = GatewaySettings.model_fields
    gateway, triton = container("cpu", "gateway"), container("cpu", "triton")
    # No model is asked whether it lives, and whether it is ready it may say as late as the gateway allows.
    assert gateway["livenessProbe"]["httpGet"]["path"] == "/health/live"
    assert gateway["readinessProbe"]["httpGet"]["path"] == "/health/ready"
    assert gateway["readinessProbe"]["timeoutSeconds"] > fields["readiness_busy_timeout_s"].default
    for probed in (gateway, triton):
        live = probed["livenessProbe"]
        assert live["failureThreshold"] * live["periodSeconds"] >= 60
        assert live["timeoutSeconds"] >= 10
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert triton[probe]["httpGet"] == {"path": "/metrics", "port": "metrics"}
    ports = {port["name"]: port["containerPort"] for port in triton["ports"]}
    assert ports["metrics"] == ServerSettings.model_fields["triton_metrics_port"].default


@each_overlay
def test_the_gateway_finds_all_pods_of_triton_and_requires_keys(overlay: str) -> None:
    folder = f"overlays/{overlay}"
    service = one(folder, "Service", "triton")
    assert service["spec"]["clusterIP"] == "None"
    gateway = container(overlay, "gateway")
    assert gateway["args"] == ["--triton-url", f"dns:///triton:{service['spec']['ports'][0]['port']}"]
    settings = one(folder, "ConfigMap", "gateway")
    assert gateway["envFrom"] == [{"configMapRef": {"name": settings["metadata"]["name"]}}]
    GatewaySettings(**{name.removeprefix("CONCH_").lower(): value for name, value in settings["data"].items()})
    assert settings["data"].keys() <= {f"CONCH_{name.upper()}" for name in GatewaySettings.model_fields}
    keys = Path(settings["data"]["CONCH_API_KEYS_FILE"])
    [mount] = [mount for mount in gateway["volumeMounts"] if mount["mountPath"] == str(keys.parent)]
    [volume] = [volume for volume in pod(overlay, "gateway")["volumes"] if volume["name"] == mount["name"]]
    assert not volume["secret"].get("optional", False)


def policies(overlay: str) -> dict[str, dict[str, Any]]:
    found = [each for each in rendered(f"overlays/{overlay}") if each["kind"] == "NetworkPolicy"]
    return {each["metadata"]["name"]: each["spec"] for each in found}


@each_overlay
def test_nothing_but_the_gateway_reaches_triton_and_triton_reaches_nothing(overlay: str) -> None:
    found = policies(overlay)
    both = ["Ingress", "Egress"]
    assert found["default-deny"] == {"podSelector": {}, "policyTypes": both}
    labels = {
        n: one(f"overlays/{overlay}", "Deployment", n)["spec"]["selector"]["matchLabels"] for n in found if "-" not in n
    }
    triton, gateway = found["triton"], found["gateway"]
    assert triton["podSelector"]["matchLabels"] == labels["triton"]
    assert (triton["policyTypes"], triton.get("egress")) == (both, None)
    calls, metrics = triton["ingress"]
    assert calls["from"] == [{"podSelector": {"matchLabels": labels["gateway"]}}]
    assert [port["port"] for port in calls["ports"]] == ["grpc"]
    assert [port["port"] for port in metrics["ports"]] == ["metrics"]
    assert gateway["podSelector"]["matchLabels"] == labels["gateway"]
    assert gateway["policyTypes"] == both
    assert gateway["egress"][0]["to"] == [{"podSelector": {"matchLabels": labels["triton"]}}]
    assert {port["port"] for rule in gateway["egress"][1:] for port in rule["ports"]} == {53}


@each_pod
def test_pods_are_spread_and_leave_one_at_a_time(overlay: str, name: str) -> None:
    folder = f"overlays/{overlay}"
    deployment = one(folder, "Deployment", name)["spec"]
    labels = deployment["selector"]["matchLabels"]
    assert deployment["replicas"] >= 2
    assert labels.items() <= deployment["template"]["metadata"]["labels"].items()
    spread = pod(overlay, name)["topologySpreadConstraints"]
    assert [each["topologyKey"] for each in spread] == ["kubernetes.io/hostname", "topology.kubernetes.io/zone"]
    assert all(each["labelSelector"]["matchLabels"] == labels for each in spread)
    budget = one(folder, "PodDisruptionBudget", name)["spec"]
    assert budget == {"maxUnavailable": 1, "selector": {"matchLabels": labels}}


def test_requests_are_those_of_all_models_and_triton_counts_once(tmp_path: Path) -> None:
    folder = ROOT / "deploy" / "kubernetes" / "overlays" / "cpu"
    [plan] = resources.plans(folder)
    alone = container("cpu", "triton")["resources"]["limits"]
    assert alone["cpu"] == str(plan["cores"])
    assert _mib(alone["memory"]) >= 1.25 * resources.triton_mb([plan]) / 1.048576
    (tmp_path / "plan.json").write_text((folder / "plan.json").read_text() * 2)
    twice = yaml.safe_load(resources.patch(tmp_path).split("---\n")[0])["spec"]["template"]["spec"]["containers"][0]
    saved = 1.25 * plan["triton_mb"] / 1.048576
    assert abs(2 * _mib(alone["memory"]) - _mib(twice["resources"]["limits"]["memory"]) - saved) <= 3 * 32
    assert twice["resources"]["limits"]["cpu"] == alone["cpu"]


def test_a_gpu_is_requested_where_triton_computes_on_one() -> None:
    limits = container("gpu", "triton")["resources"]["limits"]
    assert limits["nvidia.com/gpu"] == "1"
    assert "nvidia.com/gpu" not in container("cpu", "triton")["resources"]["limits"]


def test_an_overlays_requests_are_written_for_other_models(tmp_path: Path) -> None:
    folder = shutil.copytree(ROOT / "deploy" / "kubernetes" / "overlays" / "cpu", tmp_path / "cpu")
    (folder / "plan.json").write_text((folder / "plan.json").read_text().replace('"cores": 2', '"cores": 8'))
    subprocess.run([sys.executable, ROOT / "deploy" / "kubernetes" / "resources.py", folder], check=True)
    triton, _ = yaml.safe_load_all((folder / "resources.yaml").read_text())
    assert triton["spec"]["template"]["spec"]["containers"][0]["resources"]["requests"]["cpu"] == "8"


@pytest.mark.parametrize("text", ["\n", '{"instances": 2}'], ids=["nothing", "a plan of an older version"])
def test_a_folder_without_a_plan_says_where_to_get_one(tmp_path: Path, text: str) -> None:
    (tmp_path / "plan.json").write_text(text)
    with pytest.raises(ValueError, match="write the output of `conch plan --json` to it"):
        resources.patch(tmp_path)


def _mib(amount: str) -> int:
    found = re.fullmatch(r"(\d+)Mi", amount)
    assert found
    return int(found[1])
