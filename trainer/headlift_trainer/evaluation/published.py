"""What the paper (PercHead) reports, to stand beside what is measured here; tables numbered as there.

Its metrics are on real subjects with its own weights; they are a reference, not a target that ours were run against.
"""

from __future__ import annotations

from headlift_trainer.evaluation.tables import Column, Row, Table

_NOVEL_AND_EXTREME = tuple(
    Column(metric, group)
    for group in ("Novel views", "Extreme views")
    for metric in ("psnr", "ssim", "lpips", "dreamsim", "arcface")
)


def _rows(text: str) -> tuple[Row, ...]:
    """One row a line: a label, a bar, numbers."""
    rows = []
    for line in text.strip().splitlines():
        label, numbers = line.split("|")
        rows.append(Row(label.strip(), tuple(float(number) for number in numbers.split()), published=True))
    return tuple(rows)


AVA256 = Table(
    "Table 1: Ava-256",
    _NOVEL_AND_EXTREME,
    _rows("""
    LGM        | 10.5 0.591 0.527 0.185 0.722   9.9 0.586 0.565 0.262 0.737
    PanoHead   | 14.8 0.687 0.314 0.106 0.358  14.2 0.658 0.349 0.131 0.416
    SphereHead | 14.7 0.693 0.317 0.110 0.379  14.3 0.661 0.362 0.149 0.454
    GAGAvatar  | 15.9 0.743 0.274 0.114 0.348  13.5 0.694 0.364 0.183 0.523
    LAM        | 13.8 0.695 0.353 0.143 0.406  11.4 0.634 0.455 0.219 0.568
    PercHead   | 16.4 0.691 0.269 0.092 0.292  15.9 0.678 0.291 0.106 0.282
    """),
)

ABLATION = Table(
    "Table 2: what the data, the loss and the sharpener do, Ava-256, extreme views",
    tuple(Column(metric) for metric in ("psnr", "lpips", "dreamsim", "arcface")),
    _rows("""
    Data: 2D alone                       |  6.5 0.643 0.436 0.752
    Data: multi-view alone               | 15.6 0.299 0.111 0.308
    Data: both                           | 15.9 0.291 0.106 0.282
    Loss: LPIPS + L1                     | 15.9 0.285 0.115 0.300
    Loss: DINOv2                         | 15.4 0.383 0.149 0.340
    Loss: SAM 2.1                        | 15.9 0.309 0.107 0.311
    Loss: DINOv2 + SAM 2.1               | 15.9 0.291 0.106 0.282
    Sharpener: without                   | 15.9 0.301 0.116 0.282
    Sharpener: with                      | 15.9 0.291 0.106 0.282
    """),
    first="Variant",
)

NERSEMBLE = Table(
    "Table 3: NeRSemble",
    _NOVEL_AND_EXTREME,
    _rows("""
    LGM        | 11.4 0.662 0.500 0.189 0.701   9.9 0.641 0.563 0.243 0.758
    PanoHead   | 15.4 0.750 0.261 0.106 0.338  14.4 0.716 0.310 0.119 0.373
    SphereHead | 15.3 0.758 0.260 0.106 0.336  14.3 0.720 0.321 0.135 0.433
    GAGAvatar  | 16.9 0.798 0.217 0.107 0.288  14.6 0.750 0.317 0.162 0.476
    LAM        | 14.5 0.758 0.303 0.134 0.353  11.6 0.682 0.433 0.204 0.551
    PercHead   | 18.4 0.764 0.190 0.071 0.256  17.7 0.741 0.221 0.081 0.257
    """),
)

FACELIFT = Table(
    "Table 4: against FaceLift, Ava-256",
    _NOVEL_AND_EXTREME,
    _rows("""
    FaceLift | 12.5 0.645 0.436 0.129 0.547  11.0 0.627 0.482 0.181 0.556
    PercHead | 16.4 0.691 0.269 0.092 0.292  15.9 0.678 0.291 0.106 0.282
    """),
)

# The paper heads the first column of this table "SSIM"; its values are PSNR (compare Table 1), and are kept as such.
COST_QUALITY = Table(
    "Table 5: lighter models, Ava-256, extreme views",
    tuple(Column(metric) for metric in ("psnr", "lpips", "dreamsim", "arcface")),
    _rows("""
    Light-S (4 layers, no sharpener, DINOv2-S)  | 15.4 0.313 0.120 0.316
    Light (4 layers, no sharpener, DINOv2-G)    | 16.1 0.298 0.110 0.285
    PercHead (10 layers, sharpener, DINOv2-G)   | 15.9 0.291 0.106 0.282
    """),
    first="Model",
)

COST_TIME = Table(
    "Table 5, continued: seconds a picture",
    tuple(Column("seconds", "", title) for title in ("DINOv2", "Forward", "Splatting", "Sharpener")),
    (
        Row("Light-S", (0.01, 0.03, 0.03, None), published=True),
        Row("Light", (0.02, 0.03, 0.03, None), published=True),
        Row("PercHead", (0.02, 0.07, 0.03, 0.04), published=True),
    ),
    first="Model",
)

ALL = (AVA256, ABLATION, NERSEMBLE, FACELIFT, COST_QUALITY, COST_TIME)
