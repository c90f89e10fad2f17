"""Prometheus' files are valid, and every alert fires and resolves."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trustme
import yaml

from deploy.prometheus import series

FOLDER = Path(__file__).parents[2] / "deploy" / "prometheus"
RULES = sorted((FOLDER / "rules").glob("*.yml"))
ALERTS = {rule["alert"]: rule for rule in series.rules() if "alert" in rule}
INSTALL = "promtool is missing; install Debian's package prometheus (apt-get install prometheus)"


@dataclass(frozen=True)
class Case:
    """One alert: what happens to its series, minute by minute, and when it is noticed.

    Attributes:
        series: by name and labels, in promtool's notation; rates count per minute.
        fires_at: a minute at which it fires.
        resolved_at: a later one at which it does not.
        labels: of the alert that fires.
    """

    series: dict[str, str]
    fires_at: int
    resolved_at: int
    labels: dict[str, str]


def requests(**labels: str) -> str:
    return selector("conch_gateway_requests_total", route="/v1/embeddings", model="m", **labels)


def selector(name: str, **labels: str) -> str:
    return f"{name}{{{', '.join(f'{key}={value!r}' for key, value in labels.items())}}}".replace("'", '"')


GATEWAY = {"job": "conch-gateway", "instance": "gateway:8080"}
TRITON = {"job": "conch-triton", "instance": "triton:8002"}
REPLICA = {"backend": "triton", "replica": "triton-1:8001"}
MODEL = {"model": "m"}


def slowing(name: str, **labels: str) -> dict[str, str]:
    """Sixty requests a minute that take less than 0.05 s but for twenty minutes, when they take up to 5 s."""
    fast = "0+60x10 600+0x20 600+60x60"
    return {
        selector(f"{name}_bucket", **labels, le="0.05"): fast,
        selector(f"{name}_bucket", **labels, le="5.0"): "0+60x92",
        selector(f"{name}_bucket", **labels, le="+Inf"): "0+60x92",
    }


def canary(times: str, interval_s: int) -> dict[str, str]:
    """A model whose canaries were answered at these times."""
    return {
        selector("conch_gateway_canary_timestamp_seconds", **GATEWAY, model="m"): times,
        selector("conch_gateway_canary_interval_seconds", **GATEWAY): f"{interval_s}x150",
    }


CASES = {
    "ConchBatchesStalled": Case(
        {
            selector("conch_gateway_batch_lines", state="waiting"): "0x5 90x50 60x30",
            selector("conch_gateway_batch_results_total", result="completed"): "0+10x10 100x45 100+1x30",
        },
        45,
        75,
        {},
    ),
    "ConchGatewayDown": Case({selector("up", **GATEWAY): "1x5 0x5 1x10"}, 8, 14, GATEWAY),
    "ConchTritonDown": Case({selector("up", **TRITON): "1x5 0x5 1x10"}, 8, 14, TRITON),
    "ConchFailures": Case({requests(status="200"): "0+60x60", requests(status="503"): "0x10 0+5x15 75x40"}, 22, 40, {}),
    "ConchRefusals": Case(
        {requests(status="200"): "0+60x80", requests(status="429"): "0x10 0+10x25 250x45"}, 32, 60, {}
    ),
    "ConchSlow": Case(slowing("conch_gateway_request_seconds", model="m"), 28, 60, MODEL),
    "ConchQueue": Case(slowing("conch_gateway_phase_seconds", model="m", phase="queue"), 28, 60, MODEL),
    "ConchPredictedWait": Case(
        {selector("conch_gateway_predicted_wait_seconds", **GATEWAY, model="m"): "0x5 8x10 0.1x10"}, 12, 18, MODEL
    ),
    "ConchReplicaOut": Case(
        {selector("conch_gateway_replica_state", **GATEWAY, **REPLICA, state="serving"): "1x5 0x10 1x10"},
        9,
        18,
        REPLICA,
    ),
    "ConchCacheHitsFell": Case(
        {
            selector("conch_gateway_cache_texts_total", model="m", result="hit"): "0+60x240 14400x90 14400+60x120",
            selector("conch_gateway_cache_texts_total", model="m", result="miss"): "0+60x450",
        },
        320,
        400,
        MODEL,
    ),
    "ConchRedis": Case(
        {selector("conch_gateway_redis_up", **GATEWAY, use="quotas"): "1x5 0x10 1x10"},
        12,
        18,
        {**GATEWAY, "use": "quotas"},
    ),
    "ConchNaN": Case({selector("conch_gateway_nan_rows_total", model="m"): "0x5 2x60"}, 8, 30, MODEL),
    "ConchTruncation": Case(
        {
            selector("conch_gateway_texts_total", model="m"): "0+60x120",
            selector("conch_gateway_truncated_texts_total", model="m"): "0x10 0+30x45 1350x65",
        },
        52,
        80,
        MODEL,
    ),
    "ConchGatewayMemory": Case(
        {selector("process_resident_memory_bytes", **GATEWAY): "2e8x5 9.5e8x20 2e8x10"}, 20, 30, GATEWAY
    ),
    "ConchTritonMemory": Case(
        {
            selector("nv_cpu_memory_used_bytes", **TRITON): "1e9x5 9.5e9x20 1e9x10",
            selector("nv_cpu_memory_total_bytes", **TRITON): "1e10x35",
        },
        20,
        30,
        TRITON,
    ),
    "ConchSlowLoad": Case(
        {selector("conch_gateway_model_load_seconds", **GATEWAY, model="m"): "2x5 90x5 3x5"},
        8,
        13,
        {**GATEWAY, **MODEL},
    ),
    "ConchTritonRestarts": Case(
        {selector("conch_server_restarts_total", **GATEWAY): "0x5 0+1x5 5x40"}, 12, 40, GATEWAY
    ),
    "ConchCanary": Case(
        {selector("conch_gateway_canary_cosine", **GATEWAY, model="m"): "0.998x5 0.991x10 0.998x10"},
        12,
        20,
        {**GATEWAY, **MODEL},
    ),
    "ConchCanarySilent": Case(
        canary("0+60x5 300x15 1260+60x10", interval_s=60),
        18,
        25,
        {**GATEWAY, **MODEL},
    ),
}

QUIET = [
    ("ConchCanarySilent", canary("0x59 3600x59 7200x30", interval_s=3600), 118),
    ("ConchSlowLoad", {selector("conch_gateway_model_load_seconds", **GATEWAY, model="m"): "2x5 90x60"}, 40),
    ("ConchSlowLoad", {selector("conch_server_start_seconds", **GATEWAY): "90x60"}, 40),
]
"""Series that might be taken for those of an alert, and a minute at which it does not fire."""


def promtool(*arguments: object) -> str:
    """What it says; fails where it finds a fault."""
    assert shutil.which("promtool"), INSTALL
    done = subprocess.run(["promtool", *map(str, arguments)], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


SCRAPES = pytest.mark.parametrize("name", ["prometheus.yml", "static.yml", "kubernetes.yml"])


@SCRAPES
def test_a_scrape_configuration_is_valid_and_finds_the_rules(name: str, tmp_path: Path) -> None:
    configuration = yaml.safe_load((FOLDER / name).read_text(encoding="utf-8"))
    assert "2 rule files found" in checked(configuration, tmp_path)
    assert [job["job_name"] for job in configuration["scrape_configs"]] == ["conch-gateway", "conch-triton"]


@SCRAPES
def test_its_comments_are_settings_for_a_gateway_with_keys_and_a_certificate(name: str, tmp_path: Path) -> None:
    commented = (FOLDER / name).read_text(encoding="utf-8").replace("/etc/prometheus", str(tmp_path))
    configuration = yaml.safe_load(
        re.sub(r"^( +)# (?=(?:authorization|scheme|tls_config): )", r"\1", commented, flags=re.M)
    )
    gateway = configuration["scrape_configs"][0]
    assert gateway["scheme"] == "https"
    assert gateway["tls_config"].keys() == {"server_name", "ca_file"}
    Path(gateway["authorization"]["credentials_file"]).write_text("key")
    trustme.CA().cert_pem.write_to_path(gateway["tls_config"]["ca_file"])
    checked(configuration, tmp_path)


def checked(configuration: dict[str, Any], folder: Path) -> str:
    """What promtool says of a scrape configuration beside the rules."""
    for job in configuration["scrape_configs"]:
        # Debian's Prometheus is built without the discovery of Kubernetes, so that its promtool knows no such field.
        discovery = job.pop("kubernetes_sd_configs", [])
        assert all(each == {"role": "pod"} for each in discovery)
    shutil.copytree(FOLDER / "rules", folder / "rules")
    (folder / "prometheus.yml").write_text(yaml.safe_dump(configuration))
    return promtool("check", "config", folder / "prometheus.yml")


def test_every_alert_is_tried() -> None:
    assert CASES.keys() == ALERTS.keys()


@pytest.mark.parametrize(
    ("query", "names"),
    [
        pytest.param("up", {"up"}, id="a name"),
        pytest.param('sum by (model) (rate(a_total{model=~"b|c"}[5m])) / c', {"a_total", "c"}, id="labels and ranges"),
        pytest.param("a and on (job) group_left (pod) b:c:rate5m > bool 5e3", {"a", "b:c:rate5m"}, id="operators"),
        pytest.param("histogram_quantile(0.9, sum by (le) (a_bucket)) or vector(0)", {"a_bucket"}, id="functions"),
    ],
)
def test_the_series_of_a_query_are_found(query: str, names: set[str]) -> None:
    assert series.named(query) == names


def test_a_query_of_a_series_that_does_not_exist_is_refused() -> None:
    series.check({"a rule": "rate(conch_gateway_requests_total[5m]) / conch_gateway_request_seconds_count"})
    with pytest.raises(ValueError, match="panel 'Requests': there is no series conch_gateway_request_total;"):
        series.check({"panel 'Requests'": "rate(conch_gateway_request_total[5m])"})


def test_every_alert_says_what_to_do() -> None:
    for rule in ALERTS.values():
        assert rule["labels"]["severity"] in {"critical", "warning"}
        assert rule["annotations"].keys() == {"summary", "action"}


def test_every_alert_fires_and_resolves(tmp_path: Path) -> None:
    tests = tmp_path / "tests.yml"
    tests.write_text(
        yaml.safe_dump(
            {
                "rule_files": list(map(str, RULES)),
                "evaluation_interval": "1m",
                "tests": [
                    *(_tested(name, case) for name, case in CASES.items()),
                    *(_quiet(*case) for case in QUIET),
                ],
            }
        )
    )
    promtool("test", "rules", tests)


def _tested(name: str, case: Case) -> dict[str, Any]:
    rule = ALERTS[name]
    labels = {**case.labels, **rule["labels"]}
    told = {key: _filled(text, labels) for key, text in rule["annotations"].items()}
    return {
        "name": name,
        "interval": "1m",
        "input_series": _input(case.series),
        "alert_rule_test": [
            {"alertname": name, "eval_time": "0m", "exp_alerts": []},
            {
                "alertname": name,
                "eval_time": f"{case.fires_at}m",
                "exp_alerts": [{"exp_labels": labels, "exp_annotations": told}],
            },
            {"alertname": name, "eval_time": f"{case.resolved_at}m", "exp_alerts": []},
        ],
    }


def _quiet(name: str, series: dict[str, str], minute: int) -> dict[str, Any]:
    return {
        "name": f"{name} is quiet",
        "interval": "1m",
        "input_series": _input(series),
        "alert_rule_test": [{"alertname": name, "eval_time": f"{minute}m", "exp_alerts": []}],
    }


def _input(series: dict[str, str]) -> list[dict[str, str]]:
    return [{"series": name, "values": values} for name, values in series.items()]


def _filled(text: str, labels: dict[str, str]) -> str:
    """The text as Prometheus makes it of its template."""
    return re.sub(r"\{\{ \$labels\.(\w+) \}\}", lambda found: labels[found[1]], text)
