"""Bytes to a portrait: safe decoding, face detection, the portrait crop, matting and a quality report."""

from __future__ import annotations

from headlift.preprocess.building import BuiltPreprocess, build_preprocess
from headlift.preprocess.decode import Picture, PictureLimits, decode_picture
from headlift.preprocess.interfaces import CLASSES, Face, FaceDetector, FaceRefiner, Matter, Parser
from headlift.preprocess.quality import QualityReason, QualityReport
from headlift.preprocess.stage import Preprocess, PreprocessOptions, PreprocessResult, SeveralFaces

__all__ = [
    "CLASSES",
    "BuiltPreprocess",
    "Face",
    "FaceDetector",
    "FaceRefiner",
    "Matter",
    "Parser",
    "Picture",
    "PictureLimits",
    "Preprocess",
    "PreprocessOptions",
    "PreprocessResult",
    "QualityReason",
    "QualityReport",
    "SeveralFaces",
    "build_preprocess",
    "decode_picture",
]
