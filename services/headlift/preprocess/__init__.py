"""Bytes to a portrait: safe decoding, face detection, the portrait crop, matting and a quality report."""

from __future__ import annotations

from headlift.preprocess.decode import Picture, PictureLimits, decode_picture
from headlift.preprocess.interfaces import CameraEstimator, Face, FaceDetector, Matter
from headlift.preprocess.quality import QualityReason, QualityReport
from headlift.preprocess.stage import Preprocess, PreprocessOptions, PreprocessResult, SeveralFaces

__all__ = [
    "CameraEstimator",
    "Face",
    "FaceDetector",
    "Matter",
    "Picture",
    "PictureLimits",
    "Preprocess",
    "PreprocessOptions",
    "PreprocessResult",
    "QualityReason",
    "QualityReport",
    "SeveralFaces",
    "decode_picture",
]
