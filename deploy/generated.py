"""Files for deployment that are generated: Triton's start script, `.env.example`, requests and limits.

Each comes from the one place that knows it: the embedded Triton's command line, the gateway's settings and
docker-compose.yml, and what `conch plan` says of the served models.
"""

from __future__ import annotations

import re
import textwrap
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from conch_gateway import GatewaySettings
from conch_server import ServerSettings
from conch_server._arguments import ENVIRONMENT, common_arguments, control_argument, secret_argument

from deploy.kubernetes import resources

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parents[1]
SCRIPT = "deploy/triton/tritonserver.sh"
FIXED = {
    "CONCH_HOST": "the container's address is the network's; CONCH_BIND says where it is published",
    "CONCH_PORT": "the same inside every container; CONCH_PORT of the host says where it is published",
    "CONCH_TRITON_URL": "the command says it, as `conch serve` starts a Triton of its own otherwise",
    "CONCH_CANARY_REPOSITORY": "the volume of models is at the same place in every container",
    "CONCH_SHUTDOWN_GRACE_S": "stop_grace_period has to be longer, or Docker ends the requests it is for",
}
"""Settings of the gateway that cannot be changed from outside the container, and why."""
VARIABLES = {
    "COMPOSE_PROFILES": "Profiles that `docker compose up` starts, divided by commas: cpu or gpu, and monitoring.",
    "CONCH_BIND": "Address of this machine that the gateway is published on. Make keys before it is another.",
    "CONCH_PORT": "Port of this machine that the gateway is published on.",
    "CONCH_CONFIG": "Folder of keys, models file and certificates, which the gateway reads as /etc/conch.",
    "CONCH_GATEWAY_USER": "User and group of the gateway, who must be able to read those files (`id -u`, `id -g`).",
    "CONCH_EXPORT_MODEL": "What the service `export` exports (profile cpu): a known name or a Hub id.",
    "PIP_EXTRA_INDEX_URL": "A further package index for the image of `export`: that of PyTorch's CPU wheels spares it "
    "gigabytes of CUDA libraries, which conch does not use.",
    "HF_ENDPOINT": "Address of the Hub, for `export`.",
    "HF_TOKEN": "Token of the Hub, for `export`.",
    "HF_HUB_OFFLINE": "1 keeps `export` away from the Hub.",
    "CONCH_MODELS": "Model repository that Triton serves: the volume that `export` fills, or a folder.",
    "CONCH_EXPORT_USER": "User and group of `export`, who must be able to write to that folder (`id -u`, `id -g`).",
    "CONCH_TRITON_IMAGE": "Image of Triton. Its own /models, if it has one, is hidden by CONCH_MODELS.",
    "CONCH_TRITON_REPLICAS": "Number of Tritons; the gateway finds all.",
    "CONCH_TRITON_CPUS": "Cores of each Triton; `export` plans for as many.",
    "CONCH_TRITON_MEMORY": "Limit of each Triton; `conch plan` says what a model takes.",
    "CONCH_GPUS": "GPUs of each Triton (profile gpu).",
    "CONCH_EXPORT_CPUS": "Limit of `export`.",
    "CONCH_EXPORT_MEMORY": "Limit of `export`; `conch plan` says what an export takes.",
    "CONCH_GATEWAY_CPUS": "Limit of the gateway.",
    "CONCH_GATEWAY_MEMORY": "Limit of the gateway; a larger CONCH_CACHE_MB needs more.",
    "CONCH_MONITORING_BIND": "Address of this machine that Prometheus and Grafana are published on.",
    "CONCH_PROMETHEUS_PORT": "Port of this machine for Prometheus (profile monitoring).",
    "CONCH_GRAFANA_PORT": "Port of this machine for Grafana (profile monitoring).",
    "CONCH_GRAFANA_PASSWORD": "Password of Grafana's user `admin`; unset, it is `admin` until the first login.",
    "CONCH_VERSION": "Tag of the images that are built.",
}
"""Variables of docker-compose.yml itself, in the order in which they are listed, and what they are for."""
EXAMPLES = {
    "COMPOSE_PROFILES": "cpu",
    "CONCH_API_KEYS_FILE": "/etc/conch/keys.json",
    "CONCH_BATCH_DATABASE": "/var/lib/conch/batches.db",
    "CONCH_MODELS_FILE": "/etc/conch/models.toml",
    "CONCH_REDIS_URL": "rediss://:PASSWORD@redis.example.org:6379/0",
    "CONCH_TLS_CERTIFICATE": "/etc/conch/certificate.pem",
    "CONCH_TLS_KEY": "/etc/conch/key.pem",
    "CONCH_WEB_MODELS": "/etc/conch/web",
}
"""Values that show the form of one, where there is no default."""
WIDTH = 116


def start_script() -> str:
    """Return the shell script that starts tritonserver in a container."""
    # The address is the container's; the settings refuse it, since they are those of the embedded Triton.
    settings = ServerSettings.model_construct(triton_host="0.0.0.0")  # noqa: S104
    arguments = common_arguments(settings, repository='"${CONCH_MODEL_REPOSITORY:-/models}"')
    variables = " ".join(f'{name}="${{{name}:-{value}}}"' for name, value in ENVIRONMENT.items())
    loading, fixed = (
        f"  set -- {control_argument(loads_on_demand=loads)} \\\n"
        f'    "{secret_argument(f"${key}", loads_on_demand=loads)}" "$@"'
        for loads, key in ((True, "CONCH_TRITON_ADMIN_KEY"), (False, "key"))
    )
    lines = " \\\n".join(f"  {argument}" for argument in (*arguments, '"$@"'))
    return f"""#!/bin/sh
# Starts tritonserver as `conch serve` starts the embedded one; further arguments are passed on.
# Generated from server/conch_server/_arguments.py by `make docs`.
set -eu
export {variables}
# Protocols that reach memory and files need a key: the one with which the gateway loads and unloads models, or a random
# one that nobody knows, new at every start.
if [ -n "${{CONCH_TRITON_ADMIN_KEY:-}}" ]; then
{loading}
else
  key=$(cat /proc/sys/kernel/random/uuid)
{fixed}
fi
exec tritonserver \\
{lines}
"""


def example() -> str:
    """Return `.env.example`: every variable with its meaning and its default."""
    defaults = compose_defaults()
    lines = [
        "# Settings of docker-compose.yml: copy this file to .env and remove the # of the lines you change.",
        "# Generated by `make docs`. Values are the defaults; of settings without one, an example or nothing.",
        "",
        "# --- Where and how large",
    ]
    for name, meaning in VARIABLES.items():
        lines += _entry(name, meaning, defaults.get(name, ""))
    lines += ["", "# --- The gateway (docs/settings.md)"]
    for name, meaning, default in gateway_settings():
        lines += _entry(name, meaning, default)
    return "\n".join(lines) + "\n"


def _entry(name: str, meaning: str, default: str) -> Iterator[str]:
    yield from ("", *(f"# {line}" for line in textwrap.wrap(meaning, WIDTH)))
    yield f"#{name}={EXAMPLES.get(name, default)}"


def gateway_settings() -> Iterator[tuple[str, str, str]]:
    """Variable, meaning and default of every setting of the gateway that compose hands on."""
    for field, about in GatewaySettings.model_fields.items():
        name, default = f"CONCH_{field.upper()}", about.get_default(call_default_factory=True)
        if name not in FIXED:
            shown = str(default).lower() if isinstance(default, bool) else str(default)
            yield name, about.description or "", "" if default is None else shown


def compose_defaults() -> dict[str, str]:
    """Variables that docker-compose.yml puts values in for, with their defaults."""
    text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    return dict(re.findall(r"\$\{(\w+):-([^}]*)\}", text))


def variables() -> str:
    """Return the table of docker-compose.yml's own variables."""
    defaults = compose_defaults()
    rows = (
        f"| `{name}` | {f'`{defaults[name]}`' if defaults.get(name) else 'unset'} | {meaning} |"
        for name, meaning in VARIABLES.items()
    )
    return "\n".join(["| variable | default | |", "| --- | --- | --- |", *rows])


def pages() -> dict[str, Callable[[], str]]:
    """Return the generated files by their paths."""
    return {
        SCRIPT: start_script,
        ".env.example": example,
        **{
            f"deploy/kubernetes/{folder}/resources.yaml": partial(resources.patch, ROOT / "deploy/kubernetes" / folder)
            for folder in ("overlays/cpu", "overlays/gpu", "kserve")
        },
    }
