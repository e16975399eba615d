"""Where networks are trained: a config names the device, the loop moves batches there."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from typing import Any

import torch


def torch_device(name: str) -> torch.device:
    """The device of a config: "cpu", "cuda", "cuda:1", or "auto" for the GPU where there is one."""
    return torch.device(("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name)


def to_device(batch: Any, device: torch.device) -> Any:
    """A batch with its tensors on a device: one tensor, what has a `to` of its own, or tuples and dataclasses of them.

    What is neither stays as it is.
    """
    if hasattr(batch, "to"):
        return batch.to(device)
    if isinstance(batch, tuple):
        return tuple(to_device(value, device) for value in batch)
    if is_dataclass(batch) and not isinstance(batch, type):
        return replace(batch, **{f.name: to_device(getattr(batch, f.name), device) for f in fields(batch)})
    return batch
