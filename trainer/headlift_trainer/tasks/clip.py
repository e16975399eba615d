"""The small CLIP's training task: open_clip's own loss, on generated heads and what can be said of them.

Legend: B batch, M heads, V views, F picture features, D width of the embedding.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from headlift.errors import MissingWeightsError
from headlift.model.edit.style import StyleModel
from headlift_trainer.editing.data import EditHeads
from headlift_trainer.editing.words import GROUPS, description, values_of

_GROUP_WEIGHT = 0.5  # of naming single traits, beside telling whole descriptions apart
_FEATURE_NOISE = 0.1  # in spreads of a feature
_HELD_OUT_SEED = 20_017


@dataclass(frozen=True)
class ClipBatch:
    """B heads, and what can be said of them."""

    features: Tensor  # [B, F]
    noise: Tensor  # [B, F] of unit variance
    texts: list[str]  # B descriptions
    phrases: list[str]  # one for each value of each group
    values: list[dict[str, str]]  # B heads' known values by group


class ClipTask:
    """See `headlift_trainer.tasks.interface.Task`.

    Whole descriptions are told apart by open_clip's ``ClipLoss``. Many heads share a trait, which that loss takes for
    a mistake; so single traits are also named by the nearest phrase, as zero-shot classification does.

    Args:
        model: The small CLIP; its feature statistics are set here.
        heads: Training heads. held_out: Others, for the figures.
        batch_size: B.

    Raises:
        MissingWeightsError: open_clip is not installed.
    """

    name = "clip"

    def __init__(self, model: StyleModel, heads: EditHeads, held_out: EditHeads, batch_size: int = 96) -> None:
        try:
            from open_clip.loss import ClipLoss
        except ImportError as error:
            raise MissingWeightsError("Training the small CLIP needs open_clip: pip install headlift[clip].") from error
        self._contrast = ClipLoss()
        self._model, self._heads, self.held_out, self._batch = model, heads, held_out, batch_size
        self._values = [values_of(record) for record in heads.records]
        self._rarity = {group: _rarity(group, self._values) for group in GROUPS}
        features = heads.features.flatten(0, 1)
        model.feature_mean.copy_(features.mean(0))
        model.feature_spread.copy_(features.std(0).clamp_min(1e-3))

    @property
    def module(self) -> nn.Module:
        """Both towers."""
        return self._model

    def parameters(self) -> list[nn.Parameter]:
        """All of them."""
        return list(self._model.parameters())

    def draw(self, generator: torch.Generator) -> ClipBatch:
        """Different heads, each with one description, and one phrase for every trait."""
        count = min(self._batch, len(self._heads))
        rows = torch.randperm(len(self._heads), generator=generator)[:count]
        views = torch.randint(self._heads.features.shape[1], (count,), generator=generator)
        rng = np.random.default_rng(int(torch.randint(2**31, (1,), generator=generator)))
        texts = [description(self._heads.records[i], rng) for i in rows.tolist()]
        features = self._heads.features[rows, views]
        noise = torch.randn(features.shape, generator=generator)
        phrases = [str(rng.choice(ways)) for group in GROUPS.values() for ways in group.values()]
        return ClipBatch(features, noise, texts, phrases, [self._values[i] for i in rows.tolist()])

    def loss(self, batch: ClipBatch, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Contrast of whole descriptions, and cross-entropy of single traits."""
        model = self._model
        noise = batch.noise * model.feature_spread
        pictures = model.embed_features(batch.features + _FEATURE_NOISE * noise)
        scale = model.logit_scale.exp().clamp(max=100)
        contrast = self._contrast(pictures, model.embed_texts(batch.texts), scale)
        named = self._named(pictures, batch, scale)
        return contrast + _GROUP_WEIGHT * named, {"contrast": contrast, "named": named}

    def _named(self, pictures: Tensor, batch: ClipBatch, scale: Tensor) -> Tensor:
        """Mean cross-entropy of naming each group's value, by one phrase of each."""
        words = self._model.embed_texts(batch.phrases)
        losses, start = [], 0
        for group, ways in GROUPS.items():
            names = list(ways)
            known = [(row, names.index(v[group])) for row, v in enumerate(batch.values) if group in v]
            if known:
                rows, wanted = torch.tensor(known, device=pictures.device).T
                logits = scale * pictures[rows] @ words[start : start + len(names)].T
                losses.append(F.cross_entropy(logits, wanted, self._rarity[group].to(pictures.device)))
            start += len(names)
        return torch.stack(losses).mean()

    def figures(self) -> dict[str, float]:
        """Retrieval and zero-shot figures of held-out heads; see `retrieval` and `zero_shot`."""
        return retrieval(self._model, self.held_out) | zero_shot(self._model, self.held_out)

    def pictures(self) -> dict[str, Tensor]:
        """None: there is nothing to look at."""
        return {}


@torch.no_grad()
def fit_traits(model: StyleModel, heads: EditHeads, *, ridge: float = 8.0) -> float:
    """Fill how far each trait moves a picture's embedding: ridge regression on all traits at once.

    Traits that go together in the data (old and grey) are told apart as far as the data allow.

    Returns:
        Share of the embeddings' variance that traits explain.
    """
    rows = {(group, value): row for row, (group, value, _) in enumerate(model.vocabulary.traits)}
    there = torch.zeros(len(heads), len(rows), dtype=torch.float64)
    for head, record in enumerate(heads.records):
        for group, value in values_of(record).items():
            there[head, rows[group, value]] = 1
    views = heads.features.shape[1]
    styles = model.embed_features(heads.features.flatten(0, 1)).double()
    there = there.repeat_interleave(views, 0)
    centred, target = there - there.mean(0), styles - styles.mean(0)
    gram = centred.T @ centred + ridge * views * torch.eye(len(rows), dtype=torch.float64)
    found = torch.linalg.solve(gram, centred.T @ target)
    model.look.copy_(styles.mean(0))
    for group in GROUPS:  # from the mean of those whose value is known
        own = [row for (name, _), row in rows.items() if name == group]
        model.traits[own] = (
            found[own] - (there[:, own].sum(0) @ found[own]) / there[:, own].sum().clamp_min(1)
        ).float()
    return float(1 - (target - centred @ found).square().sum() / target.square().sum())


def _rarity(group: str, values: list[dict[str, str]]) -> Tensor:
    """Weight of each value: glasses are rare, and "no glasses" must not be the answer to everything."""
    counts = torch.tensor([sum(v.get(group) == name for v in values) for name in GROUPS[group]])
    weight = counts.clamp_min(1).float().rsqrt()
    return weight / weight.mean()


@torch.no_grad()
def retrieval(model: StyleModel, heads: EditHeads) -> dict[str, float]:
    """How often the right one of N is first, or among the first five: words for a front picture, and the reverse.

    Descriptions name every trait that is known.
    """
    rng = np.random.default_rng(_HELD_OUT_SEED)
    texts = [", ".join(str(rng.choice(GROUPS[g][v])) for g, v in values_of(r).items()) for r in heads.records]
    similar = model.embed_features(heads.features[:, 0]) @ model.embed_texts(texts).T
    figures: dict[str, float] = {"retrieval_of": float(len(heads))}
    for name, scores in (("words_to_picture", similar.T), ("picture_to_words", similar)):
        rank = (scores > scores.diagonal()[:, None]).sum(1)
        figures[f"{name}_top1"] = round(float((rank < 1).float().mean()), 4)
        figures[f"{name}_top5"] = round(float((rank < 5).float().mean()), 4)
    return figures


@torch.no_grad()
def zero_shot(model: StyleModel, heads: EditHeads) -> dict[str, float]:
    """Share of held-out front pictures whose trait is named rightly, by group, beside always saying the commonest."""
    pictures = model.embed_features(heads.features[:, 0])
    return _accuracies(model, pictures, [values_of(r) for r in heads.records])


def _accuracies(model: StyleModel, pictures: Tensor, values: list[dict[str, str]]) -> dict[str, float]:
    found: dict[str, float] = {}
    for group, ways in GROUPS.items():
        named = name_values(model, pictures, group)
        pairs = [(named[i], v[group]) for i, v in enumerate(values) if group in v]
        if pairs:
            true = [b for _, b in pairs]
            found[f"zero_shot_{group.replace(' ', '_')}"] = round(sum(a == b for a, b in pairs) / len(pairs), 4)
            found[f"commonest_{group.replace(' ', '_')}"] = round(max(true.count(v) for v in ways) / len(true), 4)
    return found


@torch.no_grad()
def name_values(model: StyleModel, pictures: Tensor, group: str) -> list[str]:
    """The value of a group whose phrases are nearest to each embedded picture [B, D]."""
    names = list(GROUPS[group])
    means = [F.normalize(model.embed_texts(GROUPS[group][name]).mean(0), dim=-1) for name in names]
    return [names[i] for i in (pictures @ torch.stack(means).T).argmax(1).tolist()]
