"""Every number that shapes a PercHead, and the named sizes.

``base``, ``light`` and ``light_s`` are the paper's (sections 3.1, C.6, appendix E); where the paper is silent the
field's comment says "guess". ``mini`` is ours: HeadNet as the frozen branch, projected guidance, a low-rank
head code. ``tiny`` is for tests.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, cast, get_args

from headlift.errors import InvalidInputError

Residual = Literal["paper", "standard"]
Guidance = Literal["none", "projected"]
Stem = Literal["patchify", "conv"]
LayerConvention = Literal["hub", "hf"]

BACKBONE_PATCH = 14
_BACKBONE_SIZES = {"vits14": (384, 12), "vitb14": (768, 12), "vitl14": (1024, 24), "vitg14": (1536, 40)}
# name -> (embed_dim, depth) of the frozen networks that can be injected
BACKBONES: Mapping[str, tuple[int, int]] = {
    f"dinov2_{size}{suffix}": shape for size, shape in _BACKBONE_SIZES.items() for suffix in ("", "_reg")
}


@dataclass(frozen=True)
class HeadNetConfig:
    """HeadNet, our own frozen network (headlift.model.headnet)."""

    dim: int = 192
    depth: int = 6
    num_heads: int = 6
    mlp_ratio: float = 4.0
    landmarks: int = 160
    identity_dim: int = 64
    stem: tuple[int, int, int] = (24, 48, 96)  # channels at strides 2, 4 and 8
    neck: int = 64  # channels of the dense head

    def __post_init__(self) -> None:
        _check_positive(self, "dim", "depth", "num_heads", "mlp_ratio", "landmarks", "identity_dim", "neck")
        _check(self.dim % self.num_heads == 0, "dim", self.dim, f"a multiple of num_heads {self.num_heads}")
        _check(self.dim % 4 == 0, "dim", self.dim, "a multiple of 4, for the sine positions")


@dataclass(frozen=True)
class EncoderConfig:
    """The dual-branch image encoder."""

    image_size: int = 504  # side of what the encoder sees; larger portraits are area-averaged down
    patch_size: int = 14
    dim: int = 128  # trained ViT branch
    depth: int = 2
    num_heads: int = 4  # guess
    mlp_ratio: float = 4.0  # guess
    stem: Stem = "patchify"  # "conv": strided 3x3 convolutions, which need fewer samples
    sees_alpha: bool = False  # alpha as a fourth input channel of the trained branch
    backbone: str | None = "dinov2_vitg14"
    backbone_layers: tuple[int, ...] = (9, 19, 29, 39)
    layer_convention: LayerConvention = (
        "hub"  # "hub": block index from 0, final norm; "hf": hidden_states index, no norm
    )
    fusion_dim: int = 1024  # width of the fused tokens; guess: the decoder's
    foreground_threshold: float = 0.05  # a patch is foreground where its mean alpha exceeds this; guess
    estimates_camera: bool = False
    head_dim: int = 512  # hidden width of the head for camera and code, where there is one
    thumbnail: int = 0  # side of a small picture that a first guess of camera and code is made from; 0 makes none
    thumbnail_features: int = 2048  # random features of that guess
    gradient_cells: int = 16  # cells a side of its histograms of oriented gradients
    headnet: HeadNetConfig | None = None  # our own frozen network beside the trained branch, part of the checkpoint
    headnet_layers: tuple[int, ...] = ()  # blocks of it whose tokens join the trained branch's

    def __post_init__(self) -> None:
        _check_choices(self, stem=Stem, layer_convention=LayerConvention)
        _check_positive(
            self, "image_size", "patch_size", "dim", "depth", "num_heads", "mlp_ratio", "fusion_dim", "head_dim"
        )
        _check(
            self.image_size % self.patch_size == 0,
            "image_size",
            self.image_size,
            f"a multiple of patch_size {self.patch_size}",
        )
        _check(self.dim % self.num_heads == 0, "dim", self.dim, f"a multiple of num_heads {self.num_heads}")
        _check(self.dim % 4 == 0, "dim", self.dim, "a multiple of 4, for the sine positions")
        _check(self.thumbnail >= 0, "thumbnail", self.thumbnail, ">= 0")
        _check(0.0 <= self.foreground_threshold < 1.0, "foreground_threshold", self.foreground_threshold, "in 0..1")
        if self.stem == "conv":
            power = self.patch_size & (self.patch_size - 1) == 0 and self.patch_size >= 4
            _check(power, "patch_size", self.patch_size, "a power of two from 4 on, for the conv stem")
        if self.backbone is not None:
            self._check_backbone(self.backbone)
        if self.headnet is not None:
            self._check_headnet(self.headnet)

    def _check_headnet(self, headnet: HeadNetConfig) -> None:
        _check(self.patch_size == 16, "patch_size", self.patch_size, "16, as HeadNet's")
        inside = all(0 <= layer < headnet.depth for layer in self.headnet_layers)
        _check(inside, "headnet_layers", self.headnet_layers, f"within 0..{headnet.depth - 1}")

    def _check_backbone(self, name: str) -> None:
        _check(name in BACKBONES, "backbone", name, f"one of {', '.join(BACKBONES)}, or null")
        _check(len(self.backbone_layers) > 0, "backbone_layers", self.backbone_layers, "at least one layer")
        first = 0 if self.layer_convention == "hub" else 1
        last = BACKBONES[name][1] - 1 + first
        inside = all(first <= layer <= last for layer in self.backbone_layers)
        _check(
            inside,
            "backbone_layers",
            self.backbone_layers,
            f"within {first}..{last} ({self.layer_convention} convention)",
        )
        _check(self.patch_size == BACKBONE_PATCH, "patch_size", self.patch_size, f"{BACKBONE_PATCH}, as the backbone's")

    @property
    def grid(self) -> int:
        """Patches along one side."""
        return self.image_size // self.patch_size

    @property
    def backbone_dim(self) -> int:
        """Width of the concatenated frozen features; 0 without a backbone."""
        ours = 0 if self.headnet is None else self.headnet.dim * len(self.headnet_layers)
        return ours + (0 if self.backbone is None else BACKBONES[self.backbone][0] * len(self.backbone_layers))


@dataclass(frozen=True)
class DecoderConfig:
    """The template decoder and its Gaussian heads."""

    dim: int = 1024
    depth: int = 10
    num_heads: int = 16
    mlp_ratio: float = 4.0  # guess
    residual: Residual = "paper"
    num_patches: int = 4096
    gaussians_per_patch: int = 16
    gaussian_dim: int = 64  # channels of each Gaussian's latent; the paper's PixelShuffle gives dim / 16
    s_init: float = 0.1  # equation 3; guess
    s_max: float = 0.15  # m, equation 3; guess
    guidance: Guidance = "none"
    geometry_rank: int = 0  # coefficients of the low-rank head code, ours; 0 is the paper
    color_rank: int = 0
    code_doubt: float = 0.0  # ridge of fitting the colour code to the seen pixels; 0 leaves the encoder's code alone
    silhouette_steps: int = 0  # gradient steps that fit the geometry code to the matte; 0 leaves it alone, ours
    warp_cells: int = 0  # cells a side of the shifts that draw hair and clothes to the matte; 0 is none, ours
    closed: float = (
        0.0  # least scale of whole heads' discs over the distance of their neighbours; 0 lets holes be, ours
    )
    hair_cover: bool = False  # whether the geometry code says which patches hair covers, beyond the scalp; ours
    hair_grain: float = 0.0  # strength of the strands on hair that is not seen, over those seen; 0 is smooth, ours

    def __post_init__(self) -> None:
        _check_choices(self, residual=Residual, guidance=Guidance)
        _check_positive(
            self, "dim", "depth", "num_heads", "mlp_ratio", "num_patches", "gaussians_per_patch", "gaussian_dim"
        )
        _check_positive(self, "s_init", "s_max")
        _check(self.dim % self.num_heads == 0, "dim", self.dim, f"a multiple of num_heads {self.num_heads}")
        _check(self.geometry_rank >= 0, "geometry_rank", self.geometry_rank, ">= 0")
        _check(self.color_rank >= 0, "color_rank", self.color_rank, ">= 0")
        _check(self.code_doubt >= 0, "code_doubt", self.code_doubt, ">= 0")
        _check(self.closed >= 0, "closed", self.closed, ">= 0")
        _check(self.silhouette_steps >= 0, "silhouette_steps", self.silhouette_steps, ">= 0")
        _check(self.warp_cells != 1 and self.warp_cells >= 0, "warp_cells", self.warp_cells, "0 or >= 2")
        _check(self.hair_grain >= 0, "hair_grain", self.hair_grain, ">= 0")
        if self.warp_cells:
            _check(self.silhouette_steps > 0, "warp_cells", self.warp_cells, "0 without silhouette_steps")
        if self.hair_cover:
            _check(self.code_doubt > 0, "hair_cover", self.hair_cover, "off without code_doubt")
        if self.hair_grain:
            _check(self.code_doubt > 0, "hair_grain", self.hair_grain, "0 without code_doubt")
        if self.code_doubt:
            fits = self.guidance == "projected" and self.color_rank > 0
            _check(fits, "code_doubt", self.code_doubt, "0 without projected guidance and a colour code")

    @property
    def num_gaussians(self) -> int:
        """Gaussians of one head."""
        return self.num_patches * self.gaussians_per_patch

    @property
    def code_rank(self) -> int:
        """Numbers in the head code; 0 where there is none."""
        return self.geometry_rank + self.color_rank


@dataclass(frozen=True)
class SharpenerConfig:
    """The sharpening CNN (SHP-CNN)."""

    channels: int = 64  # guess
    depth: int = 8  # 3x3 convolutions between the first and the last, in residual pairs; guess
    unshuffle: int = 1  # pixels folded into channels along each side; 1 is the paper
    blur_sigma: float = 2.0  # pixels; guess

    def __post_init__(self) -> None:
        _check_positive(self, "channels", "depth", "unshuffle", "blur_sigma")
        _check(self.depth % 2 == 0, "depth", self.depth, "even: blocks have two convolutions")


@dataclass(frozen=True)
class PercHeadConfig:
    """A whole model. Immutable; ``dataclasses.replace`` makes variants."""

    name: str = "base"
    portrait_size: int = 504  # side of the portrait crop that preprocessing hands over
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    sharpener: SharpenerConfig | None = field(default_factory=SharpenerConfig)

    def __post_init__(self) -> None:
        smallest = self.encoder.image_size
        _check(self.portrait_size >= smallest, "portrait_size", self.portrait_size, f"at least image_size {smallest}")

    def to_json(self) -> str:
        """Text that ``from_json`` reads back to an equal config."""
        return json.dumps(asdict(self), indent=1, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> PercHeadConfig:
        """Read what ``to_json`` wrote; fields that are absent take their defaults.

        Raises:
            InvalidInputError: Not JSON, an unknown key, or a value out of range.
        """
        try:
            values = json.loads(text)
        except ValueError as error:
            raise InvalidInputError(f"The model config is not JSON: {error}.") from error
        parts = {"encoder": EncoderConfig, "decoder": DecoderConfig, "sharpener": SharpenerConfig}
        arguments = _known(cls, values, "config")
        for key, part in parts.items():
            if arguments.get(key) is not None:
                given = dict(arguments[key]) if isinstance(arguments[key], dict) else arguments[key]
                if key == "encoder" and isinstance(given, dict) and given.get("headnet") is not None:
                    given["headnet"] = _build(HeadNetConfig, given["headnet"], "encoder.headnet")
                arguments[key] = _build(part, given, key)
        return cast(PercHeadConfig, _build(cls, arguments, "config"))

    def differences(self, other: PercHeadConfig) -> list[str]:
        """Each field whose value differs, as ``decoder.depth: 10 here, 4 there``; empty where the models are the same.

        The label ``name`` does not count.
        """
        mine, theirs = dict(_flat(asdict(self))), dict(_flat(asdict(other)))
        keys = [k for k in sorted(mine.keys() | theirs.keys()) if k != "name"]
        return [f"{k}: {mine.get(k)} here, {theirs.get(k)} there" for k in keys if mine.get(k) != theirs.get(k)]


def _check(holds: bool, name: str, value: object, wanted: str) -> None:
    if not holds:
        raise InvalidInputError(f"{name} is {value}; it must be {wanted}.", field=name)


def _check_positive(config: object, *names: str) -> None:
    for name in names:
        _check(getattr(config, name) > 0, name, getattr(config, name), "> 0")


def _check_choices(config: object, **choices: object) -> None:
    for name, literal in choices.items():
        allowed = get_args(literal)
        _check(getattr(config, name) in allowed, name, repr(getattr(config, name)), f"one of {', '.join(allowed)}")


def _known(kind: type, values: object, where: str) -> dict[str, Any]:
    """``values`` as keyword arguments of ``kind``, lists turned into tuples; unknown keys are refused."""
    if not isinstance(values, dict):
        raise InvalidInputError(f"The model config's {where} must be an object.", field=where)
    allowed = {f.name for f in fields(kind)}
    unknown = sorted(set(values) - allowed)
    if unknown:
        raise InvalidInputError(f"The model config's {where} has unknown keys: {', '.join(unknown)}.", field=where)
    return {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}


def _build(kind: type, values: object, where: str) -> object:
    """Make ``kind`` from JSON values; a value of the wrong type is a bad config, not a crash."""
    try:
        return kind(**_known(kind, values, where))
    except TypeError as error:
        raise InvalidInputError(f"The model config's {where} has a value of the wrong type.", field=where) from error


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, object]]:
    """Leaves of nested dicts under dotted names; a missing part (None) is one leaf."""
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def named_config(name: str) -> PercHeadConfig:
    """The named size; InvalidInputError lists the names that exist."""
    if name not in CONFIGS:
        raise InvalidInputError(f"There is no model size {name!r}; choose one of {', '.join(CONFIGS)}.", field="config")
    return CONFIGS[name]


def _light_s() -> PercHeadConfig:
    encoder = EncoderConfig(backbone="dinov2_vits14", backbone_layers=(2, 5, 8, 11))
    return PercHeadConfig("light_s", encoder=encoder, decoder=DecoderConfig(depth=4), sharpener=None)


def _mini() -> PercHeadConfig:
    encoder = EncoderConfig(
        image_size=192, patch_size=16, dim=192, depth=2, num_heads=6, stem="conv", sees_alpha=True,
        backbone=None, backbone_layers=(), fusion_dim=256, estimates_camera=True,
        thumbnail=32, thumbnail_features=1024, gradient_cells=8,
        headnet=HeadNetConfig(), headnet_layers=(1, 3, 5),
    )  # fmt: skip
    decoder = DecoderConfig(
        dim=256, depth=4, num_heads=8, residual="standard", gaussian_dim=48, s_init=0.4, s_max=0.08,
        guidance="projected", geometry_rank=40, color_rank=32, code_doubt=3.0,
        closed=0.6, silhouette_steps=24, warp_cells=12, hair_cover=True, hair_grain=0.8,
    )  # fmt: skip
    return PercHeadConfig(
        "mini", 512, encoder, decoder, SharpenerConfig(channels=32, depth=4, unshuffle=2, blur_sigma=1.5)
    )


def _tiny() -> PercHeadConfig:
    encoder = EncoderConfig(
        image_size=32, patch_size=16, dim=32, depth=1, num_heads=2, stem="conv", sees_alpha=True,
        backbone=None, backbone_layers=(), fusion_dim=32, estimates_camera=True, head_dim=16,
        thumbnail=8, thumbnail_features=32, gradient_cells=4,
        headnet=HeadNetConfig(32, 2, 2, 2.0, 12, 8, (8, 8, 16), 8), headnet_layers=(0, 1),
    )  # fmt: skip
    decoder = DecoderConfig(
        dim=32, depth=2, num_heads=2, residual="standard", num_patches=32, gaussian_dim=8, s_init=0.4, s_max=0.08,
        guidance="projected", geometry_rank=3, color_rank=2, code_doubt=3.0,
        silhouette_steps=2, warp_cells=3, hair_cover=True, hair_grain=0.8,
    )  # fmt: skip
    return PercHeadConfig(
        "tiny", 64, encoder, decoder, SharpenerConfig(channels=8, depth=2, unshuffle=2, blur_sigma=1.0)
    )


CONFIGS: Mapping[str, PercHeadConfig] = {
    "base": PercHeadConfig(),
    "light": PercHeadConfig("light", decoder=DecoderConfig(depth=4), sharpener=None),
    "light_s": _light_s(),
    "mini": _mini(),
    "tiny": _tiny(),
}
