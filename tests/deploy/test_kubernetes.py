"""The manifests are what Kubernetes' and KubeRay's schemas allow, fit together, and fit the code."""

import json
import os
import re
import shlex
import shutil
import subprocess
import warnings
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

import jsonschema
import kubernetes_validate
import pytest
import yaml
from referencing import Registry
from referencing.jsonschema import DRAFT202012

from headlift.cli import parser
from headlift.serving.deployments import TOPOLOGIES, parse_app, read_config
from headlift.settings import PREFIX, Settings
from headlift.telemetry.exposition import HEALTH_PATH

ROOT = Path(__file__).parents[2]
OVERLAYS = ("dev", "prod-gpu")
VERSIONS = ("1.30", "1.37")  # the oldest and the newest that are promised
KUBERAY = json.loads((Path(__file__).parent / "kuberay.json").read_text())
OPERATORS = {"monitoring.coreos.com/v1", "ray.io/v1"}
# What somebody else brings: the secrets of prod-gpu, the Service that KubeRay makes of a RayService's head.
OUTSIDE = {
    ("Secret", name) for name in ("headlift-tls", "headlift-keys", "headlift-ray", "headlift-redis", "headlift-s3")
}
HEAD_SERVICE = "headlift-head-svc"
RAY_PATHS = {"/api/gcs_healthz", "/api/local_raylet_healthz"}
COMMANDS = re.findall(r"[\w-]+", parser().format_usage()) + [
    name for action in parser()._actions if isinstance(action.choices, dict) for name in action.choices
]


@pytest.fixture(params=OVERLAYS)
def overlay(request):
    return request.param


@pytest.fixture
def resources(rendered, overlay):
    return rendered(overlay)


def of(resources, kind, name=None):
    return [r for r in resources if r["kind"] == kind and name in (None, r["metadata"]["name"])]


def pods(resources):
    """Name and spec of every pod template, Ray's included."""
    for r in resources:
        name, spec = r["metadata"]["name"], r.get("spec", {})
        if r["kind"] in ("Deployment", "StatefulSet"):
            yield f"{r['kind']} {name}", spec["template"]
        for cluster in (spec.get("rayClusterConfig"), spec.get("rayClusterSpec")):
            if cluster:
                yield f"{r['kind']} {name}: head", cluster["headGroupSpec"]["template"]
                for group in cluster["workerGroupSpecs"]:
                    yield f"{r['kind']} {name}: {group['groupName']}", group["template"]


def walk(value, path=""):
    yield path, value
    if isinstance(value, dict | list):
        for key, one in value.items() if isinstance(value, dict) else enumerate(value):
            yield from walk(one, f"{path}.{key}")


def faults(resource, version):
    """What KubeRay's types, and Kubernetes' for the pods in them, have against a resource."""
    schemas = files("kubernetes_validate") / "kubernetes-json-schema" / f"v{version}.0-local-strict"
    pods = DRAFT202012.create_resource(json.loads((schemas / "_definitions.json").read_text()))
    schema = {"$ref": f"#/$defs/{resource['kind']}", "$defs": KUBERAY["$defs"]}
    found = jsonschema.Draft202012Validator(schema, registry=Registry().with_resource("kubernetes", pods))
    return [error.message for error in found.iter_errors(resource["spec"])]


@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_own_schema_agrees(resources, version):
    checked = [r for r in resources if r["apiVersion"] not in OPERATORS]
    for resource in checked:
        kubernetes_validate.validate(resource, version, strict=True)
    assert {"Deployment", "StatefulSet", "NetworkPolicy", "HorizontalPodAutoscaler"} <= {r["kind"] for r in checked}


@pytest.mark.parametrize("version", VERSIONS)
def test_kuberays_types_agree(resources, version):
    ours = [r for r in resources if r["apiVersion"] == "ray.io/v1"]
    assert len(ours) == 3
    assert [fault for r in ours for fault in faults(r, version)] == []


def test_the_check_finds_typing_errors_in_what_is_rays_and_in_its_pods(rendered):
    service = json.loads(json.dumps(of(rendered("dev"), "RayService")[0]))
    cluster = service["spec"]["rayClusterConfig"]
    cluster["headGroupSpec"]["template"]["spec"]["containers"][0]["redinessProbe"] = {}
    cluster["workerGroupSpec"] = []
    wrong = " ".join(faults(service, VERSIONS[-1]))
    assert "redinessProbe" in wrong
    assert "workerGroupSpec" in wrong


def test_prometheus_operators_own_schema_agrees(npm_packages, resources):
    ours = [r for r in resources if r["apiVersion"] == "monitoring.coreos.com/v1"]
    wrong = [{**ours[0], "spec": {"endpoint": []}}]
    for some, fits in ((ours, True), (wrong, False)):
        done = subprocess.run(
            ["node", "validate.mjs"], cwd=npm_packages.parent, input=json.dumps(some), capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert (json.loads(done.stdout) == []) is fits
    assert {r["kind"] for r in ours} == {"ServiceMonitor", "PodMonitor", "PrometheusRule"}


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
def test_kubectls_newer_kustomize_renders_the_same(resources, overlay):
    done = subprocess.run(
        ["kubectl", "kustomize", f"deploy/k8s/overlays/{overlay}"], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert list(yaml.safe_load_all(done.stdout)) == resources


@pytest.mark.parametrize(("overlay", "file"), [("dev", "fused.yaml"), ("prod-gpu", "gpu.yaml")])
def test_a_ray_service_takes_the_file_that_headlift_serve_takes(rendered, overlay, file):
    (service,) = of(rendered(overlay), "RayService")
    assert service["spec"]["serveConfigV2"] == (ROOT / "deploy/ray" / file).read_text()
    (settings,) = (m for m in of(rendered(overlay), "ConfigMap") if "HEADLIFT_RUNTIME" in m["data"])
    assert read_config(ROOT / "deploy/ray" / file).topology == settings["data"]["HEADLIFT_TOPOLOGY"]


@pytest.mark.parametrize("path", sorted((ROOT / "deploy/ray").glob("*.yaml")), ids=lambda p: p.name)
def test_ray_serve_itself_accepts_every_file(path):
    if path.name == "kustomization.yaml":
        assert yaml.safe_load(path.read_text())["configMapGenerator"][0]["files"] == sorted(
            (p.name for p in path.parent.glob("*.yaml") if p != path),
            key=["fused.yaml", "split.yaml", "gpu.yaml"].index,
        )
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Ray's own, about versions to come
        schema = pytest.importorskip("ray.serve.schema")
    schema.ServeDeploySchema.model_validate(yaml.safe_load(path.read_text()))
    config = read_config(path)
    assert set(config.deployments) == set(TOPOLOGIES[config.topology])
    parse_app({"topology": config.topology, "settings": config.settings}, config.deployments)
    Settings.from_mapping(config.settings)


def test_prometheus_rule_is_the_alerts_file(resources):
    (rule,) = of(resources, "PrometheusRule")
    assert rule["spec"] == yaml.safe_load((ROOT / "deploy/prometheus/alerts.yml").read_text())


def test_every_dashboard_is_carried_along(resources):
    (boards,) = of(resources, "ConfigMap", "headlift-dashboards")
    assert boards["data"] == {p.name: p.read_text() for p in (ROOT / "deploy/grafana/dashboards").glob("*.json")}


def test_every_setting_is_one_and_in_range(resources):
    read = 0
    maps = {m["metadata"]["name"]: m["data"] for m in of(resources, "ConfigMap")}
    for _, template in pods(resources):
        for container in template["spec"]["containers"]:
            told = {}
            for source in container.get("envFrom", ()):
                told |= maps[source["configMapRef"]["name"]]
            told |= {e["name"]: e.get("value", "") for e in container.get("env", ()) if e["name"].startswith(PREFIX)}
            Settings.from_env(told)
            read += len(told)
    assert read > 10


def test_what_is_named_is_there(resources, overlay):
    has = {(r["kind"], r["metadata"]["name"]) for r in resources} | (OUTSIDE if overlay == "prod-gpu" else set())
    keys = {s["metadata"]["name"]: s.get("data", {}) for s in of(resources, "Secret")}
    asked = 0
    for where, value in (pair for r in resources for pair in walk(r)):
        end = where.rsplit(".", 1)[-1]
        wanted = {
            "secretKeyRef": lambda v: ("Secret", v["name"]),
            "secret": lambda v: ("Secret", v["secretName"]),
            "configMapRef": lambda v: ("ConfigMap", v["name"]),
            "serviceAccountName": lambda v: ("ServiceAccount", v),
            "priorityClassName": lambda v: ("PriorityClass", v),
            "claimName": lambda v: ("PersistentVolumeClaim", v),
            "serviceName": lambda v: ("Service", v),
            "scaleTargetRef": lambda v: (v["kind"], v["name"]),
        }.get(end)
        if wanted:
            assert wanted(value) in has, where
            asked += 1
            if end == "secretKeyRef" and value["name"] in keys:
                assert value["key"] in keys[value["name"]], where
    assert asked > 20


def test_every_host_that_is_named_is_a_service_on_that_port(resources):
    services = {s["metadata"]["name"]: {p["port"] for p in s["spec"]["ports"]} for s in of(resources, "Service")}
    services[HEAD_SERVICE] = {6379, 8265}  # KubeRay makes it: NAME-head-svc
    assert of(resources, "RayService", HEAD_SERVICE.removesuffix("-head-svc"))
    named = set(re.findall(r"\b(headlift-[a-z-]+):(\d+)", json.dumps(resources)))
    assert {name for name, _ in named} >= {"headlift-redis", HEAD_SERVICE}
    for name, port in named:
        assert int(port) in services[name], name


def test_services_policies_and_budgets_select_pods_that_are_there(resources):
    labels = [t["metadata"]["labels"] for _, t in pods(resources)]
    ports = {c: set() for c in {one["app.kubernetes.io/component"] for one in labels}}
    for _, template in pods(resources):
        for container in template["spec"]["containers"]:
            component = template["metadata"]["labels"]["app.kubernetes.io/component"]
            ports[component] |= {p["name"] for p in container.get("ports", ())}

    def selected(selector):
        exact = selector.get("matchLabels", {})
        among = selector.get("matchExpressions", ())
        return [
            one for one in labels
            if exact.items() <= one.items() and all(one.get(e["key"]) in e["values"] for e in among)
        ]  # fmt: skip

    for service in of(resources, "Service"):
        chosen = selected({"matchLabels": service["spec"]["selector"]})
        assert chosen, service["metadata"]["name"]
        for port in service["spec"]["ports"]:
            assert all(port["targetPort"] in ports[one["app.kubernetes.io/component"]] for one in chosen)
    for resource in of(resources, "NetworkPolicy") + of(resources, "PodDisruptionBudget"):
        spec = resource["spec"]
        selector = spec.get("podSelector", spec.get("selector"))
        assert selected(selector), resource["metadata"]["name"]
        for rule in spec.get("ingress", ()):
            for port in rule.get("ports", ()):
                if isinstance(port["port"], str):
                    assert any(port["port"] in ports[one["app.kubernetes.io/component"]] for one in selected(selector))
    (monitor,) = of(resources, "ServiceMonitor")
    (edge,) = (
        s
        for s in of(resources, "Service")
        if monitor["spec"]["selector"]["matchLabels"].items() <= s["metadata"]["labels"].items()
    )
    assert {e["port"] for e in monitor["spec"]["endpoints"]} <= {p["name"] for p in edge["spec"]["ports"]}
    # Dashboards and alerts ask for job="headlift", which the operator makes of this label.
    assert edge["metadata"]["labels"][monitor["spec"]["jobLabel"]] == "headlift"


def test_ports_and_probes_are_the_codes_own(resources):
    (edge,) = of(resources, "Deployment", "headlift-edge")
    (container,) = edge["spec"]["template"]["spec"]["containers"]
    image = dict(re.findall(r"(HEADLIFT_\w+)=(\S+)", (ROOT / "deploy/docker/Dockerfile").read_text()))
    ports = {p["name"]: p["containerPort"] for p in container["ports"]}
    assert ports == {"grpc": int(image["HEADLIFT_PORT"]), "metrics": int(image["HEADLIFT_METRICS_PORT"])}
    assert ports["grpc"] == Settings().port
    for where, template in pods(resources):
        for one in template["spec"]["containers"]:
            for kind in ("readinessProbe", "livenessProbe"):
                assert kind in one, where
            named = {p["name"] for p in one["ports"]}
            for probe in (one[k] for k in ("startupProbe", "readinessProbe", "livenessProbe") if k in one):
                if "httpGet" in probe:
                    assert probe["httpGet"]["port"] in named
                    if one["image"].startswith(("headlift", "registry.example.com/headlift")):
                        known = {HEALTH_PATH, "/metrics"} if one["name"] == "edge" else RAY_PATHS
                        assert probe["httpGet"]["path"] in known
    ray = "\n".join(p.read_text() for p in Path(find_spec("ray").origin).parent.glob("dashboard/modules/reporter/*.py"))
    assert all(f'"{path}"' in ray for path in RAY_PATHS)


def test_no_pod_is_root_privileged_writes_its_root_or_goes_unbounded(resources, overlay):
    for where, template in pods(resources):
        spec = template["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True, where
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, where
        assert spec["priorityClassName"], where
        for one in spec["containers"]:
            locked = one["securityContext"]
            assert locked["readOnlyRootFilesystem"] is True, where
            assert locked["allowPrivilegeEscalation"] is False, where
            assert locked["capabilities"] == {"drop": ["ALL"]}, where
            assert {"cpu", "memory"} <= one["resources"]["requests"].keys(), where
            assert "memory" in one["resources"]["limits"], where
            assert re.search(r":[\w.-]+$", one["image"]), "an image without a tag"
            if one["image"].rsplit("/", 1)[-1].startswith("headlift:"):
                assert spec["securityContext"]["runAsUser"] == 10001
                assert "/tmp" in {m["mountPath"] for m in one["volumeMounts"]}
            mounts = {m["name"] for m in one["volumeMounts"]}
            claims = {
                c["metadata"]["name"]
                for s in of(resources, "StatefulSet")
                for c in s["spec"].get("volumeClaimTemplates", ())
            }
            assert mounts <= {v["name"] for v in spec.get("volumes", ())} | claims, where


def test_a_component_brings_the_volume_with_networks_to_whatever_computes(kustomize, tmp_path):
    (tmp_path / "kustomization.yaml").write_text(
        yaml.safe_dump(
            {
                "apiVersion": "kustomize.config.k8s.io/v1beta1",
                "kind": "Kustomization",
                "resources": [os.path.relpath(ROOT / "deploy/k8s/overlays/dev", tmp_path)],
                "components": [os.path.relpath(ROOT / "deploy/k8s/components/networks", tmp_path)],
            }
        )
    )
    done = subprocess.run([kustomize, "build", tmp_path], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    made = [r for r in yaml.safe_load_all(done.stdout) if r]
    (service,), (edge,) = of(made, "RayService"), of(made, "Deployment", "headlift-edge")
    cluster = service["spec"]["rayClusterConfig"]
    claims = {c["metadata"]["name"] for c in of(made, "PersistentVolumeClaim")}
    for spec in (cluster["workerGroupSpecs"][0]["template"]["spec"], edge["spec"]["template"]["spec"]):
        (volume,) = (v["persistentVolumeClaim"] for v in spec["volumes"] if v["name"] == "networks")
        assert volume == {"claimName": "headlift-data", "readOnly": True}
        assert volume["claimName"] in claims
        assert {"name": "networks", "mountPath": "/data", "readOnly": True} in spec["containers"][0]["volumeMounts"]


def test_a_pod_gets_longer_to_end_than_the_server_takes(resources):
    (edge,) = of(resources, "Deployment", "headlift-edge")
    spec = edge["spec"]["template"]["spec"]
    (settings,) = (m["data"] for m in of(resources, "ConfigMap") if "HEADLIFT_DRAIN_S" in m["data"])
    (sleep,) = (int(c["lifecycle"]["preStop"]["exec"]["command"][1]) for c in spec["containers"])
    assert spec["terminationGracePeriodSeconds"] > sleep + float(settings["HEADLIFT_DRAIN_S"])


def test_the_workers_hold_the_least_replicas_and_all_may_hold_the_most(resources, overlay):
    (service,) = of(resources, "RayService")
    (group,) = service["spec"]["rayClusterConfig"]["workerGroupSpecs"]
    limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
    cores = float(group["rayStartParams"].get("num-cpus", limits.get("cpu", 0)))
    gpus = float(limits.get("nvidia.com/gpu", 0))
    deployments = yaml.safe_load(service["spec"]["serveConfigV2"])["applications"][0]["deployments"]

    def needs(resource, replicas):
        return sum(d["ray_actor_options"].get(resource, 0) * d["autoscaling_config"][replicas] for d in deployments)

    assert needs("num_cpus", "min_replicas") <= cores * group["minReplicas"]
    assert needs("num_gpus", "min_replicas") <= gpus * group["minReplicas"]
    if overlay == "prod-gpu":
        assert needs("num_cpus", "max_replicas") <= cores * group["maxReplicas"]
        assert needs("num_gpus", "max_replicas") <= gpus * group["maxReplicas"]
        assert group["template"]["spec"]["nodeSelector"] == {"nvidia.com/gpu.present": "true"}
        assert group["template"]["spec"]["tolerations"]
        assert group["template"]["spec"]["containers"][0]["image"].endswith("-gpu")


def test_every_node_of_ray_has_the_same_token(resources):
    """Ray asks for one as soon as it finds one; a node without it never joins."""
    (edge,) = of(resources, "Deployment", "headlift-edge")
    (container,) = edge["spec"]["template"]["spec"]["containers"]
    told = {
        e["name"]: e.get("value") or e["valueFrom"]["secretKeyRef"] for e in container["env"] if "RAY_AUTH" in e["name"]
    }
    clusters = [c for r in resources for p, c in walk(r) if p in (".spec.rayClusterConfig", ".spec.rayClusterSpec")]
    assert len(clusters) == 3
    for cluster in clusters:
        options = cluster["authOptions"]
        assert told == {
            "RAY_AUTH_MODE": options["mode"],
            "RAY_AUTH_TOKEN": {"name": options["secretName"], "key": "auth_token"},
        }


def test_ray_is_the_version_that_is_installed(resources):
    pinned = re.search(r"^ray==(.+)$", (ROOT / "deploy/constraints.txt").read_text(), re.M)[1]
    for where, value in (pair for r in resources for pair in walk(r)):
        if where.endswith(".rayVersion"):
            assert value == pinned, where


@pytest.mark.parametrize("job", ["headlift-train", "headlift-batch"])
def test_a_job_runs_a_command_that_there_is(resources, job):
    (found,) = of(resources, "RayJob", job)
    words = shlex.split(found["spec"]["entrypoint"])
    if words[1] not in COMMANDS:
        pytest.skip(f"this installation has no command {words[1]}")
    args = parser().parse_args(words[1:])
    assert found["spec"]["suspend"] is True
    workers = found["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]
    if job == "headlift-train":
        limits = workers["template"]["spec"]["containers"][0]["resources"]["limits"]
        assert int(args.workers) == workers["replicas"] <= args.accumulate
        assert args.cpus <= float(limits["cpu"])
        assert args.gpus == float(limits.get("nvidia.com/gpu", 0))
        assert urlsplit(args.out).scheme == "s3"


def test_no_secret_is_written_down_where_it_is_meant_in_earnest(rendered):
    assert of(rendered("prod-gpu"), "Secret") == []
    values = [v for r in rendered("prod-gpu") for p, v in walk(r) if p.endswith(".value") and isinstance(v, str)]
    assert not [v for v in values if re.search(r"://[^$/@]*:[^$/@]+@", v)]
    (edge,) = of(rendered("prod-gpu"), "Deployment", "headlift-edge")
    (settings,) = (m["data"] for m in of(rendered("prod-gpu"), "ConfigMap") if "HEADLIFT_AUTH" in m["data"])
    mounts = {m["mountPath"] for m in edge["spec"]["template"]["spec"]["containers"][0]["volumeMounts"]}
    for name in ("HEADLIFT_TLS_CERT", "HEADLIFT_TLS_KEY", "HEADLIFT_KEYS_FILE"):
        assert str(Path(settings[name]).parent) in mounts
    assert settings["HEADLIFT_AUTH"] != "none"
