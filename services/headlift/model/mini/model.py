"""`mini`: a fitted morphable head with the paper's decoder on top. Read this file first, from top to bottom.

    encode   observe   HeadNet and the trained branch look at the portrait, once          encoder, headnet
             guess     head code and camera from a thumbnail                               thumbnail
             fit       camera and shape to landmarks, then to the matte; hair and clothes   landmark_fit, outline_fit
    decode   start     the morphable head in that shape                                    morphable
             look up   what the portrait shows of it                                       projection, parsing_groups
             color     of the whole head by what is seen; hidden hair                      morphable, hair
             attend    the paper's cross-attention, with what patches see at their place   guidance, perchead/decoder
             finish    no holes; one-toned portraits give one-toned heads                  finish

Everything but ``attend`` is ours, and trained or fitted on rendered heads; RULES.md says what each rule gains.

Legend: B batch, N Gaussians, n chosen Gaussians, Q patches, K head code numbers, S portrait side.
"""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from headlift.errors import InvalidInputError
from headlift.model.cameras import POSE_DIM, cameras_from_pose, pose_from_cameras
from headlift.model.layers import full_precision
from headlift.model.mini.config import MiniConfig
from headlift.model.mini.encoder import HeadNetFeatures, MiniEncoder
from headlift.model.mini.finish import fill_holes, match_monochrome
from headlift.model.mini.guidance import ProjectedGuidance
from headlift.model.mini.hair import hair_grain, height_and_side, hidden_hair_colors
from headlift.model.mini.landmark_fit import HeadFit, LandmarkShape, fit_landmarks
from headlift.model.mini.mesh_landmarks import MeshLandmarks, fit_with_mesh
from headlift.model.mini.morphable import MorphableHead
from headlift.model.mini.outline_fit import (
    STRIDE,
    SubsampledHead,
    apply_deformation,
    deform_weight,
    fit_deformation,
    fit_outline,
)
from headlift.model.mini.parsing_groups import region_compatibility
from headlift.model.mini.projection import ProjectedImage, recolor_trust
from headlift.model.perchead.decoder import AnchorCopy, TemplateDecoder
from headlift.model.perchead.model import check_portraits, check_template, unbatched
from headlift.model.perchead.sharpener import Sharpener, sharpened
from headlift.model.template import Region, Template
from headlift.model.types import Cameras, Gaussians, ImageTokens, Observation

_LOOKUP_STRIDE = 8  # every how many-th Gaussian is looked up in the picture to correct the colour code
_MAX_AREA = 4.0  # of a looked-up Gaussian, over the mean: the hair's few must not be outvoted by the face's many


class MiniHead(nn.Module):
    """The composed model."""

    def __init__(self, config: MiniConfig, template: Template) -> None:
        """Build with random weights and an empty morphable head.

        Args:
            config: Every number.
            template: Its anchors become part of the model and of its checkpoints.

        Raises:
            InvalidInputError: The template has another number of anchors than the config.
        """
        super().__init__()
        check_template(template, config.decoder, config.name)
        self.config, self.template = config, template
        decoder, token_dim = config.decoder, config.encoder.fusion_dim
        self.encoder = MiniEncoder(config.encoder, config.code_rank)
        self.decoder = TemplateDecoder(decoder, template, token_dim=token_dim)
        hairy = ((template.regions == Region.HAIR) | (template.regions == Region.SCALP)).float()[:, None]
        hair_mean = self.decoder.by_patch(hairy).mean(1)[:, 0]
        self.morphable = MorphableHead(config.geometry_rank, config.color_rank, hair_mean, decoder.num_gaussians)
        self.embed_code = nn.Linear(config.code_rank, decoder.dim)
        self.guidance = ProjectedGuidance(decoder.dim, token_dim, config.encoder.grid, decoder.gaussian_dim)
        self.sharpener = Sharpener(config.sharpener) if config.sharpener is not None else None
        regions = torch.as_tensor(template.regions)
        self.hairy: Tensor  # [N, 1]
        self.is_face: Tensor  # [N] bool
        self.compatibility: Tensor  # [N, 6]
        self.register_buffer("hairy", hairy, persistent=False)
        self.register_buffer("is_face", regions <= Region.EAR, persistent=False)
        self.register_buffer("compatibility", region_compatibility(regions), persistent=False)
        self.mesh: MeshLandmarks | None = None  # whoever loads a face mesh gives it; no part of the checkpoint
        self._register_derived()
        self.register_load_state_dict_post_hook(_follow_anchors)  # type: ignore[no-untyped-call]

    def forward(self, image: Tensor, alpha: Tensor, camera: Cameras | None = None) -> list[Gaussians]:
        """Portraits to heads: ``decode(encode(...))``."""
        return self.decode(self.encode(image, alpha, camera))

    # -- encode -------------------------------------------------------------------------------------------------------

    def encode(
        self,
        image: Tensor,  # [B, 3, S, S] 0..1 sRGB, multiplied by alpha
        alpha: Tensor,  # [B, 1, S, S] 0..1
        camera: Cameras | None = None,
        source_mask: Tensor | None = None,  # [B, 1, S, S], 1 where the portrait shows its photograph
    ) -> ImageTokens:
        """What the portraits say. A given camera (C = B) takes the place of the estimate.

        Past the photograph's borders, where ``source_mask`` is 0, the matte's zeros say nothing of the outline.

        Raises:
            InvalidInputError: The shapes do not belong together.
        """
        check_portraits(image, alpha, camera, source_mask)
        tokens, features = self.observe(image, alpha, camera)
        return self.fit_camera_and_shape(tokens, features, fixed_camera=camera is not None, source_mask=source_mask)

    def observe(
        self, image: Tensor, alpha: Tensor, camera: Cameras | None = None
    ) -> tuple[ImageTokens, HeadNetFeatures]:
        """Tokens with a first guess of camera and head code, and HeadNet's features; arguments as in ``encode``."""
        pixels = torch.cat([image, alpha], 1)
        tokens, features = self.encoder(pixels)
        code, pose = self.encoder.thumbnail_head(pixels, features.summary)
        cells = self.config.deformation_cells
        with full_precision(pose.device):
            camera = cameras_from_pose(pose, image.shape[-1]) if camera is None else camera
        observation = Observation(code, pixels, features.parsing, pose.new_zeros(len(pose), 2, cells, cells))
        return replace(tokens, camera=camera, observation=observation), features

    def fit_camera_and_shape(
        self,
        tokens: ImageTokens,
        features: HeadNetFeatures,
        *,
        fixed_camera: bool,
        source_mask: Tensor | None = None,
        outline_steps: int | None = None,
    ) -> ImageTokens:
        """Tokens whose camera and shape agree with HeadNet's landmarks and the matte; a fixed camera stays.

        An untrained HeadNet has no landmarks: then the guess stays. ``outline_steps`` takes the place of the config's.
        """
        observation, camera = self._observed(tokens)
        if not bool(self.encoder.headnet.landmark_rows.any()):
            return tokens
        steps = self.config.outline_steps if outline_steps is None else outline_steps
        fit = self._fit_landmarks(features, observation, camera, fixed_camera)
        alpha, head = observation.pixels[:, 3:], self._subsampled()
        pose, geometry = fit_outline(alpha, head, fit, steps=steps, source_mask=source_mask, fixed_camera=fixed_camera)
        deformation = fit_deformation(
            alpha, head, self.deform_weight[::STRIDE], pose, geometry,
            cells=self.config.deformation_cells, steps=steps, source_mask=source_mask,
        )  # fmt: skip
        code = torch.cat([geometry, observation.code[:, self.config.geometry_rank :]], -1)
        if not fixed_camera:
            camera = cameras_from_pose(pose, camera.width)
        return replace(tokens, camera=camera, observation=replace(observation, code=code, deformation=deformation))

    def _fit_landmarks(
        self, features: HeadNetFeatures, observation: Observation, camera: Cameras, fixed_camera: bool
    ) -> HeadFit:
        rank, std = self.config.geometry_rank, self.encoder.thumbnail_head.error
        known = (
            features.landmarks, features.spread, self.landmark_shape(), pose_from_cameras(camera),
            observation.code[:, :rank], std[:rank], std[-POSE_DIM:],
        )  # fmt: skip
        errors = self.encoder.landmark_errors
        alone = fit_landmarks(*known, errors=errors, fixed_camera=fixed_camera)
        if self.mesh is None:
            return alone
        shape = self.mesh.statistics.shape(
            self.decoder.anchors + self.morphable.mean_offsets, self.morphable.geometry_basis
        )
        pixels = observation.pixels
        return fit_with_mesh(self.mesh, shape, pixels, alone, *known, errors=errors, fixed_camera=fixed_camera)

    def landmark_shape(self) -> LandmarkShape:
        """HeadNet's landmarks on the mean head, and how they vary."""
        rows, head = self.encoder.headnet.landmark_rows, self.morphable
        return LandmarkShape(self.decoder.anchors[rows] + head.mean_offsets[rows], head.geometry_basis[:, rows])

    def _subsampled(self) -> SubsampledHead:
        """The morphable head on every few anchors, whose discs close the gaps."""
        decoder, rows = self.decoder, slice(None, None, STRIDE)
        return SubsampledHead(
            decoder.anchors[rows] + self.morphable.mean_offsets[rows],
            self.morphable.geometry_basis[:, rows],
            decoder.disc_quats[rows],
            decoder.disc_scales[rows] * STRIDE**0.5,
        )

    # -- decode -------------------------------------------------------------------------------------------------------

    def decode(
        self, tokens: ImageTokens, *, active_layers: int | None = None, patches: Tensor | None = None
    ) -> list[Gaussians]:
        """One finished head per row of ``tokens``; of chosen ``patches``, as they are decoded.

        Options, and what is raised, as in ``decode_batch``.
        """
        heads = unbatched(self.decode_batch(tokens, active_layers=active_layers, patches=patches))
        if patches is not None:
            return heads
        pixels = self._observed(tokens)[0].pixels
        return [self._finished(head, pixels[i : i + 1]) for i, head in enumerate(heads)]

    def decode_batch(
        self, tokens: ImageTokens, *, active_layers: int | None = None, patches: Tensor | None = None
    ) -> Gaussians:
        """Unfinished heads, each field with a leading batch axis; differentiable.

        Args:
            tokens: What ``encode`` gave.
            active_layers: Cross-attention acts in this many first layers only (paper, appendix G); None is all.
            patches: Numbers of the template patches to decode, [q] int64; None is all. Gaussian j of patch
                patches[i] is row 16 i + j of the answer.

        Raises:
            InvalidInputError: The tokens carry no observation or camera, or ``active_layers`` is negative.
        """
        observation, camera = self._observed(tokens)
        decoder, rows = self.decoder, self.decoder.rows_of(patches)
        means = self.start_means(observation, camera)
        image = ProjectedImage(observation.pixels, camera, means, observation.parsing)
        code, colors = self._matched_colors(observation, image, means)
        queries = self._queries(tokens, image, code, means, patches)
        latents = decoder.attend(queries, tokens, active_layers=active_layers)
        means, colors = means[:, rows], colors[:, rows]
        head = decoder.activate(latents, means, colors, rows)
        logits = decoder.color_logits(latents, colors)
        normals, compatibility = decoder.normals[rows], self.compatibility[rows]
        seen_colors = self.guidance.colors(latents, image, head.means, normals, colors, logits, compatibility)
        return replace(head, colors=seen_colors)

    def start_means(self, observation: Observation, camera: Cameras) -> Tensor:
        """Where head code and deformation put the Gaussians, [B, N, 3] m."""
        with full_precision(self.device):
            means = self.decoder.anchors + self.morphable.offsets(observation.code.float())
            shifts, viewmats = observation.deformation.float(), camera.viewmats.float()
            return apply_deformation(means, shifts, self.deform_weight, viewmats)

    def start_colors(self, observation: Observation) -> Tensor:
        """The colours of the head code alone, [B, N, 3] in 0..1."""
        with full_precision(self.device):
            return self.morphable.colors(observation.code.float())

    def _matched_colors(self, observation: Observation, image: ProjectedImage, means: Tensor) -> tuple[Tensor, Tensor]:
        """The head code [B, K] moved so that it explains the colours that the picture shows; all colours [B, N, 3]."""
        decoder, config = self.decoder, self.config
        rows = torch.arange(0, means.shape[1], _LOOKUP_STRIDE, device=means.device)
        with full_precision(means.device):
            sample = image.sample(means[:, rows], decoder.normals[rows], self.compatibility[rows])
            # By area: anchors are dense on the face, and the hair's few must not be outvoted about the hair.
            area = (decoder.spacing[rows] / decoder.spacing.mean()).square().clamp(max=_MAX_AREA)[:, None]
            residual = sample.color - self.start_colors(observation)[:, rows]
            change = self.morphable.color_correction(rows, residual, sample.weight * area, config.color_ridge)
            code = observation.code.float() + F.pad(change, (config.geometry_rank, 0))
            cover = self.morphable.hair_cover(code).repeat_interleave(decoder.config.gaussians_per_patch, -1)
            colors = hidden_hair_colors(
                self.morphable.colors(code), image, sample, rows, area, self.hairy, cover[..., None], self.hair_grain,
                height_and_side(decoder.anchors), config.hair_grain,
            )  # fmt: skip
            return code, colors.clamp(0, 1)

    def _queries(
        self, tokens: ImageTokens, image: ProjectedImage, code: Tensor, means: Tensor, patches: Tensor | None
    ) -> Tensor:
        """The first 3D representation F0 of the chosen patches, [B, q, D]: place, head code, and what is seen there."""
        decoder, chosen = self.decoder, slice(None) if patches is None else patches
        means = means[:, decoder.rows_of(patches)]
        queries = decoder.queries(patches).expand(len(tokens.tokens), -1, -1) + self.embed_code(code)[:, None]
        centers = decoder.by_patch(means).mean(-2)
        compatibility = decoder.by_patch(self.compatibility).mean(1)[chosen]
        seen = self.guidance.query_offsets(tokens, image, centers, self.patch_normals[chosen], compatibility)
        out: Tensor = queries + seen
        return out

    def _finished(self, head: Gaussians, pixels: Tensor) -> Gaussians:
        """One head without holes, in the tone of its portrait [1, 4, S, S]."""
        neighbors = self.template.neighbors.to(self.device)
        head = fill_holes(head, neighbors, self.decoder.normals, self.is_face, self.config.min_disc_overlap)
        return replace(head, colors=match_monochrome(head.colors, pixels))

    # -- around it ----------------------------------------------------------------------------------------------------

    def recolor_trust(self, tokens: ImageTokens, head: Gaussians) -> Tensor | None:
        """How far the portrait may recolour each Gaussian in refinement, [N] in 0..1."""
        observation, camera = self._observed(tokens)
        return recolor_trust(observation.parsing, camera, head.means, self.decoder.normals, self.compatibility)

    def sharpen(self, rgb: Tensor) -> Tensor:
        """Rendered pictures [C, 3, H, W], sharpened and within 0..1; as they are where the model has no sharpener.

        Training uses ``model.sharpener`` itself, which does not clamp.
        """
        return sharpened(self.sharpener, rgb)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.decoder.anchors.device

    @staticmethod
    def _observed(tokens: ImageTokens) -> tuple[Observation, Cameras]:
        """What the decoder needs beside tokens."""
        if tokens.observation is None or tokens.camera is None:
            raise InvalidInputError("This model looks into the portrait: its tokens must carry observation and camera.")
        return tokens.observation, tokens.camera

    def _register_derived(self) -> None:
        """Everything that follows from the anchors; called again when other anchors are loaded."""
        decoder = self.decoder
        self._derived_from = AnchorCopy(decoder)
        regions = torch.as_tensor(self.template.regions).to(decoder.anchors.device)
        derived = {
            "patch_normals": F.normalize(decoder.by_patch(decoder.normals).mean(1), dim=-1),
            "deform_weight": deform_weight(decoder.anchors, regions),
            "hair_grain": hair_grain(decoder.anchors, self.hairy),
        }
        self.patch_normals: Tensor  # [Q, 3]
        self.deform_weight: Tensor  # [N]
        self.hair_grain: Tensor  # [N, 1]
        for name, value in derived.items():
            self.register_buffer(name, value, persistent=False)


def _follow_anchors(module: MiniHead, _: object) -> None:
    """Hook: a state was loaded, perhaps with other anchors."""
    if not module._derived_from.is_of(module.decoder):
        module._register_derived()
