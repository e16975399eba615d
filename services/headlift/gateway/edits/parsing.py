"""Who segments portraits: the editing network's HeadNet, or a parser in its place where its owner brought one."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F

from headlift.gateway.edits.stage import EditStage
from headlift.model.types import Portrait
from headlift.stages.edit import Segmentation
from headlift.stages.preprocess.geometry.crop import face_in_frame
from headlift.stages.preprocess.interfaces import Parser

Segment = Callable[[EditStage, Portrait], Segmentation]
_MIN_PERSON_SHARE = 0.3  # share of the person below which a parser is not asked what of the person it is


def by_stage(stage: EditStage, portrait: Portrait) -> Segmentation:
    """By HeadNet."""
    return stage.segment(portrait)


def by_parser(parser: Callable[[], Parser]) -> Segment:
    """By a parser that is loaded when it is first asked; by HeadNet where it sees no person and the matte does.

    FaRL knows only the face's surroundings: shoulders, and the far end of long hair, are HeadNet's.
    """

    def segment(stage: EditStage, portrait: Portrait) -> Segmentation:
        own, side = stage.segment(portrait), portrait.size
        frame = np.hstack([np.eye(2) / side, np.zeros((2, 1))])
        rgb = (portrait.image.clamp(0.0, 1.0) * 255.0 + 0.5).to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
        probabilities = torch.from_numpy(parser().parse(rgb, face_in_frame(frame, score=1.0)))[None]
        shares = F.interpolate(probabilities, own.labels.shape[-2:], mode="area")[0]
        person = shares[1:].sum(0)
        parsed = (own.labels > 0) & (person > _MIN_PERSON_SHARE)  # the matte has the last word on what is background
        confidence, labels = (shares[1:] / person.clamp_min(1e-6)).max(0)
        return Segmentation(
            torch.where(parsed, (labels + 1).to(torch.uint8), own.labels),
            torch.where(parsed, confidence, own.confidence),
            own.camera,
        )

    return segment
