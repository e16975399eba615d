"""Checkpoints: one safetensors file with the weights, the template, the config and where they come from.

The template travels with the weights, because the decoder has learned what each anchor is. Nothing is unpickled.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from headlift.errors import CorruptWeightsError, HeadliftError, IncompatibleWeightsError, MissingWeightsError
from headlift.model.checkpoint_v1 import FORMAT_V1, config_of_v1, tensors_of_v1
from headlift.model.checks import config_differences, config_from_json, config_to_json
from headlift.model.mini.config import MiniConfig
from headlift.model.perchead.config import PercHeadConfig
from headlift.model.perchead.encoder import Backbone
from headlift.model.sizes import HeadModel, HeadModelConfig, build_unset_model
from headlift.model.template import Template

FORMAT = "headlift.model.v2"
_KINDS: Mapping[str, type[HeadModelConfig]] = {"perchead": PercHeadConfig, "mini": MiniConfig}
_EXACT = ("decoder.anchors", "decoder.normals", "decoder.spacing")  # never stored in half precision: they are positions
# Two thirds of a release: in half precision these bases are stored as bytes, each row with a step of its own.
_BASES = ("morphable.geometry_basis", "morphable.color_basis")
_STEP = ".step"
_TEMPLATE = "template."


@dataclass(frozen=True)
class Provenance:
    """Where weights come from; printed by ``headlift info`` and copied into reports."""

    description: str = ""
    license: str = ""
    data: tuple[str, ...] = ()  # data sets, with their licences
    steps: int = 0
    samples: int = 0  # portraits seen in training
    created_utc: str = ""  # ISO 8601
    code_version: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)

    def to_json(self) -> str:
        """Text that ``from_json`` reads back."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Provenance:
        """Read what ``to_json`` wrote; keys of later versions are ignored."""
        known = {f.name for f in fields(cls)}
        values = {k: v for k, v in json.loads(text).items() if k in known}
        return cls(**{**values, "data": tuple(values.get("data", ()))})


def save_checkpoint(
    path: Path | str,
    model: HeadModel,
    provenance: Provenance,
    *,
    dtype: torch.dtype = torch.float32,
) -> str:
    """Write the model's weights, config and template; replaces the file in one step.

    Args:
        path: The file to write; its folder must exist.
        model: What to save; its frozen backbone is not saved.
        provenance: Where the weights come from.
        dtype: float32, or float16 for a release (loaded as float32 again): half the size, the bases of the morphable
            head a quarter. Anchors stay float32.

    Returns:
        The SHA-256 of the file's bytes, hexadecimal: the weights hash.
    """
    target = Path(path)
    tensors: dict[str, Tensor] = {}
    for name, value in model.state_dict().items():
        as_bytes = name in _BASES and dtype == torch.float16
        tensors |= _as_bytes(name, value) if as_bytes else {name: _stored(name, value, dtype)}
    template = model.template
    for name in ("neighbors", "mirror", "regions"):
        value = getattr(template, name)
        tensors[_TEMPLATE + name] = value.to("cpu", torch.uint8 if name == "regions" else torch.int32).contiguous()
    description = {
        "kind": next(name for name, kind in _KINDS.items() if isinstance(model.config, kind)),
        "config": config_to_json(model.config),
        "provenance": provenance.to_json(),
        "template": {"name": template.name, "sha256": template.sha256},
        "tensors_sha256": tensors_digest(tensors),
    }
    # One entry only: safetensors writes several in random order, and equal weights should be equal files.
    metadata = {FORMAT: json.dumps(description, sort_keys=True)}
    partial = target.with_name(target.name + ".partial")
    save_file(tensors, partial, metadata=metadata)
    partial.replace(target)
    return weights_hash(target)


def load_checkpoint(
    path: Path | str,
    *,
    expect: HeadModelConfig | None = None,
    backbone: Backbone | None = None,
) -> tuple[HeadModel, Provenance]:
    """Read a model back, on the CPU, in float32 and evaluation mode.

    Args:
        path: What ``save_checkpoint`` wrote.
        expect: The config that the caller needs; None takes what the file holds.
        backbone: The frozen network, where the config names one.

    Raises:
        MissingWeightsError: There is no such file.
        CorruptWeightsError: The file is damaged, or no checkpoint of ours.
        IncompatibleWeightsError: The file holds another config than ``expect``.
    """
    source = Path(path)
    with _opened(source) as file:
        version, description = _description(source, file)
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    config = _config(source, version, description)
    try:
        provenance = Provenance.from_json(description["provenance"])
        checksum = description["tensors_sha256"]
        name, sha256 = str(description["template"]["name"]), str(description["template"]["sha256"])
    except (HeadliftError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise CorruptWeightsError(f"{source.name} has an unreadable description: {error}.") from error
    if expect is not None and (differences := config_differences(config, expect)):
        raise IncompatibleWeightsError(
            f"{source.name} holds a {config.name!r} model, and {expect.name!r} was asked for; they differ in "
            f"{'; '.join(differences)} (here: the file, there: asked for)."
        )
    if tensors_digest(tensors) != checksum:
        raise CorruptWeightsError(f"{source.name} does not match its checksum; fetch or train it again.")
    if version == FORMAT_V1:
        tensors = tensors_of_v1(tensors)
    try:
        template = _template(tensors, name, sha256)
        model = build_unset_model(config, template, backbone)
        model.load_state_dict(_values({k: v for k, v in tensors.items() if not k.startswith(_TEMPLATE)}))
    except (HeadliftError, KeyError, RuntimeError) as error:
        raise CorruptWeightsError(
            f"{source.name} does not hold the tensors of its own config {config.name!r}."
        ) from error
    return model.eval(), provenance


def checkpoint_config(path: Path | str) -> HeadModelConfig:
    """The config of a checkpoint; no tensor is read.

    Raises:
        MissingWeightsError: There is no such file.
        CorruptWeightsError: It is no checkpoint of ours.
    """
    source = Path(path)
    with _opened(source) as file:
        version, description = _description(source, file)
    return _config(source, version, description)


def weights_hash(path: Path | str) -> str:
    """SHA-256 of a weights file, hexadecimal; MissingWeightsError where there is none."""
    source = Path(path)
    if not source.is_file():
        raise MissingWeightsError(f"There is no weights file {source.name}.")
    with source.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _opened(source: Path) -> Iterator[Any]:
    """A safetensors file; what is wrong with it is told in words."""
    if not source.is_file():
        raise MissingWeightsError(
            f"There is no checkpoint {source.name}; train one with headlift_trainer, or name another file."
        )
    try:
        with safe_open(source, framework="pt", device="cpu") as file:
            yield file
    except (SafetensorError, OSError, ValueError) as error:
        raise CorruptWeightsError(f"{source.name} is not a whole safetensors file.") from error


def _description(source: Path, file: Any) -> tuple[str, dict[str, Any]]:
    """Format and description of a file that says it is ours."""
    metadata: dict[str, str] = file.metadata() or {}
    version = next((v for v in (FORMAT, FORMAT_V1) if v in metadata), None)
    if version is None:
        raise CorruptWeightsError(f"{source.name} is no checkpoint of ours; its metadata must hold {FORMAT}.")
    try:
        return version, dict(json.loads(metadata[version]))
    except (TypeError, ValueError) as error:
        raise CorruptWeightsError(f"{source.name} has an unreadable description: {error}.") from error


def _config(source: Path, version: str, description: Mapping[str, Any]) -> HeadModelConfig:
    try:
        if version == FORMAT_V1:
            return config_of_v1(description["config"])
        return config_from_json(_KINDS[description["kind"]], description["config"])
    except (HeadliftError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise CorruptWeightsError(f"{source.name} has an unreadable description: {error}.") from error


def _template(tensors: Mapping[str, Tensor], name: str, sha256: str) -> Template:
    """The template that the weights were trained on."""
    anchors, normals, spacing = (tensors[key].clone() for key in _EXACT)
    neighbors, mirror = (tensors[_TEMPLATE + key].long() for key in ("neighbors", "mirror"))
    regions = tensors[_TEMPLATE + "regions"].clone()
    return Template(anchors, normals, spacing, neighbors, mirror, regions, name=name, sha256=sha256)


def _stored(name: str, value: Tensor, dtype: torch.dtype) -> Tensor:
    """A tensor as it goes into the file: dense, on the CPU, of its own memory."""
    keep = name in _EXACT or not value.is_floating_point()
    return (
        value.detach()
        .to("cpu", value.dtype if keep else dtype)
        .contiguous()
        .clone(memory_format=torch.contiguous_format)
    )


def _as_bytes(name: str, value: Tensor) -> dict[str, Tensor]:
    """A basis [K, ...] as int8 and the step of each of its rows [K]; off by half a 127th of a row's largest value."""
    rows = value.detach().float().cpu()
    step = (rows.flatten(1).abs().amax(1) / 127).clamp_min(torch.finfo(torch.float32).tiny)
    levels = (rows / step.view(-1, *[1] * (rows.dim() - 1))).round().to(torch.int8)
    return {name: levels.contiguous(), name + _STEP: step}


def _values(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of a file as the model knows them. KeyError: bytes without their steps."""
    values = {name: value for name, value in tensors.items() if not name.endswith(_STEP)}
    for name in _BASES:
        if name in values and values[name].dtype == torch.int8:
            step = tensors[name + _STEP]
            values[name] = values[name].float() * step.view(-1, *[1] * (values[name].dim() - 1))
    return values


def tensors_digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, types, shapes and bytes: safetensors itself would not notice a flipped bit."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name].contiguous()
        digest.update(f"{name} {value.dtype} {tuple(value.shape)};".encode())
        digest.update(value.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
