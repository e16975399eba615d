"""Bytes to a portrait: safe decoding, face detection, the portrait crop, matting and a quality report."""

from __future__ import annotations

from headlift.stages.preprocess.build import BuiltPreprocess, build_preprocess
from headlift.stages.preprocess.interfaces import CLASSES, Face, FaceDetector, FaceRefiner, Matter, Parser
from headlift.stages.preprocess.quality import QualityReason, QualityReport
from headlift.stages.preprocess.read.decode import Picture, PictureLimits, decode_picture
from headlift.stages.preprocess.stage import Preprocess, PreprocessOptions, PreprocessResult, SeveralFaces

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
