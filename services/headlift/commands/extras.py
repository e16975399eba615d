"""Which extra of headlift brings a Python package that is not installed."""

from __future__ import annotations

from headlift.errors import MissingExtraError

# Modules to extras of pyproject.toml, the smallest first; a test holds the two together.
EXTRAS: dict[str, tuple[str, ...]] = {
    "dino_loss": ("peers",),
    "gsplat": ("cuda",),
    "numba": ("train",),
    "open_clip": ("clip", "train"),
    "opentelemetry.exporter": ("otlp",),
    "opentelemetry.sdk": ("otlp",),
    "pillow_heif": ("heif",),
    "pxr": ("usd",),
    "ray": ("ray", "train"),
    "sam2": ("sam2",),
    "skimage": ("demo", "train"),
    "starlette": ("web", "demo"),
    "tensorboard": ("train",),
    "transformers": ("peers",),
    "uvicorn": ("web", "demo"),
    "websockets": ("web", "demo"),
}


def missing_extra(error: ModuleNotFoundError, *, training: bool) -> MissingExtraError | None:
    """The failed import in words; None where it is a fault of ours.

    Args:
        error: Of an import.
        training: Whether a command of the trainer imported; its extra is then preferred where it brings the package.
    """
    module = error.name or ""
    package = module.partition(".")[0]
    if package in ("", "headlift", "headlift_trainer"):
        return None
    extras = next((found for name, found in EXTRAS.items() if f"{module}.".startswith(f"{name}.")), ())
    if not extras:
        way_out = "It is one of headlift's own dependencies or of theirs: pip install headlift again."
    else:
        extra = "train" if training and "train" in extras else extras[0]
        way_out = f"Install it with: pip install 'headlift[{extra}]'"
    return MissingExtraError(f"This needs the Python package {package}, which is not installed. {way_out}")
