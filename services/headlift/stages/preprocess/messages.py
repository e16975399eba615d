"""What preprocessing saw, in the contract's words."""

from __future__ import annotations

from headlift.stages.preprocess.interfaces import Face
from headlift.stages.preprocess.stage import PreprocessResult
from headlift.v1 import head_pb2


def quality_message(result: PreprocessResult) -> head_pb2.Quality:
    """The record of a portrait's quality."""
    report, portrait = result.quality, result.portrait
    # The report names the chosen face by its box alone; its turn is with the faces.
    chosen = min(result.faces, key=lambda f: sum(abs(a - b) for a, b in zip(f.box, report.face_box, strict=True)))
    return head_pb2.Quality(
        score=report.score,
        reasons=[str(r) for r in report.reasons],
        notes=report.notes,
        face=_face_box(chosen),
        faces=[_face_box(f) for f in result.faces],
        sharpness=report.sharpness,
        exposure=report.exposure,
        matte_confidence=report.matte_confidence,
        cut_off_sides=report.cut_off,
        crop_from_source=portrait.crop_from_source.flatten().tolist(),
        crop_size_px=portrait.size,
    )


def _face_box(face: Face) -> head_pb2.FaceBox:
    x0, y0, x1, y1 = face.box
    return head_pb2.FaceBox(
        x_px=x0, y_px=y0, width_px=x1 - x0, height_px=y1 - y0, score=face.score, roll_deg=face.roll_deg
    )
