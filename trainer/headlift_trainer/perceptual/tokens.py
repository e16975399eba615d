"""Losses on tokens of transformers: DINOv2 as the paper has it (section 3.3), and HeadNet in its place.

The distance is 1 - cosine of a token in both pictures, averaged over the layers and over all tokens of a layer: the
class token and every patch count alike, as in the authors' package. ``weighting="kinds"`` lets the class token count
as much as all patches together.

Legend: C pictures, P patches, T compared tokens, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, Protocol, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from headlift.errors import InvalidInputError
from headlift.model.mini.headnet import HeadNet
from headlift.pretrained.dinov2 import PATCH, Dinov2
from headlift_trainer.perceptual.term import Framing, Memory, PictureTerm

TokenKind = Literal["class", "patches"]
Distance = Literal["cosine", "l1"]
Weighting = Literal["tokens", "kinds"]

# As the authors' package brings pictures to DINOv2: 512 pixels, of which the middle 504 are a multiple of 14.
PEER_FRAMING = Framing(504, 512, "bicubic")
_BOTH: tuple[TokenKind, ...] = ("class", "patches")


class TokenNetwork(Protocol):
    """A frozen transformer whose layers are compared."""

    def layers(self, images: Tensor, /) -> list[Tensor]:
        """[C, 3, S, S] in 0..1 -> [C, 1 + P, D] for each layer, the class token first."""
        ...


class DinoTokens(nn.Module):
    """DINOv2 as a `TokenNetwork`: the layers that it was loaded for.

    Args:
        network: Frozen.
        grid: Patches a side of the pictures that it will see. Their positions are then resampled once, as the library
            does whose way of counting layers the network has; None leaves them to the network, which resamples them
            as the project's own code does.
    """

    def __init__(self, network: Dinov2, grid: int | None = None) -> None:
        super().__init__()
        hugging_face = network.convention == "hf" and not network.architecture.registers
        self.network = _at_grid(network, grid) if grid is not None and hugging_face else network
        self.counted = network.layers  # in the network's own way of counting

    def layers(self, images: Tensor) -> list[Tensor]:
        """[C, 3, S, S] in 0..1 -> [C, 1 + P, D] for each of `counted`."""
        return [torch.cat([f.class_token[:, None], f.patches], 1) for f in self.network.features(images)]


def _at_grid(network: Dinov2, grid: int) -> Dinov2:
    """The same network, its positions resampled to a grid as transformers does: bicubic, without the hub's offset."""
    arch, state = network.architecture, network.vit.state_dict()
    first, stored = state["pos_embed"][:, :1], state["pos_embed"][:, 1:]
    picture = stored.float().reshape(1, arch.grid, arch.grid, arch.dim).permute(0, 3, 1, 2)
    if grid != arch.grid:
        picture = F.interpolate(picture, (grid, grid), mode="bicubic", align_corners=False)
    positions = picture.flatten(2).mT.to(stored.dtype)
    changed = Dinov2(replace(arch, grid=grid), network.layers, network.convention).to(stored.device)
    changed.vit.load_state_dict(state | {"pos_embed": torch.cat([first, positions], 1)})
    return changed


class TokenLoss(PictureTerm):
    """How differently a network's tokens see two pictures; see the module's docstring.

    Args:
        network: Frozen, on the pictures' device.
        framing: How pictures are brought to the side that the network sees.
        layers: Indices into what the network gives; None compares all of it.
        kinds: Of "class" and "patches".
        distance: "cosine", or "l1", the mean absolute difference, which the authors' package uses.
        weighting: "tokens" or "kinds"; see the module's docstring.
        chunk, memory: See `PictureTerm`.

    Raises:
        InvalidInputError: A setting that there is not.
    """

    def __init__(
        self,
        network: TokenNetwork,
        framing: Framing,
        *,
        layers: Sequence[int] | None = None,
        kinds: Sequence[TokenKind] = _BOTH,
        distance: Distance = "cosine",
        weighting: Weighting = "tokens",
        chunk: int | None = None,
        memory: Memory = "keep",
    ) -> None:
        super().__init__(network, chunk=chunk, memory=memory)
        known = (get_args(TokenKind), get_args(Distance), get_args(Weighting))
        if not kinds or set(kinds) - set(known[0]) or distance not in known[1] or weighting not in known[2]:
            raise InvalidInputError(
                f"A token loss on {tuple(kinds)} by {distance!r}, weighted by {weighting!r}; choose of {known[0]}, "
                f"one of {known[1]} and one of {known[2]}."
            )
        self.framing = framing
        self.chosen = None if layers is None else tuple(layers)
        self.kinds, self.distance, self.weighting = frozenset(kinds), distance, weighting

    def features(self, pictures: Tensor) -> list[Tensor]:
        """Compared tokens [C, T, D] of each chosen layer.

        Raises:
            InvalidInputError: The network has no such layer.
        """
        every = self.network.layers(self.framing(pictures))
        chosen = range(len(every)) if self.chosen is None else self.chosen
        if not all(-len(every) <= i < len(every) for i in chosen):
            raise InvalidInputError(f"Layers {self.chosen} are compared; the network gives {len(every)}, from 0.")
        rows = slice(0 if "class" in self.kinds else 1, None if "patches" in self.kinds else 1)
        return [every[i][:, rows] for i in chosen]

    def compare(self, ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> Tensor:
        """Distances [C]."""
        return torch.stack([self._layer(a.float(), b.float()) for a, b in zip(ours, theirs, strict=True)]).mean(0)

    def extra_repr(self) -> str:
        """The settings, also for the identity of kept features."""
        return f"{self.framing}, layers={self.chosen}, kinds={sorted(self.kinds)}, {self.distance}, {self.weighting}"

    def _layer(self, ours: Tensor, theirs: Tensor) -> Tensor:
        if self.distance == "cosine":
            off = 1 - F.cosine_similarity(ours, theirs, dim=-1)
        else:
            off = (ours - theirs).abs().mean(-1)
        if self.weighting == "kinds" and len(self.kinds) == len(_BOTH):
            return (off[:, 0] + off[:, 1:].mean(1)) / 2
        return off.mean(1)


def dino_loss(
    network: Dinov2,
    *,
    framing: Framing = PEER_FRAMING,
    layers: Sequence[int] | None = None,
    kinds: Sequence[TokenKind] = _BOTH,
    distance: Distance = "cosine",
    weighting: Weighting = "tokens",
    chunk: int | None = None,
    memory: Memory = "keep",
) -> TokenLoss:
    """The paper's DINOv2 loss: class and patch tokens, cosine; layers 8 and 11 of ViT-S/14 if loaded with those.

    Args:
        network: Frozen, loaded for the layers that are compared.
        framing: Its side must be a multiple of 14.
        layers: Of the network's layers, in its own way of counting; None is all that it was loaded for.
        kinds, distance, weighting: See `TokenLoss`.
        chunk, memory: See `PictureTerm`.

    Raises:
        InvalidInputError: A side that is no multiple of 14, or a layer that the network was not loaded for.
    """
    if framing.side % PATCH:
        raise InvalidInputError(
            f"The DINOv2 loss sees a side of {framing.side} pixels; it must be a multiple of {PATCH}."
        )
    tokens = DinoTokens(network, framing.side // PATCH)
    wanted = tokens.counted if layers is None else tuple(layers)
    if set(wanted) - set(tokens.counted):
        raise InvalidInputError(f"Layers {wanted} are compared; the network was loaded for {tokens.counted}.")
    rows = [tokens.counted.index(layer) for layer in wanted]
    return TokenLoss(
        tokens, framing, layers=rows, kinds=kinds, distance=distance, weighting=weighting, chunk=chunk, memory=memory
    )


def shp_loss(
    network: Dinov2,
    *,
    layer: int = 8,
    framing: Framing = PEER_FRAMING,
    chunk: int | None = None,
    memory: Memory = "keep",
) -> TokenLoss:
    """What the paper trains the SHP-CNN by: the class token of DINOv2's layer 8 alone; arguments as `dino_loss`."""
    return dino_loss(network, framing=framing, layers=(layer,), kinds=("class",), chunk=chunk, memory=memory)


def headnet_loss(
    network: HeadNet,
    *,
    side: int = 256,
    layers: Sequence[int] | None = None,
    kinds: Sequence[TokenKind] = _BOTH,
    weighting: Weighting = "tokens",
    chunk: int | None = None,
    memory: Memory = "keep",
) -> TokenLoss:
    """The same loss with our own network in DINOv2's place.

    Args:
        network: Frozen.
        side: Pixels that the network sees, a multiple of 16.
        layers: Indices of its blocks; None is all.
        kinds, weighting: See `TokenLoss`.
        chunk, memory: See `PictureTerm`.
    """
    return TokenLoss(
        network, Framing(side), layers=layers, kinds=kinds, weighting=weighting, chunk=chunk, memory=memory
    )
