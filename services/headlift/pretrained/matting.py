"""Portrait matting networks from local TorchScript files: MODNet, and Robust Video Matting.

MODNet (Ke et al., AAAI 2022; code and weights Apache-2.0) is the most used matting network for portraits whose licence
lets everybody use it, needs no trimap, and has 6.5 million parameters: its own script
(``python -m torchscript.export_torchscript``) turns ``modnet_photographic_portrait_matting.ckpt`` into the file that is
read here. Robust Video Matting (Lin et al., WACV 2022; GPL-3.0, so only for those who accept that) is published as
``rvm_mobilenetv3_fp32.torchscript``. Which one a file is, the names of its inputs tell.

Legend: H W picture.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from headlift.errors import CorruptWeightsError
from headlift.pretrained.torchscript import load_script, steady_execution

U8 = npt.NDArray[np.uint8]
F32 = npt.NDArray[np.float32]

_PAGE = "https://github.com/ZHKKKe/MODNet or https://github.com/PeterL1n/RobustVideoMatting"
_SIDE = 512  # pixels that both networks were trained at
_MULTIPLE = 32  # of MODNet's picture
_INPUTS = {"modnet": ("img",), "rvm": ("src", "r1", "r2", "r3", "r4")}


class MattingNetwork:
    """A matting network; safe to call from several threads."""

    def __init__(self, network: torch.jit.ScriptModule, kind: str) -> None:
        """Join a network and its kind, `modnet` or `rvm`; see ``load_matting``."""
        self._network, self.kind = network, kind

    @torch.no_grad()
    def __call__(self, picture: Tensor) -> Tensor:
        """A picture [3, H, W] in 0..1 -> the opacity of its people [1, H, W] in 0..1.

        Raises:
            CorruptWeightsError: The network cannot read pictures of its own size, or answers something else.
        """
        size = picture.shape[-2:]
        try:
            with steady_execution():
                alpha = self._modnet(picture[None]) if self.kind == "modnet" else self._rvm(picture[None])
        except (RuntimeError, TypeError, IndexError, AttributeError) as error:
            raise CorruptWeightsError(
                f"The {self.kind} file does not matte a picture; export or fetch it anew."
            ) from error
        if not isinstance(alpha, Tensor) or alpha.dim() != 4 or alpha.shape[:2] != (1, 1):
            raise CorruptWeightsError(f"The {self.kind} file gives no matte of one channel; export or fetch it anew.")
        resized = F.interpolate(alpha.float(), size=tuple(size), mode="bilinear", align_corners=False, antialias=True)
        return resized[0].clamp(0, 1)

    def matte(self, rgb: U8, face_box: tuple[float, float, float, float], maps: object = None) -> F32:
        """Opacity [h, w] of the people in ``rgb`` [h, w, 3]; where the face is, the network finds itself."""
        picture = torch.from_numpy(np.ascontiguousarray(rgb)).permute(2, 0, 1).float() / 255
        return np.asarray(self(picture)[0].numpy(), np.float32)

    def _modnet(self, picture: Tensor) -> Tensor:
        """[1, 3, H, W] -> [1, 1, h, w]."""
        shrunk = F.interpolate(picture, size=modnet_size(picture.shape[-2], picture.shape[-1]), mode="area")
        alpha: Tensor = self._network(2 * shrunk - 1)
        return alpha

    def _rvm(self, picture: Tensor) -> Tensor:
        """[1, 3, H, W] -> [1, 1, H, W]; a still picture is a film of one frame, without memory."""
        ratio = min(1.0, _SIDE / max(picture.shape[-2:]))
        alpha: Tensor = self._network(picture, None, None, None, None, ratio)[1]
        return alpha


def modnet_size(height: int, width: int) -> tuple[int, int]:
    """The size MODNet looks at: the shorter side 512 pixels unless 512 lies between the sides; multiples of 32."""
    if max(height, width) < _SIDE or min(height, width) > _SIDE:
        factor = _SIDE / min(height, width)
        height, width = round(height * factor), round(width * factor)
    return max(_MULTIPLE, height // _MULTIPLE * _MULTIPLE), max(_MULTIPLE, width // _MULTIPLE * _MULTIPLE)


def load_matting(path: Path | str) -> MattingNetwork:
    """The matting network of a local file.

    Raises:
        MissingWeightsError: There is no such file.
        CorruptWeightsError: The file is no TorchScript archive, is not safe to run, or is another network.
    """
    source = Path(path)
    network = load_script(source, "portrait matting", _PAGE)
    schema = cast(Any, network.forward).schema
    names = tuple(argument.name for argument in schema.arguments[1:])
    kinds = [kind for kind, inputs in _INPUTS.items() if names[: len(inputs)] == inputs]
    if not kinds or (kinds[0] == "modnet" and len(names) != 1):
        raise CorruptWeightsError(
            f"{source.name} takes ({', '.join(names)}); MODNet takes (img) and Robust Video Matting (src, r1, ...). "
            f"Take one of them from {_PAGE}."
        )
    return MattingNetwork(network, kinds[0])
