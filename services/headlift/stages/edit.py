"""Edit: segment a portrait, embed styles, and make the head that a map and a style ask for."""

from __future__ import annotations

import hashlib
import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from headlift.errors import IncompatibleWeightsError, InvalidInputError, MissingWeightsError
from headlift.model.cameras import orbit_camera
from headlift.model.checkpoint import load_checkpoint, weights_hash
from headlift.model.edit.checkpoint import load_edit_weights, tunes_decoder
from headlift.model.edit.complexion import Complexion, recolored
from headlift.model.edit.difference import apply_difference
from headlift.model.edit.map_words import MapWords
from headlift.model.edit.model import EditModel, MapShape
from headlift.model.edit.style import StyleModel, picture_features
from headlift.model.mini.model import MiniHead
from headlift.model.sizes import HeadModel
from headlift.model.types import Cameras, Gaussians, Portrait

_CACHE_SIZE = 8  # decoded heads, 3.7 MB each: an edit's `before` is the last one's `after`
_ANTIPODAL_COSINE = -0.9999  # cosine below which there is no shortest way between two styles
_OPAQUE = 0.5
_SHIPPED = "mini.safetensors"


@dataclass(frozen=True)
class Segmentation:
    """What each place of a portrait shows."""

    labels: Tensor  # [H, H] uint8, 0..18, the classes of facer's `celebm`
    confidence: Tensor  # [H, H] 0..1, probability of that label
    camera: Cameras  # C = 1, of the map: the portrait's own where it has one, else estimated


@dataclass(frozen=True)
class EditOrder:
    """One edit. What is None stays as in the parent; without a parent, map and style are both needed."""

    camera: Cameras  # of the maps, C = 1
    parent: Gaussians | None = None
    parent_map: Tensor | None = None  # [H, H] uint8; needed with a parent
    parent_style: Tensor | None = None  # [D] unit; needed with a parent
    map: Tensor | None = None  # [H, H] uint8
    style: Tensor | None = None  # [D] unit


class Embedder(Protocol):
    """Two towers that put words and pictures on one sphere."""

    def embed_text(self, text: str, about: Tensor | None = None) -> Tensor:
        """[D] unit; ``about`` a style, of which stays what the text does not name."""
        ...

    def embed_picture(self, rgba: Tensor) -> Tensor:
        """[4, S, S] RGB times alpha, and alpha -> [D] unit."""
        ...

    def unknown_words(self, text: str) -> list[str]:
        """Words that mean nothing to it; none for networks that read letters."""
        ...

    def named(self, text: str) -> Mapping[str, str]:
        """What a text surely names, such as hair length: long; none for networks that read letters."""
        ...


class SmallClip:
    """The CLIP of our own, with the HeadNet that its picture tower stands on."""

    def __init__(self, style: StyleModel, model: EditModel) -> None:
        if not isinstance(model.reconstruction, MiniHead):
            raise IncompatibleWeightsError("The small CLIP reads HeadNet's features, and this network has no HeadNet.")
        self._style, self._net = style, model.reconstruction.encoder.headnet

    @torch.no_grad()
    def embed_text(self, text: str, about: Tensor | None = None) -> Tensor:
        """See ``Embedder``. InvalidInputError: UNKNOWN_WORDS."""
        if about is None:
            return self._style.embed_texts([text])[0].cpu()
        return self._style.embed_change(text, about).cpu()

    @torch.no_grad()
    def embed_picture(self, rgba: Tensor) -> Tensor:
        """See ``Embedder``."""
        device = self._style.places.device
        return self._style.embed_features(picture_features(self._net, rgba[None].to(device)))[0].cpu()

    def unknown_words(self, text: str) -> list[str]:
        """See ``Embedder``."""
        return self._style.vocabulary.read(text)[1]

    def named(self, text: str) -> Mapping[str, str]:
        """See ``Embedder``."""
        vocabulary = self._style.vocabulary
        return {group: vocabulary.traits[row][1] for group, row in vocabulary.named(text).items()}


class Edit:
    """The stage. Its answers depend on its arguments alone; safe to call from several threads.

    Attributes:
        fingerprint: All that its answers depend on besides what it is given.
        map_size: Side of its maps, pixels.
        style_dim: D, numbers of a style.
    """

    def __init__(
        self,
        model: EditModel,
        embedder: Embedder,
        fingerprint: str,
        outlines: MapWords | None = None,
        complexion: Complexion | None = None,
    ) -> None:
        self.fingerprint = fingerprint
        self._outlines = outlines
        self._complexion = complexion
        self.map_size = model.config.map_size
        self.style_dim = model.config.style_dim
        self._model, self._embedder = model, embedder
        self._device = model.reconstruction.device
        self._lock = threading.Lock()
        self._geometries: OrderedDict[str, MapShape | None] = OrderedDict()
        self._heads: OrderedDict[str, Gaussians] = OrderedDict()

    @torch.no_grad()
    def segment(self, portrait: Portrait) -> Segmentation:
        """What each place of a portrait shows, by HeadNet; background wherever the matte says so.

        Raises:
            IncompatibleWeightsError: The network has no HeadNet.
        """
        model = self._model.reconstruction
        if not isinstance(model, MiniHead):
            raise IncompatibleWeightsError(f"The network {model.config.name!r} cannot parse portraits; bring a map.")
        encoder, side, size = model.encoder, model.config.encoder.image_size, self.map_size
        picture = F.interpolate(portrait.image[None].to(self._device), (side, side), mode="area")
        logits = encoder.headnet(picture).parsing.float()
        shares = F.interpolate(logits, (size, size), mode="bilinear").softmax(1)[0].cpu()
        opaque = F.interpolate(portrait.alpha[None].cpu(), (size, size), mode="area")[0, 0] > _OPAQUE
        person = shares[1:] / shares[1:].sum(0).clamp_min(1e-6)
        confidence, labels = person.max(0)
        labels = torch.where(opaque, labels + 1, 0)
        confidence = torch.where(opaque, confidence, 1 - shares[1:].amax(0))
        return Segmentation(labels.to(torch.uint8), confidence, portrait.camera or self._camera(portrait))

    def _camera(self, portrait: Portrait) -> Cameras:
        """The camera of a portrait that no head was made of."""
        image, alpha, source_mask = (
            t[None].to(self._device) for t in (portrait.image, portrait.alpha, portrait.source_mask())
        )
        camera = self._model.reconstruction.encode(image, alpha, source_mask=source_mask).camera
        return orbit_camera(0.0, size=portrait.size) if camera is None else camera.to("cpu")

    def embed_text(self, text: str, about: Tensor | None = None) -> Tensor:
        """The style [D] that words describe, unit.

        Args:
            text: Plain English.
            about: The style [D] of the head that is edited: what the words do not name stays as it is there. Without it
                the words stand alone, and what they do not name is average.

        Raises:
            InvalidInputError: UNKNOWN_WORDS: none of them is known.
        """
        return self._embedder.embed_text(text, about)

    def unknown_words(self, text: str) -> list[str]:
        """The words of a text that it does not know, in lower case."""
        return self._embedder.unknown_words(text)

    def paint_words(self, labels: Tensor, text: str, camera: Cameras, strength: float = 1.0) -> Tensor:
        """The map with the shapes that words name painted in: hair of another length or curl, a hat, glasses.

        Args:
            labels: [H, H] uint8.
            text: Plain English; what is no shape, or not known, is passed over.
            camera: Of the map, C = 1.
            strength: How far to go, 0..1.

        Returns:
            [H, H] uint8; ``labels`` itself where nothing changes.
        """
        named = {} if self._outlines is None else self._embedder.named(text)
        if self._outlines is None or not named:
            return labels
        forward = camera.viewmats[0, 2, :3]
        yaw = math.degrees(math.atan2(-float(forward[0]), -float(forward[2])))
        before = labels.numpy()
        after = self._outlines.paint(before, named, yaw, strength)
        return labels if after is before else torch.from_numpy(after)

    def embed_picture(self, portrait: Portrait) -> Tensor:
        """The style [D] of a portrait, unit."""
        return self._embedder.embed_picture(torch.cat([portrait.image, portrait.alpha]))

    def blend(self, styles: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
        """A weighted mix [D] on the sphere, unit: the great circle between two, and so on from one to the next.

        Raises:
            InvalidInputError: Nothing to mix, weights that are no shares, or styles that lie opposite each other.
        """
        if not styles or len(styles) != len(weights):
            raise InvalidInputError(f"{len(styles)} styles and {len(weights)} weights; give one each.", field="style")
        if any(not math.isfinite(w) or w < 0 for w in weights) or not sum(weights) > 0:
            raise InvalidInputError(f"The weights {list(weights)} must be >= 0, and one of them > 0.", field="style")
        mixed, total = styles[0], weights[0]
        for style, weight in zip(styles[1:], weights[1:], strict=True):
            total += weight
            mixed = _slerp(mixed, style, weight / total if total else 0.0)
        return F.normalize(mixed, dim=-1)

    @torch.no_grad()
    def __call__(self, order: EditOrder, check: Callable[[], None]) -> Gaussians:
        """The edited head, on the CPU.

        Args:
            order: What is asked for.
            check: Called between the steps; raises when nobody waits for the answer any more.

        Raises:
            InvalidInputError: Something is missing, or the parent is a head of another network.
        """
        labels = order.parent_map if order.map is None else order.map
        style = order.parent_style if order.style is None else order.style
        if labels is None or style is None:
            raise InvalidInputError(
                "A new head needs a map and a style; give both, or the head that is edited.", reason="NOTHING_TO_EDIT"
            )
        if order.parent is None:
            return self._head(labels, style, order.camera, check)
        if order.parent_map is None or order.parent_style is None:
            raise InvalidInputError("A head is edited from its map and its style; give both.", field="head")
        before = self._head(order.parent_map, order.parent_style, order.camera, check)
        after = self._head(labels, style, order.camera, check)
        check()
        edited = apply_difference(
            order.parent, before, after, shape=not torch.equal(labels, order.parent_map), color=before is not after
        )
        if self._complexion is None or torch.equal(style, order.parent_style):
            return edited
        return recolored(edited, self._complexion.change(order.parent_style, style))

    def _head(self, labels: Tensor, style: Tensor, camera: Cameras, check: Callable[[], None]) -> Gaussians:
        """The model's own head of a map and a style; the last few are remembered."""
        geometry_key = _key(labels, camera.viewmats, camera.Ks.div(camera.width))
        key = geometry_key + _key(style)
        with self._lock:
            cached = self._heads.get(key)
            if cached is not None:
                self._heads.move_to_end(key)
                return cached
        check()
        batch_labels, batch_style = labels[None].to(self._device), style[None].to(self._device).float()
        where = camera.to(self._device)
        geometry = self._geometry(geometry_key, batch_labels, where)
        check()
        tokens = self._model.encode(batch_labels, batch_style, where, geometry)
        check()
        head = self._model.decode(tokens)[0].to("cpu")
        with self._lock:
            self._heads[key] = head
            while len(self._heads) > _CACHE_SIZE:
                self._heads.popitem(last=False)
        return head

    def _geometry(self, key: str, labels: Tensor, camera: Cameras) -> MapShape | None:
        with self._lock:
            if key in self._geometries:
                self._geometries.move_to_end(key)
                return self._geometries[key]
        code = self._model.geometry(labels, camera)
        with self._lock:
            self._geometries[key] = code
            while len(self._geometries) > _CACHE_SIZE:
                self._geometries.popitem(last=False)
        return code


def load_edit(
    path: Path,
    device: torch.device | str = "cpu",
    reconstruction: Path | None = None,
    clip: Path | None = None,
    loaded: HeadModel | None = None,
) -> Edit:
    """The stage from files.

    Args:
        path: Editing weights.
        device: Where it runs.
        reconstruction: The checkpoint that the weights go with; None takes the mini that is shipped.
        clip: open_clip's weights, for editing models of the paper's sizes, which take their styles from them.
        loaded: The network of ``reconstruction``, where it is on ``device`` already: it is shared, unless the editing
            weights bring a decoder of their own.

    Raises:
        WeightsError: A file cannot be used, or they do not belong together.
    """
    base = reconstruction or Path(str(resources.files("headlift") / "weights" / _SHIPPED))
    if loaded is None or tunes_decoder(path):  # the tuned decoder replaces the network's own: it needs a copy
        loaded = load_checkpoint(base)[0].to(device).eval().requires_grad_(False)
    weights = load_edit_weights(path, loaded)
    model = weights.model.to(device)
    files = [path, base]
    if weights.style is not None:
        embedder: Embedder = SmallClip(weights.style.to(device), model)
    else:
        if clip is None:
            raise MissingWeightsError(
                f"{path.name} takes its styles from open_clip's {model.config.clip}; name its file with "
                "HEADLIFT_CLIP_WEIGHTS."
            )
        from headlift.pretrained.clip import load_clip

        embedder = load_clip(clip, model.config.clip or "", device)
        files.append(clip)
    digest = hashlib.sha256("".join(map(weights_hash, files)).encode()).hexdigest()
    return Edit(model, embedder, digest, weights.outlines, weights.complexion)


def _slerp(a: Tensor, b: Tensor, t: float) -> Tensor:
    """The point at share ``t`` of the great circle from ``a`` to ``b``."""
    cosine = float((a * b).sum().clamp(-1, 1))
    if cosine < _ANTIPODAL_COSINE:
        raise InvalidInputError("Two styles lie opposite each other; there is no way between them.", field="style")
    angle = math.acos(cosine)
    if angle < 1e-4:
        return torch.lerp(a, b, t)
    return (math.sin((1 - t) * angle) * a + math.sin(t * angle) * b) / math.sin(angle)


def _key(*tensors: Tensor) -> str:
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(str(tuple(tensor.shape)).encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
