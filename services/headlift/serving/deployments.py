"""Which deployments there are, what each answers, and how a configuration file changes them. Knows no Ray.

The file is Ray Serve's own (``deploy/ray/*.yaml``): what ``serve deploy``, a RayService and ``headlift serve --config``
read alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from headlift.errors import InvalidInputError

IMPORT_PATH = "headlift.serving.ray_app:build"
APP = "headlift"
TOPOLOGIES: dict[str, dict[str, tuple[str, ...]]] = {
    # Features never leave the replica that made them; what crosses a boundary is what is cached anyway.
    "fused": {"Preprocess": ("preprocess",), "Reconstruct": ("encode", "decode"), "Render": ("render", "sharpen")},
    "split": {
        "Preprocess": ("preprocess",),
        "Encode": ("encode",),
        "Decode": ("decode",),
        "Render": ("render",),
        "Sharpen": ("sharpen",),
    },
}
_STAGES_WITH_HEADS = "render"
# Small fractions: a laptop with two cores holds all of them. A cluster's file gives each what it really needs.
DEFAULTS: dict[str, Any] = {
    "num_replicas": 1,
    "max_ongoing_requests": 2,
    "max_queued_requests": 64,
    "health_check_period_s": 5,
    "health_check_timeout_s": 30,
    "graceful_shutdown_timeout_s": 20,
    "graceful_shutdown_wait_loop_s": 0.5,
    "ray_actor_options": {"num_cpus": 0.1},
}
# Heads are pinned in the memory of one replica: requests for one head look for that one first.
AFFINITY = {"request_router_class": "ray.serve.experimental.consistent_hash_router:ConsistentHashRouter"}


@dataclass(frozen=True)
class AppConfig:
    """An application of the file.

    Attributes:
        topology: A key of TOPOLOGIES.
        settings: Of the replicas, by field name; see Settings.from_mapping.
        deployments: What differs from DEFAULTS, by deployment.
    """

    topology: str = "fused"
    settings: Mapping[str, Any] = field(default_factory=dict)
    deployments: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def options_of(topology: str, name: str) -> dict[str, Any]:
    """Serve's options of a deployment where no file changes them."""
    options = dict(DEFAULTS)
    if _STAGES_WITH_HEADS in TOPOLOGIES[topology][name]:
        options["request_router_config"] = AFFINITY
    return options


def where(topology: str) -> dict[str, str]:
    """The deployment that answers each stage."""
    return {stage: name for name, stages in TOPOLOGIES[topology].items() for stage in stages}


def read_config(path: Path) -> AppConfig:
    """The application in a configuration file.

    Raises:
        InvalidInputError: The file cannot be read, or does not describe Headlift; the message says what is wrong.
    """
    try:
        whole = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InvalidInputError(f"{path.name} cannot be read as YAML: {type(error).__name__}.") from None
    applications = whole.get("applications") if isinstance(whole, dict) else None
    ours = [a for a in applications or () if isinstance(a, dict) and a.get("import_path") == IMPORT_PATH]
    if len(ours) != 1:
        raise InvalidInputError(
            f"{path.name} has {len(ours)} applications with import_path {IMPORT_PATH}; exactly one is needed."
        )
    args = ours[0].get("args") or {}
    return parse_app(args, {d["name"]: d for d in ours[0].get("deployments") or ()})


def parse_app(args: Mapping[str, Any], deployments: Mapping[str, Mapping[str, Any]] | None = None) -> AppConfig:
    """The arguments of an application, checked. InvalidInputError: a name that is none, or an unknown topology."""
    if unknown := sorted(set(args) - {"topology", "settings"}):
        raise InvalidInputError(f"args has {unknown[0]!r}; there are topology and settings.", field="args")
    topology = args.get("topology", "fused")
    if topology not in TOPOLOGIES:
        raise InvalidInputError(f"topology is {topology!r}; it must be one of {', '.join(TOPOLOGIES)}.")
    if unknown := sorted(set(deployments or {}) - set(TOPOLOGIES[topology])):
        raise InvalidInputError(
            f"The topology {topology} has no deployment {unknown[0]!r}; it has {', '.join(TOPOLOGIES[topology])}."
        )
    changes = {name: {k: v for k, v in d.items() if k != "name"} for name, d in (deployments or {}).items()}
    return AppConfig(topology, args.get("settings") or {}, changes)
