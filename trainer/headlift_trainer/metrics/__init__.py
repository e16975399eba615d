"""How near an image is to the truth: classic metrics, and learned ones from weights files on disk."""

from headlift_trainer.metrics.image import (
    HIGHER_IS_BETTER,
    IMAGE_METRICS,
    LEARNED,
    SSIM_SIGMA,
    SSIM_WINDOW,
    MetricNetworks,
    laplacian_energy,
    mask_iou,
    measure,
    psnr,
    sharpness,
    ssim,
)

__all__ = [
    "HIGHER_IS_BETTER",
    "IMAGE_METRICS",
    "LEARNED",
    "SSIM_SIGMA",
    "SSIM_WINDOW",
    "MetricNetworks",
    "laplacian_energy",
    "mask_iou",
    "measure",
    "psnr",
    "sharpness",
    "ssim",
]
