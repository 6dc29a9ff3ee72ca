"""The gym's locustfile as a stand mounts it: its modules in a ConfigMap, a configuration's flows beside it.

In: `deploy/load-generator/`, a service configuration. Out: the ConfigMap that `deploy/stand/load-generator.yaml` holds, and what the values
of the demo's chart say of it (`demo_values`). The modules are the same for every configuration; what differs is the flows.

Nothing rolls by itself when a mounted ConfigMap changes, so the pods carry a digest of both as an annotation.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from importlib import resources
from typing import Any

import msgspec

from otel_control_gym.engine.settings import ServiceConfiguration
from otel_control_gym.stands.cluster.manifests import PART_OF

__all__ = ("load_config_map", "load_values")

_CONFIG_MAP = "ocg-load-generator"
_FOLDER = "/etc/otel-control-gym"


def load_config_map(namespace: str) -> dict[str, Any]:
    """Return the ConfigMap with the modules of the locustfile."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": _CONFIG_MAP, "namespace": namespace, "labels": PART_OF},
        "data": _modules(),
    }


def load_values(services: ServiceConfiguration) -> dict[str, Any]:
    """Return what the load generator's component needs to run our locustfile: mounts, environment, a digest of both."""
    flows = _flows(services)
    return {
        "environment": {
            "LOCUST_LOCUSTFILE": f"{_FOLDER}/load/locustfile.py",
            "OCG_FLOWS": f"{_FOLDER}/flows/flows.json",
        },
        "mountedConfigMaps": [
            {"name": "load", "mountPath": f"{_FOLDER}/load", "existingConfigMap": _CONFIG_MAP},
            {"name": "flows", "mountPath": f"{_FOLDER}/flows", "data": {"flows.json": flows}},
        ],
        "podAnnotations": {"otel-control-gym/load": _digest({**_modules(), "flows.json": flows})},
    }


def _modules() -> dict[str, str]:
    folder = resources.files("otel_control_gym.deploy") / "load-generator"
    found = {item.name: item.read_text(encoding="utf-8") for item in folder.iterdir() if item.name.endswith(".py")}
    return dict(sorted(found.items()))


def _flows(services: ServiceConfiguration) -> str:
    """Return the flows as JSON, one a line."""
    lines = [f'  "{name}": {msgspec.json.encode(flow).decode()}' for name, flow in services.flows.items()]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _digest(files: Mapping[str, str]) -> str:
    return hashlib.sha256(msgspec.json.encode(files)).hexdigest()[:16]
