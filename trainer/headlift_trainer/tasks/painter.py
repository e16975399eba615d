"""Training of editing encoders that paint: the portrait of a map and a style, against the true one.

The reconstruction model is not touched: it gets a portrait, as ever. A style embedding is the picture's own (the paper
gives the same picture to CLIP and to the segmenter), another picture's of the same head, or words about it.

Legend: B batch, M heads, V views, S picture side, D style.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from headlift.model.edit.model import EditEncoder, one_hot
from headlift.model.edit.style import StyleModel
from headlift.model.mini.headnet import HeadNet
from headlift_trainer.device import to_device
from headlift_trainer.editing.data import EditHeads
from headlift_trainer.editing.words import description
from headlift_trainer.metrics import psnr

PaintBatch = tuple[Tensor, Tensor, Tensor]
OWN, OTHER = 0.5, 0.2  # shares of style embeddings from the picture itself and from another side; the rest are words
_EDGES, _FEATURES = 1.0, 0.5
_SWAPPED = ((4, 5), (6, 7), (8, 9))  # left and right ear, brow, eye
_HELD_OUT, _SHOWN = 24, 6


class PainterTask:
    """See `headlift_trainer.tasks.interface.Task`.

    Args:
        encoder: Has a painter; its neutral style is set here.
        style: Trained and frozen.
        net: Frozen; its first layers say what two pictures differ in.
        heads: Training heads. held_out: Others, for the figures.
        batch_size: B.
    """

    name = "edit"

    def __init__(
        self, encoder: EditEncoder, style: StyleModel, net: HeadNet, heads: EditHeads, held_out: EditHeads,
        batch_size: int = 12,
    ) -> None:  # fmt: skip
        self._encoder, self._style, self._net = encoder, style.eval(), net
        self._heads, self._batch = heads, batch_size
        with torch.no_grad():
            self._styles = style.embed_features(heads.features.flatten(0, 1)).reshape(*heads.features.shape[:2], -1)
            encoder.neutral.copy_(F.normalize(self._styles.mean((0, 1)), dim=-1))
            held = torch.arange(min(_HELD_OUT, len(held_out)))
            self._held = *held_out.select(held, held * 0), style.embed_features(held_out.features[held, 0])

    @property
    def _device(self) -> torch.device:
        return self._encoder.neutral.device

    @property
    def module(self) -> nn.Module:
        """The encoder."""
        return self._encoder

    def parameters(self) -> list[nn.Parameter]:
        """All of it."""
        return list(self._encoder.parameters())

    def draw(self, generator: torch.Generator) -> PaintBatch:
        """Pictures [B, 4, S, S], their maps [B, S, S] and a style embedding of each [B, D]."""
        count, views = self._batch, self._styles.shape[1]
        rows = torch.randint(len(self._heads), (count,), generator=generator)
        chosen = torch.randint(views, (count,), generator=generator)
        pictures, labels = self._heads.select(rows, chosen)
        pictures, labels = flipped(pictures, labels, torch.rand(count, generator=generator) < 0.5)
        return pictures, labels, self._styles_of(rows, chosen, generator)

    def loss(self, batch: PaintBatch, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Colours, edges and what HeadNet sees first."""
        pictures, labels, styles = batch
        painted = self._encoder.paint_soft(one_hot(labels), styles, pictures.shape[-1])
        parts = painting_losses(self._net, painted, pictures)
        return torch.stack(list(parts.values())).sum(), parts

    def _styles_of(self, rows: Tensor, chosen: Tensor, generator: torch.Generator) -> Tensor:
        """A style embedding of each head [B, D]: of the view itself, of another one, or of words."""
        chance = torch.rand(len(rows), generator=generator)
        other = torch.randint(self._styles.shape[1], (len(rows),), generator=generator)
        styles = self._styles[rows, torch.where(chance < OWN, chosen, other)].clone()
        worded = torch.nonzero(chance >= OWN + OTHER)[:, 0]
        if len(worded):
            rng = np.random.default_rng(int(torch.randint(2**31, (1,), generator=generator)))
            with torch.no_grad():
                texts = [description(self._heads.records[int(rows[i])], rng) for i in worded]
                styles[worded] = self._style.embed_texts(texts)
        return styles

    @torch.no_grad()
    def figures(self) -> dict[str, float]:
        """PSNR (dB) of held-out portraits painted from their own map and style, over the whole picture."""
        pictures, labels, styles = to_device(self._held, self._device)
        painted = self._encoder.paint_soft(one_hot(labels), styles, pictures.shape[-1])
        return {"painted_psnr": round(float(psnr(painted[:, :3], pictures[:, :3]).mean()), 2)}

    @torch.no_grad()
    def pictures(self) -> dict[str, Tensor]:
        """Held-out portraits above what is painted of their maps and styles."""
        pictures, labels, styles = to_device(tuple(part[:_SHOWN] for part in self._held), self._device)
        painted = self._encoder.paint_soft(one_hot(labels), styles, pictures.shape[-1])
        rows = [torch.cat([*each[:, :3]], -1) for each in (pictures, painted)]
        return {"painted": torch.cat(rows, -2).clamp(0, 1).cpu()}


def fit_class_colors(
    encoder: EditEncoder, style: StyleModel, heads: EditHeads, *, steps: int = 600, seed: int = 0
) -> float:
    """Teach the painter the mean colour of each class by style, which needs no pictures and a few seconds.

    Returns:
        Mean error of the colours of classes that are there, 0..1.
    """
    painter = encoder.painter
    assert painter is not None
    generator, rng = torch.Generator().manual_seed(seed), np.random.default_rng(seed)
    colors, shares = _class_colors(heads)  # [M, 19, 3], [M, 19]
    with torch.no_grad():
        styles = [style.embed_features(heads.features[:, view]) for view in range(heads.features.shape[1])]
        styles += [style.embed_texts([description(r, rng) for r in heads.records]) for _ in range(2)]
    every = torch.stack(styles, 1)  # [M, L, D]
    weight = shares.sqrt()[..., None]
    optimizer = torch.optim.AdamW(painter.class_colors.parameters(), lr=3e-3, weight_decay=0.02)
    error = 0.0
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 3e-3 * (1 - step / steps)
        rows = torch.randint(len(every), (128,), generator=generator)
        styled = every[rows, torch.randint(every.shape[1], (128,), generator=generator)]
        found = painter.palette(styled).sigmoid()
        loss = ((found - colors[rows]).abs() * weight[rows]).sum() / (3 * weight[rows].sum())
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        error = float(loss.detach())
    return error


def _class_colors(heads: EditHeads) -> tuple[Tensor, Tensor]:
    """Mean straight colour of each class of each head, first and last view, [M, 19, 3], and its share, [M, 19]."""
    colors, shares, views = [], [], torch.tensor([0, heads.features.shape[1] - 1])
    for row in range(len(heads)):
        pictures, labels = heads.select(torch.full((2,), row), views)
        weight = one_hot(labels) * (pictures[:, 3:] > 0.9)
        area = weight.mean((0, 2, 3))
        straight = pictures[:, :3] / pictures[:, 3:].clamp_min(0.05)
        sums = torch.einsum("bchw,bdhw->cd", weight, straight) / weight[:, 0].numel()
        colors.append(sums / area.clamp_min(1e-6)[:, None])
        shares.append(area)
    return torch.stack(colors), torch.stack(shares)


def painting_losses(net: HeadNet, painted: Tensor, pictures: Tensor) -> dict[str, Tensor]:
    """How far painted portraits are from true ones, both [B, 4, S, S]: colours, edges, and what HeadNet sees first.

    The true matte is laid over both, so that only colours count: outlines are the map's.
    """
    alpha = pictures[:, 3:]
    rgb = painted[:, :3] / painted[:, 3:].clamp_min(0.05) * (painted[:, 3:] > 0.5) * alpha
    true = pictures[:, :3] * (painted[:, 3:] > 0.5)
    weight = 1 / alpha.mean().clamp_min(0.05)
    color = (rgb - true).abs().mean() * weight
    edges = torch.stack([(_slopes(rgb, axis) - _slopes(true, axis)).abs().mean() for axis in (-1, -2)]).mean() * weight
    x, y, difference = rgb, true, rgb.new_zeros(())
    x, y = 2 * x - 1, 2 * y - 1
    for step in list(net.stem)[:3]:
        x, y = step(x), step(y)
        difference = difference + (x - y).abs().float().mean()
    return {"color": color, "edges": _EDGES * edges, "features": _FEATURES * difference}


def flipped(pictures: Tensor, labels: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
    """Pictures [B, 4, S, S] and maps [B, S, S] with the rows ``chosen`` [B] bool mirrored, sides renamed."""
    table = torch.arange(256, dtype=labels.dtype)
    for left, right in _SWAPPED:
        table[left], table[right] = right, left
    return (
        torch.where(chosen[:, None, None, None], pictures.flip(-1), pictures),
        torch.where(chosen[:, None, None], table[labels.flip(-1).long()], labels),
    )


def _slopes(x: Tensor, axis: int) -> Tensor:
    return x.diff(dim=axis)
