"""PercHead: one portrait becomes 65,536 Gaussians (section 3.1). Read this file first.

portrait --ImageEncoder--> ImageTokens --TemplateDecoder--> Gaussians --splat.rasterize--> views --Sharpener-->

encoder.py    what the picture says: a small trained ViT beside a frozen backbone, foreground patches only
decoder.py    what the head is: template patches cross-attend to those tokens, 16 Gaussians each
sharpener.py  the rendered views, sharper
config.py     every number
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from headlift.errors import InvalidInputError
from headlift.model.perchead.config import DecoderConfig, PercHeadConfig
from headlift.model.perchead.decoder import TemplateDecoder
from headlift.model.perchead.encoder import Backbone, ImageEncoder
from headlift.model.perchead.sharpener import Sharpener, sharpened
from headlift.model.template import Template
from headlift.model.types import Cameras, Gaussians, ImageTokens


class PercHead(nn.Module):
    """The composed model."""

    def __init__(self, config: PercHeadConfig, template: Template, backbone: Backbone | None = None) -> None:
        """Build with random weights.

        Args:
            config: Every number.
            template: Its anchors become part of the model and of its checkpoints.
            backbone: The frozen network that ``config.encoder.backbone`` names. It stays on its own device and out of
                ``state_dict``; without it the model can decode but not encode.

        Raises:
            InvalidInputError: The template has another number of anchors than the config.
        """
        super().__init__()
        check_template(template, config.decoder, config.name)
        self.config = config
        self.template = template
        self.encoder = ImageEncoder(config.encoder, backbone)
        self.decoder = TemplateDecoder(config.decoder, template, token_dim=config.encoder.fusion_dim)
        self.sharpener = Sharpener(config.sharpener) if config.sharpener is not None else None

    def forward(self, image: Tensor, alpha: Tensor) -> list[Gaussians]:
        """Portraits to heads: ``decode(encode(...))``."""
        return self.decode(self.encode(image, alpha))

    def encode(
        self,
        image: Tensor,  # [B, 3, S, S] 0..1 sRGB, multiplied by alpha
        alpha: Tensor,  # [B, 1, S, S] 0..1
        camera: Cameras | None = None,
        source_mask: Tensor | None = None,
    ) -> ImageTokens:
        """What the portraits say. A camera (C = B) is passed on; the paper has no use for it, nor for ``source_mask``.

        Raises:
            InvalidInputError: The shapes do not belong together.
            MissingWeightsError: The model has no backbone.
        """
        check_portraits(image, alpha, camera)
        tokens: ImageTokens = self.encoder(image, alpha)
        return replace(tokens, camera=camera)

    def decode_batch(
        self, tokens: ImageTokens, *, active_layers: int | None = None, patches: Tensor | None = None
    ) -> Gaussians:
        """As ``TemplateDecoder.forward``: fields with a leading batch axis, differentiable."""
        heads: Gaussians = self.decoder(tokens, active_layers=active_layers, patches=patches)
        return heads

    def decode(
        self, tokens: ImageTokens, *, active_layers: int | None = None, patches: Tensor | None = None
    ) -> list[Gaussians]:
        """One head per row of ``tokens``; options as in ``TemplateDecoder.forward``."""
        return unbatched(self.decode_batch(tokens, active_layers=active_layers, patches=patches))

    def recolor_trust(self, tokens: ImageTokens, head: Gaussians) -> Tensor | None:
        """How far the portrait may recolour each Gaussian in refinement; None is everywhere."""
        return None

    def sharpen(self, rgb: Tensor) -> Tensor:
        """Rendered pictures [C, 3, H, W], sharpened and within 0..1; as they are where the model has no sharpener.

        Training uses ``model.sharpener`` itself, which does not clamp.
        """
        return sharpened(self.sharpener, rgb)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.decoder.anchors.device


def check_template(template: Template, config: DecoderConfig, name: str) -> None:
    """Raise InvalidInputError unless a template has as many anchors as the model ``name`` has Gaussians."""
    if len(template.anchors) != config.num_gaussians:
        raise InvalidInputError(
            f"The template {template.name!r} has {len(template.anchors)} anchors; the model {name!r} needs "
            f"{config.num_patches} patches of {config.gaussians_per_patch}."
        )


def check_portraits(image: Tensor, alpha: Tensor, camera: Cameras | None, source_mask: Tensor | None = None) -> None:
    """Raise InvalidInputError unless these are [B, 3, S, S], [B, 1, S, S], B cameras and [B, 1, S, S]."""
    batch, _, height, width = image.shape
    if image.shape[1] != 3 or alpha.shape != (batch, 1, height, width) or height != width or not batch:
        raise InvalidInputError(
            f"image {tuple(image.shape)} and alpha {tuple(alpha.shape)} must be [B,3,S,S] and [B,1,S,S], B >= 1."
        )
    if source_mask is not None and source_mask.shape != alpha.shape:
        raise InvalidInputError(
            f"source_mask {tuple(source_mask.shape)} must be {tuple(alpha.shape)}, like alpha.", field="source_mask"
        )
    if camera is not None and len(camera) != batch:
        raise InvalidInputError(f"{len(camera)} cameras for {batch} portraits; give one each, or none.", field="camera")


def unbatched(heads: Gaussians) -> list[Gaussians]:
    """Fields with a leading batch axis -> one cloud each."""
    fields = (heads.means, heads.quats, heads.scales, heads.opacities, heads.colors)
    return [Gaussians(*row) for row in zip(*(field.unbind(0) for field in fields), strict=True)]
