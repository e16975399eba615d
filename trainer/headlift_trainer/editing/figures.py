"""How well edits obey: geometry the map, style the words, and neither the other; on held-out generated heads.

Legend: N heads, H map side, S picture side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from headlift.model.cameras import orbit_cameras
from headlift.model.edit.model import EditModel, one_hot
from headlift.model.edit.style import StyleModel, picture_features
from headlift.model.mini.headnet import HeadNet
from headlift.model.mini.parsing_groups import group_probabilities
from headlift.model.sizes import require_headnet
from headlift.model.splat import rasterize
from headlift.model.types import Cameras, Gaussians, Portrait
from headlift.stages.edit import Edit, EditOrder
from headlift_trainer.cameras import crop_cameras
from headlift_trainer.editing.data import EditHeads
from headlift_trainer.editing.words import values_of
from headlift_trainer.portraits import reconstruct
from headlift_trainer.tasks.clip import name_values

FACE, CLOTH, HAIR, GLASSES, HAT = 2, 3, 14, 15, 16
# Words, the group and value that they name, and the class whose colour shows it.
PROMPTS: tuple[tuple[str, str, str, int], ...] = (
    ("red hair", "hair color", "red", HAIR),
    ("blond hair", "hair color", "blond", HAIR),
    ("black hair", "hair color", "black", HAIR),
    ("grey hair", "hair color", "grey", HAIR),
    ("dark skin", "skin", "dark", FACE),
    ("pale skin", "skin", "pale", FACE),
    ("a blue shirt", "clothes", "blue", CLOTH),
    ("a red shirt", "clothes", "red", CLOTH),
)
# Words that are shapes, the group and value that they name, and the class that they paint or take away.
SHAPES: tuple[tuple[str, str, str, int], ...] = (
    ("long hair", "hair length", "long", HAIR),
    ("short hair", "hair length", "short", HAIR),
    ("a bald head", "hair length", "bald", HAIR),
    ("curly hair", "curl", "curly", HAIR),
    ("straight hair", "curl", "straight", HAIR),
    ("a hat", "hat", "hat", HAT),
    ("glasses", "glasses", "glasses", GLASSES),
)
# Words for what shows on the face as a whole, and the group and value that they name.
TRAITS: tuple[tuple[str, str, str], ...] = (
    ("an old person", "age", "old"),
    ("a young person", "age", "young"),
    ("a man", "sex", "man"),
    ("a woman", "sex", "woman"),
    ("make-up", "make-up", "make-up"),
    ("no make-up", "make-up", "none"),
)
_YAWS = (0.0, 60.0, 180.0)
_LEAST_PIXELS = 40  # of a class, for its colour to be judged
_GROWN = 0.09  # of the map's side that hair is painted further out
_NOBODY = torch.eye(3, dtype=torch.float64)[:2]


@dataclass(frozen=True)
class Subject:
    """One held-out head as the editor meets it."""

    picture: Tensor  # [4, S, S]
    labels: Tensor  # [H, H] uint8, true
    camera: Cameras
    look: Tensor  # [D]
    parent: Gaussians  # reconstructed from the picture
    values: dict[str, str]  # what is true of it


@dataclass
class EditFigures:
    """Sums over subjects; ``table`` gives the means."""

    values: dict[str, list[float]] = field(default_factory=dict)

    def add(self, name: str, value: float) -> None:
        """One more measurement; what is not finite was not measurable."""
        if np.isfinite(value):
            self.values.setdefault(name, []).append(float(value))

    def table(self) -> dict[str, float]:
        """Mean of each figure."""
        return {name: round(float(np.mean(found)), 4) for name, found in sorted(self.values.items())}


def subject_of(stage: Edit, model: EditModel, style: StyleModel, heads: EditHeads, row: int) -> Subject:
    """Held-out head number ``row``, from the front."""
    zero = torch.tensor([0])
    picture, labels = heads.select(torch.tensor([row]), zero)
    size = stage.map_size
    camera = crop_cameras(heads.viewmats[row, :1], size)
    whole = F.interpolate(labels[None].float(), (size, size), mode="nearest")[0, 0].to(torch.uint8)
    shown = F.interpolate(picture, (size, size), mode="bilinear")
    parent = reconstruct(model.reconstruction, shown[0], camera)
    look = style.embed_features(heads.features[row, :1])[0]
    return Subject(picture[0], whole, camera, look, parent, values_of(heads.records[row]))


class EditEvaluation:
    """Measures one subject after the other.

    Args:
        stage: As served. model: Its networks. style: Its small CLIP.
        known: Training heads, whose mean colours say what "red hair" looks like.
    """

    def __init__(self, stage: Edit, model: EditModel, style: StyleModel, known: EditHeads) -> None:
        self._stage, self._model, self._style = stage, model, style
        self._references = reference_colors(known)
        self.found = EditFigures()

    @torch.no_grad()
    def __call__(self, subject: Subject) -> None:
        """Measure one."""
        self._geometry(subject)
        self._words(subject)
        self._traits(subject)
        self._shapes(subject)
        self._strokes(subject)

    def worded(self, subject: Subject, text: str) -> Gaussians:
        """The subject's reconstruction with words done as the service does them: shapes are painted into the map."""
        labels = self._stage.paint_words(subject.labels, text, subject.camera)
        look = self._stage.embed_text(text, subject.look)
        return self.edited(subject, labels=None if labels is subject.labels else labels, style=look)

    def edited(self, subject: Subject, *, labels: Tensor | None = None, style: Tensor | None = None) -> Gaussians:
        """The subject's reconstruction with another map or look."""
        order = EditOrder(subject.camera, subject.parent, subject.labels, subject.look, labels, style)
        return self._stage(order, _nothing)

    def made(self, subject: Subject, style: Tensor | None = None) -> Gaussians:
        """A head of the subject's map alone, as in the paper."""
        look = subject.look if style is None else style
        return self._stage(EditOrder(subject.camera, map=subject.labels, style=look), _nothing)

    def _geometry(self, subject: Subject) -> None:
        """Does a head that is made of a map parse as that map; beside how the true picture parses."""
        add = self.found.add
        for name, rgba in (("made", drawn(self.made(subject), subject.camera)), ("true", subject.picture)):
            seen = self._parsed(rgba)
            add(f"miou_19_{name}", mean_iou(seen, subject.labels, 19))
            add(f"miou_groups_{name}", mean_iou(_groups(seen), _groups(subject.labels), 6))
        other = F.normalize(-subject.look + 2 * self._style.look, dim=-1)
        add("silhouette_iou_other_look_made", _silhouettes(self.made(subject), self.made(subject, other)))

    def _words(self, subject: Subject) -> None:
        """Do words change what they name, and nothing else."""
        add = self.found.add
        before = drawn(subject.parent, subject.camera)
        for text, group, value, label in PROMPTS:
            place = _inside(subject.labels == label)
            if subject.values.get(group) in (value, None) or int(place.sum()) < _LEAST_PIXELS:
                continue
            head = self.edited(subject, style=self._stage.embed_text(text, subject.look))
            after = drawn(head, subject.camera)
            name = group.replace(" ", "_")
            add(f"named_by_color_{name}", self._named(after, place, group, label) == value)
            add(f"named_by_color_{name}_before", self._named(before, place, group, label) == value)
            look = self._style.embed_features(picture_features(self._net, after[None]))
            add(f"named_by_clip_{name}", name_values(self._style, look, group)[0] == value)
            add("silhouette_iou_style_edit", _silhouettes(subject.parent, head))
            add("moved_mm_style_edit", 1000 * float((head.means - subject.parent.means).norm(dim=-1).mean()))
            elsewhere = (subject.labels > 0) & (subject.labels != label) & _settled(label, subject.labels)
            changed = (after[:3] - before[:3]).abs().mean(0)
            add("color_change_named", float(changed[place].mean()))
            add("color_change_elsewhere", float(changed[elsewhere].mean()))

    def _traits(self, subject: Subject) -> None:
        """Does the small CLIP see on the render what words asked for."""
        for text, group, value in TRAITS:
            if subject.values.get(group) in (value, None):
                continue
            head = self.edited(subject, style=self._stage.embed_text(text, subject.look))
            for name, one in (("before", subject.parent), ("after", head)):
                look = self._style.embed_features(picture_features(self._net, drawn(one, subject.camera)[None]))
                said = name_values(self._style, look, group)[0]
                self.found.add(f"named_by_clip_{group.replace('-', '')}_{name}", said == value)

    def _shapes(self, subject: Subject) -> None:
        """Do words for shapes change the parsed render as they change the map; of bald heads, how much hair is left."""
        for text, group, value, label in SHAPES:
            labels = self._stage.paint_words(subject.labels, text, subject.camera)
            if subject.values.get(group) == value or labels is subject.labels:
                continue
            head = self.edited(subject, labels=labels)
            for name, one in (("before", subject.parent), ("after", head)):
                seen = self._parsed(drawn(one, subject.camera)) == label
                if value == "bald":
                    self.found.add(f"hair_share_{name}_bald", float(seen.float().mean()))
                else:
                    self.found.add(f"shape_iou_{name}_{value}", _iou(seen, labels == label))

    def _strokes(self, subject: Subject) -> None:
        """Does painted hair grow where it was painted, and does the face keep its colours."""
        add = self.found.add
        labels = grown_hair(subject.labels)
        if torch.equal(labels, subject.labels):
            return
        before = drawn(subject.parent, subject.camera)
        head = self.edited(subject, labels=labels)
        after = drawn(head, subject.camera)
        wanted = labels == HAIR
        for name, rgba in (("before", before), ("after", after)):
            add(f"hair_iou_{name}_stroke", _iou(self._parsed(rgba) == HAIR, wanted))
            add(f"silhouette_iou_{name}_stroke", _iou(rgba[3] > 0.5, labels > 0))
        face = _inside(subject.labels == FACE)
        add("face_color_change_map_edit", float((after[:3] - before[:3]).abs().mean(0)[face].mean()))
        hair = _inside(subject.labels == HAIR)
        if int(hair.sum()) >= _LEAST_PIXELS:
            add("hair_color_change_map_edit", float((after[:3, hair].mean(1) - before[:3, hair].mean(1)).abs().mean()))

    def _parsed(self, rgba: Tensor) -> Tensor:
        shown = F.interpolate(rgba[None], (self._stage.map_size,) * 2, mode="bilinear")[0]
        return self._stage.segment(Portrait(shown[:3], shown[3:], _NOBODY)).labels

    def _named(self, rgba: Tensor, place: Tensor, group: str, label: int) -> str:
        """The value whose training heads have the nearest mean colour there."""
        color = rgba[:3, place].mean(1)
        names = [value for value, of in self._references if value == group]
        assert names
        options = {of: ref for (value, of), ref in self._references.items() if value == group}
        return min(options, key=lambda of: float((options[of] - color).norm()))

    @property
    def _net(self) -> HeadNet:
        return require_headnet(self._model.reconstruction)


def reference_colors(heads: EditHeads) -> dict[tuple[str, str], Tensor]:
    """Mean rendered colour [3] of hair, face or cloth of training heads by group and value."""
    classes = {group: label for _, group, _, label in PROMPTS}
    found: dict[tuple[str, str], list[Tensor]] = {}
    for row, record in enumerate(heads.records):
        values = values_of(record)
        if not classes.keys() & values.keys():
            continue
        picture, labels = heads.select(torch.tensor([row]), torch.tensor([0]))
        for group, label in classes.items():
            place = _inside(labels[0] == label)
            if group in values and int(place.sum()) >= _LEAST_PIXELS:
                found.setdefault((group, values[group]), []).append(picture[0, :3, place].mean(1))
    return {key: torch.stack(colors).median(0).values for key, colors in found.items()}


def grown_hair(labels: Tensor) -> Tensor:
    """The map [H, H] with hair painted further out over the background, not below the chin; as it is where none is."""
    side = labels.shape[-1]
    reach = 2 * round(_GROWN * side) + 1
    hair = (labels == HAIR).float()[None, None]
    if not bool(hair.any()):
        return labels
    wide = F.max_pool2d(hair, reach, 1, reach // 2)[0, 0] > 0
    face = torch.nonzero(labels == FACE)
    lowest = int(face[:, 0].max()) if len(face) else side
    above = (torch.arange(side) < lowest)[:, None]
    return torch.where(wide & above & (labels == 0), torch.tensor(HAIR, dtype=labels.dtype), labels)


def drawn(head: Gaussians, camera: Cameras) -> Tensor:
    """[4, S, S] RGB over black, and alpha."""
    views = rasterize(head, camera)
    return torch.cat([views.rgb, views.alpha], 1)[0].clamp(0, 1)


def mean_iou(seen: Tensor, wanted: Tensor, count: int) -> float:
    """Mean over the labels below ``count`` that the wanted map holds."""
    there = [label for label in range(count) if bool((wanted == label).any())]
    return float(np.mean([_iou(seen == label, wanted == label) for label in there]))


def _groups(labels: Tensor) -> Tensor:
    return group_probabilities(one_hot(labels[None]))[0].argmax(0)


def _iou(a: Tensor, b: Tensor) -> float:
    union = int((a | b).sum())
    return float((a & b).sum()) / union if union else float("nan")


def _inside(mask: Tensor) -> Tensor:
    """A mask without its border of two pixels."""
    return F.max_pool2d((~mask).float()[None, None], 5, 1, 2)[0, 0] == 0


def _settled(label: int, labels: Tensor) -> Tensor:
    """Where a change of this class's colour may not show: brows and beards may follow the hair, all skin the face."""
    follows = {FACE: (1, 4, 5, 10, 11, 12, 13), HAIR: (6, 7), CLOTH: ()}[label]
    keeps = torch.ones_like(labels, dtype=torch.bool)
    for other in follows:
        keeps &= labels != other
    return keeps


def _silhouettes(a: Gaussians, b: Gaussians) -> float:
    """Mean IoU of two heads' outlines from three sides."""
    cameras = orbit_cameras(_YAWS, width=192, height=192)
    outlines = [rasterize(head, cameras).alpha > 0.5 for head in (a, b)]
    return float(np.mean([_iou(x, y) for x, y in zip(*outlines, strict=True)]))


def _nothing() -> None:
    """Nobody cancels an evaluation."""


def text_sheet(run: EditEvaluation, subjects: Sequence[Subject], prompts: Sequence[str]) -> Tensor:
    """A picture [3, h, w] like the paper's figure 5: input, reconstruction, and one column a prompt, from two sides."""
    rows = []
    for subject in subjects:
        heads = [subject.parent]
        heads += [run.worded(subject, text) for text in prompts]
        heads.append(run.edited(subject, labels=grown_hair(subject.labels)))
        rows.append(_row(subject, heads, (0.0, 50.0)))
    return torch.cat(rows, 1)


def style_sheet(run: EditEvaluation, subjects: Sequence[Subject]) -> Tensor:
    """A picture [3, h, w] like the paper's figure 6: each map (rows) made with each subject's look (columns)."""
    side = subjects[0].labels.shape[-1]
    blank = torch.zeros(3, side, side)
    top = torch.cat([blank, *[_shown(subject, side) for subject in subjects]], -1)
    rows = [top]
    for subject in subjects:
        heads = [run.made(subject, other.look) for other in subjects]
        rows.append(torch.cat([_colored(subject.labels), *[drawn(h, subject.camera)[:3] for h in heads]], -1))
    return torch.cat(rows, 1)


def _row(subject: Subject, heads: Sequence[Gaussians], yaws: Sequence[float]) -> Tensor:
    side = subject.labels.shape[-1]
    cameras = orbit_cameras(list(yaws), width=side, height=side)
    columns = [torch.cat([_shown(subject, side), _colored(subject.labels)], 1)]
    columns += [torch.cat([*rasterize(head, cameras).rgb], 1) for head in heads]
    return torch.cat(columns, -1).clamp(0, 1)


def _shown(subject: Subject, side: int) -> Tensor:
    return F.interpolate(subject.picture[None, :3], (side, side), mode="bilinear")[0]


def _colored(labels: Tensor) -> Tensor:
    """A map in colours that are easy to tell apart, [3, H, H]."""
    number = labels.float()
    hue = torch.stack([number * 0.381, number * 0.617 + 0.33, number * 0.177 + 0.66]) % 1.0
    shade: Tensor = (0.25 + 0.75 * hue) * (labels > 0)
    return shade
