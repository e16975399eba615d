"""From a recipe and folders to a task: model, backbone, objective and data sets, put together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from headlift.errors import InvalidInputError, MissingWeightsError
from headlift.model.checkpoint import load_checkpoint
from headlift.model.edit.model import EditModel, named_edit_config
from headlift.model.perchead.config import EncoderConfig
from headlift.model.perchead.encoder import Backbone
from headlift.model.sizes import HeadModel, build_model
from headlift.pretrained.clip import load_clip
from headlift.pretrained.dinov2 import load_dinov2
from headlift.pretrained.facer import load_face_parsing
from headlift_trainer.datasets.mixture import Source, mixture_of
from headlift_trainer.datasets.opening import SOURCE_OPENERS
from headlift_trainer.features_cache import CachedBackbone, identity_of
from headlift_trainer.perceptual import load_objective
from headlift_trainer.recipes.config import RecipeConfig
from headlift_trainer.tasks.editing import EditingTask, Embedder, Segmenter, clip_embedder, farl_segmenter
from headlift_trainer.tasks.reconstruction import ReconstructionTask
from headlift_trainer.tasks.sharpener import FreshRenders, SharpenerTask
from headlift_trainer.template.build import builtin_template, load_flame

_LICENCES = {
    "generated": "generated heads (our own)",
    "nersemble": "NeRSemble v2 (its own terms of use, research only)",
    "cafca": "Cafca (its own terms of use, research only)",
    "ava256": "Ava-256 (CC BY-NC 4.0)",
    "ffhq": "FFHQ (CC BY-NC-SA 4.0)",
    "vfhq": "VFHQ (research only)",
}
_FARL = "face_parsing.farl.celebm.main_ema_181500_jit.pt"


@dataclass(frozen=True)
class RunPaths:
    """Where a run's files lie; picklable, so that a worker elsewhere can build its task from it."""

    data: tuple[tuple[str, Path], ...]  # data set and its folder
    networks: Path | None = None  # folder of other people's networks
    start: Path | None = None  # checkpoint to start from
    features: Path | None = None  # folder where frozen features are kept
    partial: bool = False  # go without missing data sets
    flame: Path | None = None  # FLAME model whose neutral head the anchors lie on; None takes the built-in head


def build_task(config: RecipeConfig, paths: RunPaths, device: torch.device) -> ReconstructionTask | SharpenerTask:
    """The task of a recipe, on a device.

    Raises:
        InvalidInputError: A data set is missing, or a sharpening run has nothing to start from.
        MissingWeightsError: A network's file is missing.
    """
    options: dict[str, Any] = {
        "name": config.name,
        "batch_size": config.batch_size,
        "target_views": config.target_views,
        "held_out_heads": config.held_out_heads,
        "data": tuple(_LICENCES.get(name, name) for name, _ in paths.data),
    }
    sources = _sources(config, paths)
    model, objective = _model(config, paths, device), load_objective(config.loss, paths.networks, device)
    if config.task == "editing":
        return EditingTask(*_editing_networks(config, paths, model), *sources, objective, **options)
    reconstruction = ReconstructionTask(model, *sources, objective, **options)
    if config.task == "sharpening":
        return SharpenerTask(model, FreshRenders(reconstruction), config.name, reconstruction.data)
    return reconstruction


def _editing_networks(config: RecipeConfig, paths: RunPaths, model: HeadModel) -> tuple[EditModel, Segmenter, Embedder]:
    """The paper's editing model, and FaRL and CLIP from the folder of networks."""
    editor_config = named_edit_config(config.editor)
    editor = EditModel(editor_config, model).to(model.device).train()
    clip = str(editor_config.clip)
    weights = _network(paths, f"{clip}.safetensors", f"{clip}.bin")
    segmenter = farl_segmenter(load_face_parsing(_network(paths, _FARL)))
    return editor, segmenter, clip_embedder(load_clip(weights, clip, model.device))


def _network(paths: RunPaths, *names: str) -> Path:
    """The first of these files in the folder of networks."""
    for name in names if paths.networks is not None else ():
        assert paths.networks is not None
        if (paths.networks / name).is_file():
            return paths.networks / name
    raise MissingWeightsError(f"This recipe needs {' or '.join(names)}; give --networks DIR with it in it.")


def _sources(config: RecipeConfig, paths: RunPaths) -> tuple[Source, Source]:
    """Training and held-out heads."""
    train: dict[str, Source] = {}
    held_out: dict[str, Source] = {}
    for name, folder in paths.data:
        train[name], held_out[name] = open_sources(name, folder)
    wanted = dict(config.mixture)
    return mixture_of(wanted, train, partial=paths.partial), mixture_of(wanted, held_out, partial=paths.partial)


def open_sources(name: str, folder: Path) -> tuple[Source, Source]:
    """Training and held-out portraits of a data set in its published layout.

    Raises:
        InvalidInputError: No such data set or folder.
    """
    if not folder.is_dir():
        raise InvalidInputError(f"There is no folder {folder.name} for the data set {name}.")
    if name not in SOURCE_OPENERS:
        raise InvalidInputError(f"There is no data set {name!r}; choose of {', '.join(sorted(SOURCE_OPENERS))}.")
    return SOURCE_OPENERS[name](folder)


def _model(config: RecipeConfig, paths: RunPaths, device: torch.device) -> HeadModel:
    """A fresh model from the schedule's seed, or the checkpoint to start from."""
    backbone = None if config.task == "editing" else _backbone(config, paths, device)
    if paths.start is not None:
        if paths.flame is not None:
            raise InvalidInputError(
                f"{paths.start.name} carries its template; give either a checkpoint to start from or a FLAME model."
            )
        return load_checkpoint(paths.start, expect=config.model, backbone=backbone)[0].to(device).train()
    if config.starts_from is not None:
        raise InvalidInputError(
            f"The recipe {config.name} goes on from {config.starts_from}; train that first and give its checkpoint "
            f"with --start {config.starts_from}.safetensors."
        )
    template = builtin_template() if paths.flame is None else load_flame(paths.flame)
    with torch.random.fork_rng():
        torch.manual_seed(config.schedule.seed)
        return build_model(config.model, template, backbone).to(device).train()


def _backbone(config: RecipeConfig, paths: RunPaths, device: torch.device) -> Backbone | None:
    """The frozen network that the model's encoder names, with a cache where inputs come again as they were."""
    encoder = config.model.encoder
    if not isinstance(encoder, EncoderConfig):
        return None
    network = load_dinov2(
        encoder.backbone,
        _weights_file(encoder, paths.networks),
        layers=encoder.backbone_layers,
        convention=encoder.layer_convention,
    ).to(device)
    if config.augmented or paths.features is None:
        return network
    identity = identity_of(network, encoder.backbone_layers, encoder.layer_convention)
    return CachedBackbone(network, identity, folder=paths.features)


def _weights_file(encoder: EncoderConfig, folder: Path | None) -> Path:
    name = str(encoder.backbone)
    official = name.replace("_reg", "_reg4") + "_pretrain.pth"
    names = (official, f"{name}.safetensors")
    for file in names if folder is not None else ():
        assert folder is not None
        if (folder / file).is_file():
            return folder / file
    raise MissingWeightsError(f"The encoder needs {name}; give --networks DIR with {' or '.join(names)} in it.")


def parse_data(given: list[str]) -> Mapping[str, Path]:
    """``NAME=DIR`` options; a plain folder is generated heads.

    Raises:
        InvalidInputError: The same data set twice.
    """
    found: dict[str, Path] = {}
    for text in given:
        name, _, folder = text.rpartition("=")
        name = name or "generated"
        if name in found:
            raise InvalidInputError(f"The data set {name} is given twice; one folder each.")
        found[name] = Path(folder).expanduser()
    return found
