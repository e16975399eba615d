"""The rig of a template: how its anchors move under each expression, and what lies behind lips and lids.

Outside, an expression is told by Apple ARKit's 52 names. Inside there are ICT-FaceKit's 53 shapes (MIT), the same names
but for browInnerUp and cheekPuff, which have two sides, and tongueOut, which ICT lacks. The file holds left and middle
shapes only, as int8 with one step a shape; right ones are their mirror images.

Legend: N anchors, M inner Gaussians, E = 54 shapes (ICT's 53 and tongueOut).
"""

from __future__ import annotations

import difflib
import lzma
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from headlift.errors import CorruptWeightsError, InvalidInputError, MissingWeightsError
from headlift.model.template import Template
from headlift.model.types import _Tensors

MAX_INNER = 4096
RADIUS_STEP = 2.5e-5  # m, of stored radii
INNER_PARTS = ("upper_teeth", "lower_teeth", "gums", "socket", "eye")
_PAIRS = (
    "browDown", "browInnerUp", "browOuterUp", "cheekPuff", "cheekSquint", "eyeBlink", "eyeLookDown", "eyeLookIn",
    "eyeLookOut", "eyeLookUp", "eyeSquint", "eyeWide", "mouthDimple", "mouthFrown", "mouthLowerDown", "mouthPress",
    "mouthSmile", "mouthStretch", "mouthUpperUp", "noseSneer",
)  # fmt: skip
_MIDDLE = (
    "jawForward", "jawOpen", "mouthClose", "mouthFunnel", "mouthPucker", "mouthRollLower", "mouthRollUpper",
    "mouthShrugLower", "mouthShrugUpper",
)  # fmt: skip
STORED = (*(f"{name}_L" for name in _PAIRS), "jawLeft", "mouthLeft", *_MIDDLE)  # [31]
EXPRESSIONS = (*STORED, *(f"{name}_R" for name in _PAIRS), "jawRight", "mouthRight")  # [53]
_WHOLE = ("browInnerUp", "cheekPuff")  # one name in ARKit, two sides in ICT
ARKIT_NAMES = tuple(
    sorted(
        [f"{name}{side}" for name in _PAIRS if name not in _WHOLE for side in ("Left", "Right")]
        + [*_WHOLE, *_MIDDLE, "jawLeft", "jawRight", "mouthLeft", "mouthRight", "tongueOut"]
    )
)  # [52]


def mirrored_name(name: str) -> str:
    """The shape of ICT's that does on the other side what this one does."""
    for left, right in (("_L", "_R"), ("Left", "Right")):
        if name.endswith(left):
            return name.removesuffix(left) + right
        if name.endswith(right):
            return name.removesuffix(right) + left
    return name


@dataclass(frozen=True)
class Rig(_Tensors):
    """What every head of one template shares while it is driven."""

    basis: Tensor  # [52, N, 3] m at weight 1, ARKit's names in the order of ARKIT_NAMES
    torn: Tensor  # [N, 8] bool, neighbours across a lip or a lid: frames must not see them
    eyeball: Tensor  # [N] bool, anchors on an eyeball
    turning: Tensor  # [N] 0..1, how far an anchor turns with the head
    inner_basis: Tensor  # [52, M, 3] m
    inner_points: Tensor  # [M, 3] m, the template's frame
    inner_normals: Tensor  # [M, 3] unit
    inner_colors: Tensor  # [M, 3] 0..1, beside bright skin
    inner_radii: Tensor  # [M] m
    inner_parts: Tensor  # [M] uint8, index into INNER_PARTS
    template: str  # sha256 of the template it was made for

    def weights(self, named: Mapping[str, float]) -> Tensor:
        """[52] in the order of ARKIT_NAMES, of named weights; names that are missing are 0.

        Raises:
            InvalidInputError: An unknown name (the nearest ones are named), or a weight outside 0..1.
        """
        return weights_of(list(named), list(named.values()))


def weights_of(names: Sequence[str], values: Sequence[float]) -> Tensor:
    """[52] weights in the order of ARKIT_NAMES. `_L` and `_R`, as some tools spell Left and Right, are read too.

    Raises:
        InvalidInputError: An unknown name, as many weights as not names, or a weight outside 0..1.
    """
    out = torch.zeros(len(ARKIT_NAMES))
    for index, value in zip(indices_of(names), _checked(names, values), strict=True):
        out[index] = value
    return out


def indices_of(names: Sequence[str]) -> list[int]:
    """Places of names in ARKIT_NAMES. InvalidInputError for a name that is none of them; it names the nearest."""
    return [_INDEX[key] if (key := _folded(name)) in _INDEX else _refuse(name) for name in names]


def _folded(name: str) -> str:
    """LiveLink writes JawOpen, ICT browDown_L: one spelling for all of them."""
    name = name.removesuffix("_L") + "Left" if name.endswith("_L") else name
    name = name.removesuffix("_R") + "Right" if name.endswith("_R") else name
    return name.lower()


_INDEX = {name.lower(): i for i, name in enumerate(ARKIT_NAMES)}


def _refuse(name: str) -> int:
    near = difflib.get_close_matches(name, ARKIT_NAMES, n=3, cutoff=0.5) or list(ARKIT_NAMES[:3])
    raise InvalidInputError(
        f"{name[:64]!r} is no expression; of ARKit's {len(ARKIT_NAMES)} names the nearest are {', '.join(near)}.",
        field="expression.names",
    )


def _checked(names: Sequence[str], values: Sequence[float]) -> Sequence[float]:
    if len(names) != len(values):
        raise InvalidInputError(
            f"{len(values)} weights came for {len(names)} names; send one a name.", field="expression.weights"
        )
    for name, value in zip(names, values, strict=True):
        if not 0.0 <= value <= 1.0:
            raise InvalidInputError(
                f"The weight of {name} is {value:.4g}; weights lie in 0..1.", field="expression.weights"
            )
    return values


def load_rig(path: Path, template: Template) -> Rig:
    """Read a rig file.

    Raises:
        MissingWeightsError: There is no such file.
        CorruptWeightsError: It is no rig, or another template's.
    """
    if not path.is_file():
        raise MissingWeightsError(f"The rig {path.name} is missing; make it with headlift_trainer.synthetic.rig.")
    try:
        with safe_open(path, "pt") as file:
            made_for = (file.metadata() or {}).get("template", "")
            if made_for != template.sha256:
                raise CorruptWeightsError(
                    f"{path.name} was made for the template {made_for[:12]!r}, these heads stand on "
                    f"{template.sha256[:12]!r}; make a rig for it with headlift_trainer.synthetic.rig."
                )
            return _read({name: file.get_tensor(name) for name in file.keys()}, template)  # noqa: SIM118
    except (SafetensorError, lzma.LZMAError, ValueError, KeyError) as error:
        raise CorruptWeightsError(f"{path.name} is damaged; fetch it again.") from error


def _read(tensors: dict[str, Tensor], template: Template) -> Rig:
    n = len(template)

    def unpacked(name: str, dtype: type[np.generic], *shape: int) -> np.ndarray:
        raw = lzma.decompress(tensors[name].numpy().tobytes())
        return np.frombuffer(raw, dtype).reshape(shape)

    parts = unpacked("inner_parts", np.uint8, -1)
    m = len(parts)
    basis = _whole_basis(unpacked("basis", np.int8, len(STORED), 3, n), tensors["step"], template.mirror)
    half = (torch.arange(m) + m // 2) % m
    inner = _whole_basis(unpacked("inner_basis", np.int8, len(STORED), 3, m), tensors["inner_step"], half)
    points = torch.from_numpy(unpacked("inner_points", np.float16, m, 3).astype(np.float32))
    normals = torch.from_numpy(unpacked("inner_normals", np.int8, m, 3).astype(np.float32))
    inner[ARKIT_NAMES.index("tongueOut")] = _tongue_out(points, torch.from_numpy(parts.copy()))
    bits = np.unpackbits
    return Rig(
        basis=basis,
        torn=torch.from_numpy(bits(unpacked("torn", np.uint8, -1), count=8 * n).reshape(n, 8).astype(bool)),
        eyeball=torch.from_numpy(bits(unpacked("eyeball", np.uint8, -1), count=n).astype(bool)),
        turning=torch.from_numpy(unpacked("turning", np.uint8, n).astype(np.float32) / 255),
        inner_basis=inner,
        inner_points=points,
        inner_normals=torch.nn.functional.normalize(normals, dim=1),
        inner_colors=torch.from_numpy(unpacked("inner_colors", np.uint8, m, 3).astype(np.float32) / 255),
        inner_radii=torch.from_numpy(unpacked("inner_radii", np.uint8, m).astype(np.float32) * RADIUS_STEP),
        inner_parts=torch.from_numpy(parts.copy()),
        template=template.sha256,
    )


def _whole_basis(steps: np.ndarray, step: Tensor, mirror: Tensor) -> Tensor:
    """[52, K, 3] m in the order of ARKIT_NAMES from the stored shapes [31, 3, K] and the mirror [K]."""
    stored = torch.from_numpy(steps.astype(np.float32)).mT * step[:, None, None]
    flip = torch.tensor([-1.0, 1.0, 1.0])
    out = torch.zeros(len(ARKIT_NAMES), stored.shape[1], 3)
    for i, name in enumerate(STORED):
        mirrored = stored[i][mirror] * flip
        base = name.removesuffix("_L")
        if base in _WHOLE:
            out[ARKIT_NAMES.index(base)] = stored[i] + mirrored
        elif name in _MIDDLE:
            out[ARKIT_NAMES.index(name)] = stored[i]
        else:
            left = f"{base}Left" if name.endswith("_L") else name
            out[ARKIT_NAMES.index(left)] = stored[i]
            out[ARKIT_NAMES.index(mirrored_name(left))] = mirrored
    return out


def _tongue_out(points: Tensor, parts: Tensor) -> Tensor:
    """[M, 3] m, ours: the middle of the mouth's floor comes forward between the teeth."""
    gums = parts == INNER_PARTS.index("gums")
    lower = points[parts == INNER_PARTS.index("lower_teeth")]
    edge = lower[:, 1].quantile(0.9)
    width = (1 - (points[:, 0].abs() / 0.017) ** 2).clamp_min(0)
    height = (1 - ((points[:, 1] - edge) / 0.012) ** 2).clamp_min(0)
    return (gums * width * height)[:, None] * torch.tensor([0.0, -0.004, 0.030])
