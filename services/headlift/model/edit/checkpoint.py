"""Weights of editing models: one safetensors file beside the reconstruction checkpoint that it goes with.

It holds the editing encoder, the small CLIP with its vocabulary where the model has one, outlines for words that are
shapes, what traits leave on faces, and the reconstruction's decoder only where that was fine-tuned. HeadNet stays in
the reconstruction checkpoint; its digest is kept, because the small CLIP reads its features and means nothing with
another.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from headlift.errors import CorruptWeightsError, HeadliftError, IncompatibleWeightsError, MissingWeightsError
from headlift.model.checkpoint import Provenance, tensors_digest
from headlift.model.edit.complexion import Complexion
from headlift.model.edit.map_words import MapWords
from headlift.model.edit.model import EditConfig, EditModel
from headlift.model.edit.style import StyleModel, Vocabulary, feature_width
from headlift.model.mini.model import MiniHead
from headlift.model.sizes import HeadModel

FORMAT = "headlift.edit.v1"
_ENCODER, _STYLE, _OUTLINES, _COMPLEXION, _TUNED = "encoder.", "style.", "outlines.", "complexion.", "reconstruction."


@dataclass(frozen=True)
class EditWeights:
    """An editing model, and what comes with it.

    Attributes:
        model: Around the reconstruction model that was given.
        style: The small CLIP; None where the config names open_clip's.
        provenance: Where all come from.
        outlines: For words that are shapes; None where words are styles alone.
        complexion: What traits leave on faces; None where the painter alone shows them.
    """

    model: EditModel
    style: StyleModel | None
    provenance: Provenance
    outlines: MapWords | None = None
    complexion: Complexion | None = None


def save_edit(
    path: Path | str,
    model: EditModel,
    style: StyleModel | None,
    provenance: Provenance,
    *,
    outlines: MapWords | None = None,
    complexion: Complexion | None = None,
    tuned: bool = False,
    dtype: torch.dtype = torch.float16,
) -> str:
    """Write weights, config and vocabulary; replaces the file in one step.

    Args:
        path: The file to write; its folder must exist.
        model: Its encoder is written.
        style: The small CLIP, for models that have one.
        provenance: Where the weights come from.
        outlines: For words that are shapes.
        complexion: What traits leave on faces.
        tuned: Write the reconstruction's decoder too, because it was fine-tuned.
        dtype: Of the tensors in the file.

    Returns:
        The SHA-256 of the tensors, hexadecimal.
    """
    target = Path(path)
    parts: list[tuple[str, Mapping[str, Tensor]]] = [(_ENCODER, model.encoder.state_dict())]
    if style is not None:
        parts.append((_STYLE, style.state_dict()))
    if outlines is not None:
        parts.append((_OUTLINES, outlines.state_dict()))
    if complexion is not None:
        parts.append((_COMPLEXION, complexion.state_dict()))
    if tuned:
        parts.append((_TUNED, model.reconstruction.decoder.state_dict(prefix="decoder.")))
    tensors = {
        prefix + name: value.detach().to("cpu", dtype if value.is_floating_point() else None).contiguous().clone()
        for prefix, values in parts
        for name, value in values.items()
    }
    digest = tensors_digest(tensors)
    description = {
        "config": model.config.to_json(),
        "provenance": provenance.to_json(),
        "vocabulary": None if style is None else asdict(style.vocabulary),
        "headnet": headnet_digest(model.reconstruction),
        "tensors_sha256": digest,
    }
    partial = target.with_name(target.name + ".partial")
    save_file(tensors, partial, metadata={FORMAT: json.dumps(description, sort_keys=True)})
    partial.replace(target)
    return digest


def load_edit_weights(path: Path | str, reconstruction: HeadModel, *, other_headnet: bool = False) -> EditWeights:
    """Read what ``save_edit`` wrote, around a reconstruction model; in float32 and evaluation mode.

    Args:
        path: The file.
        reconstruction: Its decoder is overwritten where the file holds a fine-tuned one.
        other_headnet: Take weights of another HeadNet as well: to be trained on, not to be used.

    Raises:
        MissingWeightsError: There is no such file.
        CorruptWeightsError: The file is damaged, or no editing weights.
        IncompatibleWeightsError: It goes with another reconstruction model.
    """
    source = Path(path)
    tensors, description = _read(source)
    try:
        config = EditConfig.from_json(description["config"])
        provenance = Provenance.from_json(description["provenance"])
        words, headnet, checksum = description["vocabulary"], description["headnet"], description["tensors_sha256"]
    except (HeadliftError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise CorruptWeightsError(f"{source.name} has an unreadable description: {error}.") from error
    if tensors_digest(tensors) != checksum:
        raise CorruptWeightsError(f"{source.name} does not match its checksum; fetch or train it again.")
    if config.style is not None and not other_headnet and headnet != headnet_digest(reconstruction):
        raise IncompatibleWeightsError(
            f"{source.name} was trained with another HeadNet than {reconstruction.config.name!r} brings; "
            "train it on (headlift train editor --start FILE), or take the checkpoint that it came with."
        )
    try:
        model = EditModel(config, reconstruction)
    except HeadliftError as error:
        raise IncompatibleWeightsError(f"{source.name} does not go with this network: {error.message}") from error
    try:
        model.encoder.load_state_dict(_under(_ENCODER, tensors))
        style = None if config.style is None else _style(config, words, reconstruction, _under(_STYLE, tensors))
        outlines = _outlines(_under(_OUTLINES, tensors))
        complexion = _complexion(_under(_COMPLEXION, tensors), reconstruction)
        if tuned := _under(_TUNED, tensors):
            reconstruction.load_state_dict(tuned, strict=False)
    except (RuntimeError, TypeError, AttributeError, KeyError, ValueError) as error:
        raise CorruptWeightsError(f"{source.name} does not hold the tensors of its own config.") from error
    return EditWeights(model.eval().requires_grad_(False), style, provenance, outlines, complexion)


def tunes_decoder(path: Path | str) -> bool:
    """Whether a file holds a fine-tuned decoder, which ``load_edit_weights`` writes over that of the reconstruction.

    Raises:
        MissingWeightsError, CorruptWeightsError: As ``load_edit_weights``.
    """
    with _opened(Path(path)) as file:
        return any(name.startswith(_TUNED) for name in file.keys())  # noqa: SIM118 - not a dict


def headnet_digest(model: HeadModel) -> str:
    """A name of the HeadNet inside a model, the same in half precision; empty without one."""
    if not isinstance(model, MiniHead):
        return ""
    net, digest = model.encoder.headnet, hashlib.sha256()
    for name, value in sorted(net.state_dict().items()):
        digest.update(name.encode() + value.detach().to("cpu", torch.float16).contiguous().numpy().tobytes())
    return digest.hexdigest()


def _style(
    config: EditConfig, words: dict[str, Any], reconstruction: HeadModel, tensors: dict[str, Tensor]
) -> StyleModel:
    assert config.style is not None
    assert isinstance(reconstruction, MiniHead)
    headnet = reconstruction.config.encoder.headnet
    vocabulary = Vocabulary(
        tuple(str(w) for w in words["words"]),
        tuple((str(a), str(b)) for a, b in words["synonyms"]),
        tuple(str(w) for w in words["silent"]),
        tuple((str(g), str(v), tuple(str(p) for p in ways)) for g, v, ways in words["traits"]),
    )
    style = StyleModel(config.style, vocabulary, feature_width(headnet))
    style.load_state_dict(tensors)
    return style.eval().requires_grad_(False)


def _outlines(tensors: dict[str, Tensor]) -> MapWords | None:
    if not tensors:
        return None
    outlines = MapWords()
    outlines.load_state_dict(outlines.state_dict() | tensors)  # older files know fewer outlines
    return outlines


def _complexion(tensors: dict[str, Tensor], reconstruction: HeadModel) -> Complexion | None:
    if not tensors:
        return None
    complexion = Complexion(
        len(tensors["colors"]), reconstruction.config.decoder.num_gaussians, tensors["readout"].shape[1]
    )
    complexion.load_state_dict(tensors)
    return complexion


@contextmanager
def _opened(source: Path) -> Iterator[Any]:
    if not source.is_file():
        raise MissingWeightsError(
            f"There are no editing weights {source.name}; train them with `headlift train editor`, "
            "or name another file."
        )
    try:
        with safe_open(source, framework="pt", device="cpu") as file:
            yield file
    except (SafetensorError, OSError, ValueError) as error:
        raise CorruptWeightsError(f"{source.name} is not a whole safetensors file.") from error


def _read(source: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    with _opened(source) as file:
        metadata: dict[str, str] = file.metadata() or {}
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    if FORMAT not in metadata:
        raise CorruptWeightsError(f"{source.name} holds no editing weights; its metadata must have {FORMAT}.")
    return tensors, json.loads(metadata[FORMAT])


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): value.float() if value.is_floating_point() else value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }
