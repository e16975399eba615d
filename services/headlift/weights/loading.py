"""A network from the files that it needs: its checkpoint, and DINOv2's file where it reads a frozen backbone."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch

from headlift.errors import IncompatibleWeightsError, MissingWeightsError
from headlift.model.checkpoint import Provenance, checkpoint_config, load_checkpoint, weights_hash
from headlift.model.mini.config import MiniConfig
from headlift.model.mini.mesh_landmarks import MeshLandmarks, load_statistics
from headlift.model.mini.model import MiniHead
from headlift.model.perchead.config import PercHeadConfig
from headlift.model.sizes import HeadModel, HeadModelConfig
from headlift.pretrained.catalogue import FACE_MESH
from headlift.pretrained.installed import is_installed, load_face_mesh

_STATISTICS = Path(__file__).with_name("mesh_landmarks.safetensors")
_OPTION = "--backbone or HEADLIFT_BACKBONE_WEIGHTS"


@dataclass(frozen=True)
class LoadedModel:
    """A network that computes.

    Attributes:
        model: On its device, in evaluation mode, without gradients; its backbone beside it.
        provenance: Where its weights come from.
        weights_hash: See ``model_hash``.
    """

    model: HeadModel
    provenance: Provenance
    weights_hash: str


def load_model(
    checkpoint: Path,
    backbone: Path | None = None,
    device: torch.device | str = "cpu",
    models: Path | None = None,
) -> LoadedModel:
    """The network of these files.

    Args:
        checkpoint: What ``save_checkpoint`` wrote.
        backbone: DINOv2's file, in either of the layouts in which it is published; None for networks without one.
        device: Where it computes.
        models: Folder of pretrained models, whose face mesh `mini` uses where it is there; None uses none.

    Raises:
        MissingWeightsError: A file is not there, or the network reads a backbone and none is named.
        CorruptWeightsError: A file is damaged, or ``backbone`` is another network than the checkpoint reads.
        IncompatibleWeightsError: A backbone is named and the network has none.
    """
    config = _checked(checkpoint, backbone)
    digest = model_hash(checkpoint, backbone, models)
    frozen = None
    if backbone is not None and isinstance(config, PercHeadConfig):
        from headlift.pretrained.dinov2 import load_dinov2  # here: timm takes seconds to import, and mini needs none

        frozen = load_dinov2(
            config.encoder.backbone,
            backbone,
            layers=config.encoder.backbone_layers,
            convention=config.encoder.layer_convention,
        ).to(device)
    model, provenance = load_checkpoint(checkpoint, backbone=frozen)
    model = model.to(device).eval().requires_grad_(False)
    if isinstance(model, MiniHead):
        model.mesh = _mesh_of(model, models)
    return LoadedModel(model, provenance, digest)


def _mesh_of(model: MiniHead, models: Path | None) -> MeshLandmarks | None:
    """The face mesh that goes with a network, where it is installed and its statistics are of the same template."""
    if models is None or not is_installed(FACE_MESH, models) or not _STATISTICS.is_file():
        return None
    statistics, template = load_statistics(_STATISTICS)
    if template != model.template.sha256:
        return None
    return MeshLandmarks(load_face_mesh(models, model.device), statistics.to(model.device))


def model_hash(checkpoint: Path, backbone: Path | None = None, models: Path | None = None) -> str:
    """What results are kept under: the checkpoint's SHA-256, or that of the hashes of all that is used; hexadecimal.

    Raises:
        WeightsError: As ``load_model``, as far as can be told without loading.
    """
    config = _checked(checkpoint, backbone)
    used = [weights_hash(checkpoint)]
    if backbone is not None:
        used.append(weights_hash(backbone))
    if models is not None and isinstance(config, MiniConfig) and is_installed(FACE_MESH, models):
        used += [FACE_MESH.sha256, weights_hash(_STATISTICS)]
    return used[0] if len(used) == 1 else hashlib.sha256(" ".join(used).encode()).hexdigest()


def reads_backbone(checkpoint: Path) -> bool:
    """Whether a checkpoint's network reads a frozen backbone. Raises as ``checkpoint_config``."""
    return isinstance(checkpoint_config(checkpoint), PercHeadConfig)


def _checked(checkpoint: Path, backbone: Path | None) -> HeadModelConfig:
    """The config of a checkpoint that goes with a backbone, or with none."""
    config = checkpoint_config(checkpoint)
    name = config.encoder.backbone if isinstance(config, PercHeadConfig) else None
    if name is None and backbone is not None:
        raise IncompatibleWeightsError(
            f"{checkpoint.name} ({config.name}) reads no frozen backbone, and {backbone.name} is named as one; "
            f"leave out {_OPTION}, or name another checkpoint."
        )
    if name is not None:
        from headlift.pretrained.dinov2 import where_to_get
    if name is not None and backbone is None:
        raise MissingWeightsError(
            f"{checkpoint.name} ({config.name}) reads features of the frozen network {name}, and no file of it is "
            f"named; name one with {_OPTION}. {where_to_get(name)}"
        )
    if name is not None and backbone is not None and not backbone.is_file():
        raise MissingWeightsError(
            f"There is no backbone file {backbone.name} for {checkpoint.name}; correct {_OPTION}. {where_to_get(name)}"
        )
    return config
