"""MediaPipe's selfie segmentation in plain torch: the opacity of the people in a picture, at 256 pixels.

Apache-2.0, Copyright The MediaPipe Authors; see NOTICE. It wants whole pictures rather than crops of heads, and knows
clothes and shoulders; its border is coarse.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
import torch

from headlift.pretrained.graph import GraphNetwork

U8 = npt.NDArray[np.uint8]
F32 = npt.NDArray[np.float32]

SIDE = 256  # pixels of the network's picture


class SelfieSegmentation:
    """The network on its device; safe to call from several threads."""

    def __init__(self, network: GraphNetwork, device: torch.device | str = "cpu") -> None:
        self._network, self._device = network.eval().requires_grad_(False), torch.device(device)
        self._network.to(self._device)

    @torch.no_grad()
    def __call__(self, rgb: U8) -> F32:
        """The opacity [SIDE, SIDE] 0..1 of the people in ``rgb`` [h, w, 3], which it stretches to a square."""
        small = np.ascontiguousarray(cv2.resize(rgb, (SIDE, SIDE), interpolation=cv2.INTER_AREA))
        picture = torch.from_numpy(small).to(self._device).permute(2, 0, 1)[None].float() / 255
        return np.asarray(self._network(picture)[0][0, 0].clamp(0, 1).cpu().numpy(), np.float32)
