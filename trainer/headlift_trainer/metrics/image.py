"""How near a picture is to the truth: classic measures in pure torch, learned ones where their weights are at hand.

Every function takes pictures in 0..1 and gives one value a picture. Learned metrics come from local files
(``MetricNetworks.load``); what is absent stays absent and is named, never counted as zero.

Legend: C pictures, H W pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from headlift.errors import InvalidInputError

SSIM_WINDOW, SSIM_SIGMA = 11, 1.5  # Wang et al. 2004, section III-C
_K1, _K2 = 0.01, 0.03
# Whether more is better; what tables draw an arrow for.
HIGHER_IS_BETTER = {
    "psnr": True,
    "ssim": True,
    "lpips": False,
    "dreamsim": False,
    "arcface": False,
    "csim": True,
    "iou": True,
    "sharpness": True,
}
LEARNED = ("lpips", "dreamsim", "arcface", "csim")


def psnr(picture: Tensor, truth: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of [C, 3, H, W] against [C, 3, H, W], dB [C]; 100 for equal pictures."""
    _check(picture, truth)
    return -10 * torch.log10((picture - truth).square().flatten(1).mean(1).clamp_min(1e-10))


def ssim(picture: Tensor, truth: Tensor) -> Tensor:
    """Structural similarity [C] of [C, 3, H, W] (Wang et al. 2004): Gaussian window of 11, sigma 1.5, range 1.

    The mean over channels and over the places where the window lies wholly inside, as scikit-image has it with
    ``gaussian_weights=True, sigma=1.5, use_sample_covariance=False``.

    Raises:
        InvalidInputError: A picture is smaller than the window.
    """
    _check(picture, truth)
    if min(picture.shape[-2:]) < SSIM_WINDOW:
        raise InvalidInputError(
            f"A picture is {picture.shape[-1]}x{picture.shape[-2]}; SSIM needs {SSIM_WINDOW} pixels a side."
        )
    x, y = picture.double(), truth.double()  # variances as differences of squares cancel in float32
    mean_x, mean_y = _blurred(x), _blurred(y)
    var_x, var_y = _blurred(x * x) - mean_x**2, _blurred(y * y) - mean_y**2
    covariance = _blurred(x * y) - mean_x * mean_y
    c1, c2 = _K1**2, _K2**2
    light = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    structure = (2 * covariance + c2) / (var_x + var_y + c2)
    return (light * structure).flatten(1).mean(1).to(picture.dtype)


def mask_iou(alpha: Tensor, truth: Tensor) -> Tensor:
    """Intersection over union [C] of mattes [C, 1, H, W], cut at a half; 1 where both are empty."""
    _check(alpha, truth)
    a, b = (alpha > 0.5).flatten(1), (truth > 0.5).flatten(1)
    union = (a | b).sum(1)
    return torch.where(union > 0, (a & b).sum(1) / union.clamp_min(1), torch.ones_like(union, dtype=torch.float32))


def laplacian_energy(picture: Tensor) -> Tensor:
    """Mean squared Laplacian [C] of the brightness of [C, 3, H, W], inside the picture's border."""
    grey = picture.mean(1)
    inner = grey[:, 1:-1, 1:-1]
    laplacian = grey[:, :-2, 1:-1] + grey[:, 2:, 1:-1] + grey[:, 1:-1, :-2] + grey[:, 1:-1, 2:] - 4 * inner
    return laplacian.square().flatten(1).mean(1)


def sharpness(picture: Tensor, truth: Tensor) -> Tensor:
    """Fine detail of a picture over the truth's [C]: the ratio of Laplacian energies; 1 is as sharp as the truth."""
    _check(picture, truth)
    return laplacian_energy(picture) / laplacian_energy(truth).clamp_min(1e-12)


def _check(picture: Tensor, truth: Tensor) -> None:
    if picture.shape != truth.shape or picture.dim() != 4:
        raise InvalidInputError(
            f"Pictures of shape {tuple(picture.shape)} cannot be held against {tuple(truth.shape)}; "
            "both must be [C, channels, H, W] of one size."
        )


def _blurred(x: Tensor) -> Tensor:
    """Every place's Gaussian mean where the window fits, [C, 3, H - 10, W - 10]."""
    offset = torch.arange(SSIM_WINDOW, dtype=x.dtype, device=x.device) - SSIM_WINDOW // 2
    kernel = torch.exp(-(offset**2) / (2 * SSIM_SIGMA**2))
    kernel = kernel / kernel.sum()
    channels = x.shape[1]
    rows = F.conv2d(x, kernel.view(1, 1, -1, 1).expand(channels, 1, -1, 1), groups=channels)
    return F.conv2d(rows, kernel.view(1, 1, 1, -1).expand(channels, 1, 1, -1), groups=channels)


@dataclass(frozen=True)
class MetricNetworks:
    """The learned metrics that are at hand; None is one whose weights are absent."""

    lpips: nn.Module | None = None  # (pictures, others) -> [C]
    dreamsim: nn.Module | None = None  # (pictures, others) -> [C]
    arcface: nn.Module | None = None  # faces [C, 3, 112, 112] -> unit vectors

    @staticmethod
    def load(lpips: Path | None = None, dreamsim: Path | None = None, arcface: Path | None = None) -> MetricNetworks:
        """From local files; a metric without a path is absent.

        Args:
            lpips: Folder or file that ``headlift_trainer.metrics.lpips`` reads.
            dreamsim: Folder that ``headlift_trainer.metrics.dreamsim`` reads.
            arcface: ``model_ir_se50.pth``.

        Raises:
            MissingWeightsError, CorruptWeightsError: A path was given and does not hold the network.
        """
        # Imported here: most evaluations have none of them, and each costs a second.
        loaded: dict[str, nn.Module] = {}
        if lpips is not None:
            from headlift_trainer.metrics.lpips import load_lpips

            loaded["lpips"] = load_lpips(lpips)
        if dreamsim is not None:
            from headlift_trainer.metrics.dreamsim import load_dreamsim

            loaded["dreamsim"] = load_dreamsim(dreamsim)
        if arcface is not None:
            from headlift_trainer.metrics.arcface import load_arcface

            loaded["arcface"] = load_arcface(arcface)
        return MetricNetworks(**loaded)

    @property
    def absent(self) -> tuple[str, ...]:
        """Names of the metrics that cannot be measured here."""
        names = [field.name for field in fields(self) if getattr(self, field.name) is None]
        return tuple(names + (["csim"] if self.arcface is None else []))

    @torch.no_grad()
    def __call__(self, picture: Tensor, truth: Tensor) -> dict[str, Tensor]:
        """Every learned metric at hand, of [C, 3, H, W] against [C, 3, H, W]: name to [C].

        ``arcface`` is the paper's distance, one minus the cosine of the identities, and ``csim`` that cosine.
        """
        values: dict[str, Tensor] = {}
        for name, network in (("lpips", self.lpips), ("dreamsim", self.dreamsim)):
            if network is not None:
                values[name] = network(picture, truth).flatten()
        if self.arcface is not None:
            from headlift_trainer.metrics.arcface import portrait_faces

            cosine = F.cosine_similarity(self.arcface(portrait_faces(picture)), self.arcface(portrait_faces(truth)))
            values |= {"arcface": 1 - cosine, "csim": cosine}
        return values


IMAGE_METRICS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"psnr": psnr, "ssim": ssim, "sharpness": sharpness}


@torch.no_grad()
def measure(picture: Tensor, truth: Tensor, networks: MetricNetworks | None = None) -> dict[str, Tensor]:
    """All metrics of pictures [C, 3|4, H, W] against truths [C, 3|4, H, W] over black, name to [C].

    A fourth channel is alpha; ``iou`` is measured where both have one.
    """
    rgb, true_rgb = picture[:, :3], truth[:, :3]
    values = {name: metric(rgb, true_rgb) for name, metric in IMAGE_METRICS.items()}
    if picture.shape[1] == truth.shape[1] == 4:
        values["iou"] = mask_iou(picture[:, 3:], truth[:, 3:])
    if networks is not None:
        values |= networks(rgb, true_rgb)
    return values
