"""compose.yaml is what the Compose specification allows, fits together, and fits the code."""

import json
import re
from importlib.resources import files
from pathlib import Path

import jsonschema
import pytest
import yaml

from headlift.serving.deployments import read_config
from headlift.settings import Settings

DEPLOY = Path(__file__).parents[2] / "deploy"
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
SERVICES = COMPOSE["services"]
OURS = {name: s for name, s in SERVICES.items() if s["image"].startswith("headlift:")}
PROMETHEUS = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())


def schema():
    return json.loads((files("check_jsonschema") / "builtin_schemas/vendor/compose-spec.json").read_text())


def test_the_compose_specification_agrees_and_would_not_with_a_typing_error():
    jsonschema.validate(COMPOSE, schema())
    wrong = {**COMPOSE, "services": {"edge": {**SERVICES["edge"], "entry_point": []}}}
    with pytest.raises(jsonschema.ValidationError, match="entry_point"):
        jsonschema.validate(wrong, schema())


def test_what_is_named_is_there():
    for name, service in SERVICES.items():
        for other in service.get("depends_on", ()):
            assert other in SERVICES, name
            condition = service["depends_on"][other]["condition"] if isinstance(service["depends_on"], dict) else ""
            if condition == "service_healthy":
                assert "test" in SERVICES[other]["healthcheck"] or SERVICES[other] in OURS.values()
        for volume in service.get("volumes", ()):
            source = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", volume).split(":")[0]
            assert (DEPLOY / source).exists() if source.startswith(".") else source in COMPOSE["volumes"], volume
        for config in service.get("configs", ()):
            assert read_config(DEPLOY / COMPOSE["configs"][config["source"]]["file"]).topology == "fused"
    hosts = set(re.findall(r"\b([a-z][a-z-]+):\d{4,5}\b", json.dumps(SERVICES)))
    assert {"redis", "minio", "ray-head"} <= hosts <= set(SERVICES)
    (source,) = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/headlift.yaml").read_text())["datasources"]
    assert re.match(r"http://(\w+):", source["url"])[1] in SERVICES


def test_every_setting_is_one_and_the_store_is_not_rays_database():
    told = {k: str(v) for s in OURS.values() for k, v in s.get("environment", {}).items() if k.startswith("HEADLIFT_")}
    settings = Settings.from_env(told)
    assert settings.runtime == "ray"
    assert not settings.redis_url.endswith("/0")
    minio = SERVICES["minio"]["environment"]
    assert (settings.s3_access_key, settings.s3_secret_key) == (minio["MINIO_ROOT_USER"], minio["MINIO_ROOT_PASSWORD"])
    assert settings.s3_endpoint.rsplit(":", 1)[0] == "http://minio"


def test_whatever_computes_sees_the_networks_of_the_user():
    for name in ("ray-worker", "edge"):
        assert "${NETWORKS:-networks}:/networks:ro" in SERVICES[name]["volumes"]
    text = (DEPLOY / "ray/fused.yaml").read_text()
    assert (
        set(re.findall(r"# (\w+): /networks/", text))
        == {"weights", "backbone_weights"}
        <= Settings.__annotations__.keys()
    )


def test_every_node_of_ray_has_the_same_token():
    tokens = {(s["environment"]["RAY_AUTH_MODE"], s["environment"]["RAY_AUTH_TOKEN"]) for s in OURS.values()}
    assert len(tokens) == 1
    assert tokens.pop()[0] == "token"


def test_prometheus_fetches_from_services_on_the_ports_that_they_open():
    image = Settings.from_env(dict(re.findall(r"(HEADLIFT_\w+)=(\S+)", (DEPLOY / "docker/Dockerfile").read_text())))
    asked = {c["job_name"]: c["dns_sd_configs"][0] for c in PROMETHEUS["scrape_configs"]}
    assert asked["headlift"] == {"names": ["edge"], "type": "A", "port": image.metrics_port}
    for name in asked["ray"]["names"]:
        assert f"--metrics-export-port={asked['ray']['port']}" in SERVICES[name]["entrypoint"]
    mounted = {v.split(":")[1] for v in SERVICES["prometheus"]["volumes"]}
    assert {f"/etc/prometheus/{name}" for name in [*PROMETHEUS["rule_files"], "prometheus.yml"]} <= mounted
    (boards,) = yaml.safe_load((DEPLOY / "grafana/provisioning/dashboards/headlift.yaml").read_text())["providers"]
    assert boards["options"]["path"] in {v.split(":")[1] for v in SERVICES["grafana"]["volumes"]}


def test_ours_run_without_root_rights_and_nothing_is_open_to_the_world():
    for name, service in OURS.items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["image"] == "headlift:0.1.0-cpu"
    for service in SERVICES.values():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))
        assert re.search(r":[\w.-]+$", service["image"]), "an image without a tag"
