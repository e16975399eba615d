"""PercHead: one portrait becomes 65,536 Gaussians. Read this file first.

    portrait --ImageEncoder--> ImageTokens --TemplateDecoder--> Gaussians --splat.rasterize--> views --Sharpener-->

    encoder.py    what the picture says: a small trained ViT beside a frozen backbone, foreground patches only
    decoder.py    what the head is: template patches cross-attend to those tokens, 16 Gaussians each
    headnet.py    ours: the frozen branch of `mini`; landmarks, parsing.  landmark_fit.py  camera and shape from them;
                  silhouette_fit.py, outline_warp.py  and from the matte;  hair_grain.py  strands where nothing is seen
    guidance.py   ours: patches look themselves up in the picture, with the estimated camera
    sharpener.py  the rendered views, sharper
    template.py   the anchors;  splat/ the rasteriser;  config.py every number

Source: PercHead, section 3.1. Deviations from the paper are config fields whose defaults in ``base`` are the paper's.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from headlift.errors import InvalidInputError
from headlift.model.cameras import POSE_DIM, cameras_from_pose, pose_from_cameras
from headlift.model.closing import closed
from headlift.model.config import PercHeadConfig
from headlift.model.decoder import TemplateDecoder
from headlift.model.encoder import Backbone, ImageEncoder, Sight
from headlift.model.landmark_fit import LandmarkShape, fit_landmarks
from headlift.model.outline_warp import fit_warp
from headlift.model.sharpener import Sharpener
from headlift.model.silhouette_fit import THINNING, ThinnedHead, fit_silhouette
from headlift.model.template import Region, Template
from headlift.model.types import Cameras, Gaussians, ImageTokens


class PercHead(nn.Module):
    """The composed model."""

    def __init__(self, config: PercHeadConfig, template: Template, backbone: Backbone | None = None) -> None:
        """Build with random weights.

        Args:
            config: Every number.
            template: Its anchors become part of the model and of its checkpoints.
            backbone: The frozen network that ``config.encoder.backbone`` names. It stays on its own device and out of
                ``state_dict``; without it such a model can decode but not encode.

        Raises:
            InvalidInputError: The template has another number of anchors than the config.
        """
        super().__init__()
        if len(template.anchors) != config.decoder.num_gaussians:
            raise InvalidInputError(
                f"The template {template.name!r} has {len(template.anchors)} anchors; the model {config.name!r} needs "
                f"{config.decoder.num_patches} patches of {config.decoder.gaussians_per_patch}."
            )
        self.config = config
        self.template = template
        self.encoder = ImageEncoder(config.encoder, code_rank=config.decoder.code_rank, backbone=backbone)
        self.decoder = TemplateDecoder(
            config.decoder,
            template,
            token_dim=config.encoder.fusion_dim,
            token_side=config.encoder.grid,
            parses=config.encoder.headnet is not None,
        )
        self.sharpener = Sharpener(config.sharpener) if config.sharpener is not None else None

    def forward(self, image: Tensor, alpha: Tensor, camera: Cameras | None = None) -> list[Gaussians]:
        """Portraits to heads: ``decode(encode(...))``."""
        return self.decode(self.encode(image, alpha, camera))

    def encode(
        self,
        image: Tensor,  # [B, 3, S, S] 0..1 sRGB, multiplied by alpha
        alpha: Tensor,  # [B, 1, S, S] 0..1
        camera: Cameras | None = None,
        known: Tensor | None = None,  # [B, 1, S, S], 1 where the portrait shows its photograph (`Portrait.known`)
    ) -> ImageTokens:
        """What the portraits say. A given camera (C = B) takes the place of the estimate.

        Where it is not ``known`` whether there is anything, the matte's zeros say nothing of the outline.

        Raises:
            InvalidInputError: The shapes do not belong together.
            MissingWeightsError: The model needs a frozen backbone and has none.
        """
        batch, _, height, width = image.shape
        if image.shape[1] != 3 or alpha.shape != (batch, 1, height, width) or height != width or not batch:
            raise InvalidInputError(
                f"image {tuple(image.shape)} and alpha {tuple(alpha.shape)} must be [B,3,S,S] and [B,1,S,S], B >= 1."
            )
        if known is not None and known.shape != alpha.shape:
            raise InvalidInputError(
                f"known {tuple(known.shape)} must be {tuple(alpha.shape)}, like alpha.", field="known"
            )
        if camera is not None and len(camera) != batch:
            raise InvalidInputError(
                f"{len(camera)} cameras for {batch} portraits; give one each, or none.", field="camera"
            )
        tokens, sight = self.encoder.look(image, alpha, camera)
        return tokens if sight is None else self.locate(tokens, sight, given=camera is not None, known=known)

    def locate(
        self,
        tokens: ImageTokens,
        sight: Sight,
        *,
        given: bool,
        known: Tensor | None = None,
        silhouette_steps: int | None = None,
    ) -> ImageTokens:
        """Tokens whose camera and shape agree with HeadNet's landmarks and the matte; a ``given`` camera stays.

        ``known`` is as in ``encode``; ``silhouette_steps``, of the code and then of the shifts, takes the place of the
        config's.
        """
        steps = self.config.decoder.silhouette_steps if silhouette_steps is None else silhouette_steps
        head_code, first = self.decoder.head_code, self.encoder.thumbnail_head
        assert self.encoder.headnet is not None
        if head_code is None or first is None or first.error is None:
            return tokens
        if tokens.code is None or tokens.pose is None or tokens.camera is None:
            return tokens
        rows = self.encoder.headnet.landmark_rows
        if not bool(rows.any()):  # untrained: it has no landmarks yet
            return tokens
        rank = head_code.geometry_rank
        shape = LandmarkShape(
            self.decoder.anchors[rows] + head_code.mean_offsets[rows], head_code.geometry_basis[:, rows]
        )
        start = pose_from_cameras(tokens.camera)
        fit = fit_landmarks(
            sight.landmarks, sight.spread, shape, start, tokens.code[:, :rank], first.error[:rank],
            first.error[-POSE_DIM:], errors=self.encoder.landmark_errors, fixed_camera=given,
        )  # fmt: skip
        pose, geometry, warp = fit.pose, fit.code, None
        if steps and tokens.pixels is not None:
            alpha, thin, cells = tokens.pixels[:, 3:], self._thinned(), self.config.decoder.warp_cells
            pose, geometry = fit_silhouette(alpha, thin, fit, steps=steps, known=known, fixed_camera=given)
            free = self.decoder.free
            if free is not None:
                warp = fit_warp(alpha, thin, free[::THINNING], pose, geometry, cells=cells, steps=steps, known=known)
        code = torch.cat([geometry, tokens.code[:, rank:]], -1)
        if given or not self.config.encoder.estimates_camera:
            return replace(tokens, code=code, warp=warp)
        return replace(tokens, code=code, warp=warp, pose=pose, camera=cameras_from_pose(pose, tokens.camera.width))

    def _thinned(self) -> ThinnedHead:
        """The decoder's head code on every fourth anchor."""
        decoder, rows = self.decoder, slice(None, None, THINNING)
        assert decoder.head_code is not None
        return ThinnedHead(
            decoder.anchors[rows] + decoder.head_code.mean_offsets[rows],
            decoder.head_code.geometry_basis[:, rows],
            decoder.disc_quats[rows],
            decoder.disc_scales[rows] * THINNING**0.5,
        )

    def decode(
        self,
        tokens: ImageTokens,
        *,
        active_layers: int | None = None,
        patches: Tensor | None = None,
    ) -> list[Gaussians]:
        """One head per row of ``tokens``, without holes where the config says so.

        ``active_layers`` switches cross-attention off past that layer; ``patches`` decodes only those template patches.
        Both, and what is raised, are described at ``TemplateDecoder.forward``, which gives the batched tensors.
        """
        heads = self.decoder(tokens, active_layers=active_layers, patches=patches)
        fields = (heads.means, heads.quats, heads.scales, heads.opacities, heads.colors)
        found = [Gaussians(*row) for row in zip(*(field.unbind(0) for field in fields), strict=True)]
        if patches is not None or not self.config.decoder.closed:
            return found
        neighbors, face = self.template.neighbors.to(self.device), self.decoder.regions <= Region.EAR
        return [closed(head, neighbors, self.decoder.normals, face, self.config.decoder.closed) for head in found]

    def sharpen(self, rgb: Tensor) -> Tensor:
        """Rendered pictures [C, 3, H, W], sharpened and within 0..1; as they are where the model has no sharpener.

        Training uses ``model.sharpener`` itself, which does not clamp.
        """
        if self.sharpener is None:
            return rgb
        sharp: Tensor = self.sharpener(rgb)
        return sharp.clamp(0, 1)

    def set_head_code(
        self,
        mean_offsets: Tensor,  # [N, 3] m, from the anchors
        geometry_basis: Tensor,  # [Kg, N, 3] m
        mean_colors: Tensor,  # [N, 3] 0..1
        color_basis: Tensor,  # [Kc, N, 3]
    ) -> None:
        """Fill the low-rank head code; rows scaled so that training heads have codes of unit variance.

        Raises:
            InvalidInputError: The model has no code, or a shape is wrong.
        """
        if self.decoder.head_code is None:
            raise InvalidInputError(
                f"The model {self.config.name!r} has no head code (geometry_rank, color_rank are 0)."
            )
        self.decoder.head_code.fill(mean_offsets, geometry_basis, mean_colors, color_basis)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.decoder.anchors.device
