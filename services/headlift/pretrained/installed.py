"""Pretrained models where ``headlift.pretrained.install`` put them: are they there, and networks of them.

Legend: none of these functions needs a network connection.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from headlift.errors import CorruptWeightsError, MissingWeightsError
from headlift.pretrained.catalogue import DLIB_FACE, FACE_MESH, FORMAT, SELFIE, PretrainedModel
from headlift.pretrained.dlib_face import DlibFace
from headlift.pretrained.face_mesh import FaceMesh, GuidedFaceMesh
from headlift.pretrained.graph import GraphNetwork
from headlift.pretrained.selfie import SelfieSegmentation

# Not below HEADLIFT_DATA_DIR: heads may be kept elsewhere for each server, models are one machine's.
DEFAULT_FOLDER = Path.home() / ".local/share/headlift/models"


def models_folder(folder: Path | None) -> Path:
    """Where models are: the folder that settings name, or the default."""
    return DEFAULT_FOLDER if folder is None else folder


def model_file(model: PretrainedModel, folder: Path) -> Path:
    """Where a model lies in a folder, whether it is there or not."""
    return folder / f"{model.name}.safetensors"


def is_installed(model: PretrainedModel, folder: Path) -> bool:
    """Whether a folder has a model."""
    return model_file(model, folder).is_file()


def load_face_mesh(folder: Path, device: torch.device | str = "cpu") -> GuidedFaceMesh:
    """The face mesh. Raises as ``read_model``."""
    return GuidedFaceMesh(FaceMesh(_graph(FACE_MESH, folder)).to(device))


def load_selfie(folder: Path, device: torch.device | str = "cpu") -> SelfieSegmentation:
    """Selfie segmentation. Raises as ``read_model``."""
    return SelfieSegmentation(_graph(SELFIE, folder), device)


def load_dlib_face(folder: Path, device: torch.device | str = "cpu") -> DlibFace:
    """The identity network. Raises as ``read_model``."""
    return DlibFace(read_model(DLIB_FACE, folder)[0]).to(device).eval()


def read_model(model: PretrainedModel, folder: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Weights and header of an installed model.

    Raises:
        MissingWeightsError: It is not installed.
        CorruptWeightsError: Its file is damaged, or of another version.
    """
    file = model_file(model, folder)
    if not file.is_file():
        raise MissingWeightsError(f"{model.name} is not installed; run `headlift models install {model.name}`.")
    try:
        with safe_open(file, framework="pt") as opened:
            header = opened.metadata() or {}
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118  (no dict)
    except (SafetensorError, OSError) as error:
        raise CorruptWeightsError(
            f"{file.name} cannot be read; run `headlift models install {model.name}` again."
        ) from error
    if (header.get("format"), header.get("source_sha256")) != (FORMAT, model.sha256):
        raise CorruptWeightsError(
            f"{file.name} was converted by another version; run `headlift models install {model.name}` again."
        )
    return tensors, header


def _graph(model: PretrainedModel, folder: Path) -> GraphNetwork:
    tensors, header = read_model(model, folder)
    return GraphNetwork(json.loads(header["graph"]), tensors)
