"""From a recipe and folders to a task: model, backbone, objective and data sets, put together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from headlift.errors import InvalidInputError, MissingWeightsError
from headlift.model.checkpoint import load_checkpoint
from headlift.model.edit.model import EditModel, named_edit_config
from headlift.model.perchead.config import EncoderConfig
from headlift.model.perchead.encoder import Backbone
from headlift.model.perchead.model import PercHead
from headlift.pretrained.clip import load_clip
from headlift.pretrained.dinov2 import load_dinov2
from headlift.pretrained.facer import load_face_parsing
from headlift_trainer.datasets.opening import SOURCE_OPENERS
from headlift_trainer.editing.paper_task import EditingTask, clip_embedder, farl_segmenter
from headlift_trainer.features_cache import CachedBackbone, identity_of
from headlift_trainer.perceptual import load_objective
from headlift_trainer.recipes.config import RecipeConfig
from headlift_trainer.reconstruction import ReconstructionTask
from headlift_trainer.samples import GeneratedHeads, Source, mixture_of
from headlift_trainer.shp import SharpeningTask
from headlift_trainer.synthetic.source.seeds import HELD_OUT
from headlift_trainer.template.build import builtin_template, load_flame

# From a data set's name to what opens its folder: training and held-out portraits.
OPENERS: dict[str, Callable[[Path], tuple[Source, Source]]] = {
    "generated": lambda folder: (GeneratedHeads(folder), GeneratedHeads(folder, HELD_OUT)),
    **SOURCE_OPENERS,
}
_LICENCES = {
    "generated": "generated heads (our own)",
    "nersemble": "NeRSemble v2 (its own terms of use, research only)",
    "cafca": "Cafca (its own terms of use, research only)",
    "ava256": "Ava-256 (CC BY-NC 4.0)",
    "ffhq": "FFHQ (CC BY-NC-SA 4.0)",
    "vfhq": "VFHQ (research only)",
}


@dataclass(frozen=True)
class Places:
    """Where a run's files lie; picklable, so that a worker elsewhere can build its task from it."""

    data: tuple[tuple[str, Path], ...]  # data set and its folder
    networks: Path | None = None  # folder of other people's networks
    start: Path | None = None  # checkpoint to start from
    features: Path | None = None  # folder where frozen features are kept
    partial: bool = False  # go without missing data sets
    flame: Path | None = None  # FLAME model whose neutral head the anchors lie on; None takes the built-in head


_FARL = "face_parsing.farl.celebm.main_ema_181500_jit.pt"


def build(config: RecipeConfig, places: Places, device: torch.device) -> ReconstructionTask | SharpeningTask:
    """The task of a recipe, on a device.

    Raises:
        InvalidInputError: A data set is missing, or a sharpening run has nothing to start from.
        MissingWeightsError: A network's file is missing.
    """
    train, held_out = _sources(config, places)
    if config.task == "editing":
        return _editing(config, places, device, train, held_out)
    reconstruction = ReconstructionTask(
        _model(config, places, device),
        train,
        held_out,
        load_objective(config.loss, places.networks, device),
        name=config.name,
        batch_size=config.batch_size,
        target_views=config.target_views,
        held_out_heads=config.held_out_heads,
        data=tuple(_LICENCES.get(name, name) for name, _ in places.data),
    )
    return SharpeningTask(reconstruction) if config.task == "sharpening" else reconstruction


def _editing(
    config: RecipeConfig, places: Places, device: torch.device, train: Source, held_out: Source
) -> EditingTask:
    """The paper's editing run: FaRL and CLIP from the folder of networks, the decoder from ``--start``."""
    editor_config = named_edit_config(config.editor)
    editor = EditModel(editor_config, _model(config, places, device)).to(device).train()
    clip = str(editor_config.clip)
    return EditingTask(
        editor,
        farl_segmenter(load_face_parsing(_network(places, _FARL))),
        clip_embedder(load_clip(_network(places, f"{clip}.safetensors", f"{clip}.bin"), clip, device)),
        train,
        held_out,
        load_objective(config.loss, places.networks, device),
        name=config.name,
        batch_size=config.batch_size,
        target_views=config.target_views,
        held_out_heads=config.held_out_heads,
        data=tuple(_LICENCES.get(name, name) for name, _ in places.data),
    )


def _network(places: Places, *names: str) -> Path:
    """The first of these files in the folder of networks."""
    for name in names if places.networks is not None else ():
        assert places.networks is not None
        if (places.networks / name).is_file():
            return places.networks / name
    raise MissingWeightsError(f"This recipe needs {' or '.join(names)}; give --networks DIR with it in it.")


def _sources(config: RecipeConfig, places: Places) -> tuple[Source, Source]:
    """Training and held-out heads."""
    train: dict[str, Source] = {}
    held_out: dict[str, Source] = {}
    for name, folder in places.data:
        train[name], held_out[name] = open_sources(name, folder)
    wanted = dict(config.mixture)
    return mixture_of(wanted, train, partial=places.partial), mixture_of(wanted, held_out, partial=places.partial)


def open_sources(name: str, folder: Path) -> tuple[Source, Source]:
    """Training and held-out portraits of a data set in its published layout.

    Raises:
        InvalidInputError: No such data set or folder.
    """
    if not folder.is_dir():
        raise InvalidInputError(f"There is no folder {folder.name} for the data set {name}.")
    if name not in OPENERS:
        raise InvalidInputError(f"There is no data set {name!r}; choose of {', '.join(sorted(OPENERS))}.")
    return OPENERS[name](folder)


def _model(config: RecipeConfig, places: Places, device: torch.device) -> PercHead:
    """A fresh model from the schedule's seed, or the checkpoint to start from."""
    backbone = None if config.task == "editing" else _backbone(config, places, device)
    if places.start is not None:
        if places.flame is not None:
            raise InvalidInputError(
                f"{places.start.name} carries its template; give either a checkpoint to start from or a FLAME model."
            )
        return load_checkpoint(places.start, expect=config.model, backbone=backbone)[0].to(device).train()
    if config.starts_from is not None:
        raise InvalidInputError(
            f"The recipe {config.name} goes on from {config.starts_from}; train that first and give its checkpoint "
            f"with --start {config.starts_from}.safetensors."
        )
    template = builtin_template() if places.flame is None else load_flame(places.flame)
    with torch.random.fork_rng():
        torch.manual_seed(config.schedule.seed)
        return PercHead(config.model, template, backbone).to(device).train()


def _backbone(config: RecipeConfig, places: Places, device: torch.device) -> Backbone | None:
    """The frozen network that the model's encoder names, with a cache where inputs come again as they were."""
    encoder = config.model.encoder
    if encoder.backbone is None:
        return None
    network = load_dinov2(
        encoder.backbone,
        _weights_file(encoder, places.networks),
        layers=encoder.backbone_layers,
        convention=encoder.layer_convention,
    ).to(device)
    if config.augmented or places.features is None:
        return network
    identity = identity_of(network, encoder.backbone_layers, encoder.layer_convention)
    return CachedBackbone(network, identity, folder=places.features)


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
