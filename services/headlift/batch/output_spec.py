"""What a batch makes of every portrait, and the file that binds an output place to one batch."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from headlift.batch.places import Place
from headlift.errors import ConflictError, InvalidInputError, NotFoundError
from headlift.limits import REFINE_STEPS_MAX
from headlift.media.pictures import PictureFormat, RenderOptions

EXPORTS = ("ply", "ply_compact", "ply_compressed", "splat", "spz_v3", "spz_v4", "sog", "glb", "usdz", "html", "wire")
SUFFIXES = {
    "ply_compact": "compact.ply",
    "ply_compressed": "compressed.ply",
    "spz_v3": "spz",
    "spz_v4": "spz4",
    "jpeg": "jpg",
}
_BINDING = "job.json"
_FRAMES_MAX, _VIEWS_MAX, _ATTEMPTS_MAX = 3600, 64, 100


@dataclass(frozen=True)
class OutputSpec:
    """What is made of every portrait; checked on construction.

    Attributes:
        exports: Kinds of files, of ``EXPORTS``; ``wire`` is what the store and the API hold.
        views: Yaw and pitch of a picture each, degrees.
        view_format: jpeg, png or webp.
        size: Side of views and turntables, pixels.
        turntable_frames: Frames of a film around the head; 0: no film.
        turntable_fps: Frames a second.
        refine_steps: Of every head whose item says nothing else.
        refuse_several: Refuse pictures of several people instead of taking the largest face.
        attempts: Workers that may die over a picture before it is given up.

    Raises:
        InvalidInputError: A value is out of range.
    """

    exports: tuple[str, ...] = ("spz_v3",)
    views: tuple[tuple[float, float], ...] = ((0.0, 0.0),)
    view_format: PictureFormat = "jpeg"
    size: int = 512
    turntable_frames: int = 0
    turntable_fps: int = 30
    refine_steps: int = 0
    refuse_several: bool = False
    attempts: int = 3

    def __post_init__(self) -> None:
        for kind in self.exports:
            if kind not in EXPORTS:
                raise InvalidInputError(f"There is no export {kind!r}; choose of {', '.join(EXPORTS)}.", field="export")
        if self.view_format not in ("jpeg", "png", "webp"):
            raise InvalidInputError(f"Views are no {self.view_format!r}; choose of jpeg, png, webp.", field="views")
        limits = (
            ("views", len(self.views), 0, _VIEWS_MAX),
            ("turntable_frames", self.turntable_frames, 0, _FRAMES_MAX),
            ("turntable_fps", self.turntable_fps, 1, 240),
            ("refine_steps", self.refine_steps, 0, REFINE_STEPS_MAX),
            ("attempts", self.attempts, 1, _ATTEMPTS_MAX),
        )
        for name, value, low, high in limits:
            if not low <= value <= high:
                raise InvalidInputError(f"{name} is {value}; it must lie in {low}..{high}.", field=name)
        RenderOptions(self.size, self.size)
        if self.turntable_frames and self.size % 2:
            raise InvalidInputError(
                f"A film of {self.size} px cannot be made, the side must be even; "
                f"take {self.size - 1} or {self.size + 1}.",
                field="size",
            )

    @property
    def render_options(self) -> RenderOptions:
        """How views are packed."""
        return RenderOptions(self.size, self.size, self.view_format)


def bind_output(out: Place, manifest: str, spec: OutputSpec, weights_hash: str) -> None:
    """Bind ``out`` to this batch, or check that it is bound to it already.

    Raises:
        ConflictError: It holds the results of another batch.
    """
    # The manifest may grow between two runs, and attempts may be raised; all else would mix heads of two kinds.
    own = asdict(spec) | {"manifest": manifest, "weights_hash": weights_hash}
    data = json.dumps(own, indent=1)
    try:
        stored = json.loads(out.read(_BINDING))
    except NotFoundError:
        out.write(_BINDING, data.encode())
        return
    differing = sorted(k for k in own if k != "attempts" and json.loads(data)[k] != stored.get(k))
    if differing:
        raise ConflictError(
            f"The results there are of another batch: {', '.join(differing)} differ; choose another --out, or the "
            "options of the first run.",
            reason="OTHER_BATCH",
            field="out",
        )
