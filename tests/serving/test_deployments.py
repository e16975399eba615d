import re
from pathlib import Path

import pytest
import yaml

from headlift.errors import InvalidInputError
from headlift.serving.deployments import IMPORT_PATH, TOPOLOGIES, parse_app, read_config, where
from headlift.settings import Settings

FOLDER = Path(__file__).parents[2] / "deploy" / "ray"
FILES = sorted(set(FOLDER.glob("*.yaml")) - {FOLDER / "kustomization.yaml"})
STAGES = {"preprocess", "encode", "decode", "render", "sharpen"}


@pytest.mark.parametrize("topology", list(TOPOLOGIES))
def test_every_stage_is_answered_in_every_topology(topology):
    assert set(where(topology)) == STAGES


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.name)
def test_the_files_that_are_shipped_describe_whole_applications(file):
    app = read_config(file)
    assert set(app.deployments) == set(TOPOLOGIES[app.topology])
    Settings.from_mapping(app.settings)


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.name)
def test_ray_takes_the_files_and_gives_the_deployments_what_they_say(file):
    schema = pytest.importorskip("ray.serve.schema")
    from headlift.serving.ray_app import application

    whole = yaml.safe_load(file.read_text())
    checked = schema.ServeDeploySchema.model_validate(whole).applications[0]
    assert checked.import_path == IMPORT_PATH
    app = read_config(file)
    ingress = application(app)._bound_deployment
    others = [bound._bound_deployment for bound in ingress.init_args[3]]
    for deployment in (ingress, *others):
        wanted = app.deployments[deployment.name]
        assert deployment.max_ongoing_requests == wanted["max_ongoing_requests"]
        assert deployment.max_queued_requests == wanted["max_queued_requests"]
        assert deployment.ray_actor_options["num_cpus"] == wanted["ray_actor_options"]["num_cpus"]
        scaling = deployment._deployment_config.autoscaling_config
        assert (scaling.min_replicas, scaling.max_replicas) == (
            wanted["autoscaling_config"]["min_replicas"],
            wanted["autoscaling_config"]["max_replicas"],
        )
    assert {d.name for d in (ingress, *others)} == set(TOPOLOGIES[app.topology])


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("a: [", "YAML"),
        ("[]", "0 applications"),
        ("applications: [{import_path: other:app}]", "0 applications"),
        (f"applications: [{{import_path: '{IMPORT_PATH}', args: {{topology: round}}}}]", "round"),
        (f"applications: [{{import_path: '{IMPORT_PATH}', args: {{colour: red}}}}]", "colour"),
        (f"applications: [{{import_path: '{IMPORT_PATH}', deployments: [{{name: Encode}}]}}]", "Encode"),
    ],
)
def test_a_file_that_is_of_no_use_is_refused_with_what_is_wrong(tmp_path, text, word):
    file = tmp_path / "app.yaml"
    file.write_text(text)
    with pytest.raises(InvalidInputError, match=word):
        read_config(file)


def test_settings_travel_to_replicas_and_back(tmp_path):
    settings = Settings(device="cpu", threads=2, weights=tmp_path / "a.safetensors", cache_stages=False)
    assert Settings.from_mapping(settings.changed()) == settings
    assert "s3_secret_key" not in Settings(s3_secret_key="hush").changed()
    with pytest.raises(InvalidInputError, match="COLOUR"):
        Settings.from_mapping({"colour": "red"})
    assert parse_app({}).topology == "fused"


def test_each_part_of_ray_is_known_to_one_file():
    source = Path(__file__).parents[2] / "services" / "headlift"
    knows = re.compile(r"^\s*(from|import) ray\b", re.MULTILINE)
    assert {f.name for f in source.rglob("*.py") if knows.search(f.read_text())} == {
        "local_ray.py",
        "ray_app.py",
        "ray_data.py",
        "ray_metrics.py",
    }
