"""A small CLIP of our own (Radford et al., ICML 2021): pictures of heads and words about them as points of one sphere.

    portrait --HeadNet, frozen--> what each class shows --MLP--> unit vector
    words --vocabulary--> numbers --small transformer--> unit vector

Trained with open_clip's own loss on generated heads and their captions (headlift_trainer.editing). It knows the words
of its vocabulary and says which words it does not know.

Legend: B batch, S picture side, T words of a text, D width of the embedding, F picture features.
"""

from __future__ import annotations

import re
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from headlift.errors import InvalidInputError
from headlift.model.layers import Mlp, SelfAttentionBlock, resized
from headlift.model.mini.config import HeadNetConfig
from headlift.model.mini.headnet import NUM_CLASSES, HeadNet
from headlift.model.mini.parsing_groups import ParsingGroup, group_probabilities

_SIDE = 128  # pixels a side of what HeadNet gets: enough for colours and shapes
_LEAST = 1e-3  # share of the picture below which a class hardly has a colour
_WORD = re.compile(r"[a-z]+(?:[-'][a-z]+)*|[0-9]+")
_AGE_STEP = 5
_EMPHASIS = 0.9  # how far past the border between two traits an edit goes; 0.5 is the mean of those who have it
_ROUNDS = 2  # traits are not quite independent: naming one may disturb another
_ARTICLES = frozenset(["a", "an", "the", "their", "her", "his"])
_JOINING = frozenset(["and", "with", "in", "of", "to", "on", "for", "wearing"])  # they end a noun phrase
_GENERIC = frozenset(["person", "face", "head"])  # they make no difference: everybody is one, everybody has one


@dataclass(frozen=True)
class StyleConfig:
    """Numbers of the small CLIP."""

    dim: int = 128  # of the embedding
    hidden: int = 384  # of the picture's MLP
    word_dim: int = 96
    depth: int = 1
    num_heads: int = 4
    words_max: int = 40  # of a text; what is longer is cut
    dropout: float = 0.3  # of picture features, in training

    def __post_init__(self) -> None:
        for name in ("dim", "hidden", "word_dim", "depth", "num_heads", "words_max"):
            if getattr(self, name) < 1:
                raise InvalidInputError(f"{name} is {getattr(self, name)}; it must be > 0.", field=name)
        if self.word_dim % self.num_heads:
            raise InvalidInputError(
                f"word_dim is {self.word_dim}; it must be a multiple of num_heads {self.num_heads}.", field="word_dim"
            )


@dataclass(frozen=True)
class Vocabulary:
    """The words that a text tower knows.

    Attributes:
        words: In the order of their numbers; number 0 is no word, so that the first word has number 1.
        synonyms: Other words, and what each is read as (one or several known words).
        silent: Words that carry no style and are passed over ("make", "please").
        traits: What heads differ in: a group, a value of it, and phrases that name it; values exclude each other.
    """

    words: tuple[str, ...]
    synonyms: tuple[tuple[str, str], ...] = ()
    silent: tuple[str, ...] = ()
    traits: tuple[tuple[str, str, tuple[str, ...]], ...] = ()

    def read(self, text: str) -> tuple[list[int], list[str]]:
        """Numbers of the known words in order, and the unknown words as they were read (lower case)."""
        known: list[int] = []
        unknown: list[str] = []
        for word in _spelled(text, self._meanings):
            if word in self._meanings:
                known += self._meanings[word]
            else:
                unknown.append(word)
        return known, unknown

    def named(self, text: str) -> dict[str, int]:
        """Which traits a text names: group -> row in ``traits``; the longest phrase of each group counts."""
        words_read = self._plain(text)
        best: dict[str, tuple[int, int]] = {}
        for row, (group, _, _) in enumerate(self.traits):
            length = max((len(p) for p in self._phrases[row] if _follows(words_read, p, self._borders)), default=0)
            if length > best.get(group, (0, 0))[0]:
                best[group] = length, row
        return {group: row for group, (_, row) in best.items()}

    def rivals(self, group: str) -> list[int]:
        """Rows of all values of a group in ``traits``."""
        return [row for row, (other, _, _) in enumerate(self.traits) if other == group]

    def _plain(self, text: str) -> list[str]:
        """The known words of a text, synonyms replaced."""
        return [self.words[number - 1] for number in self.read(text)[0]]

    @cached_property
    def _phrases(self) -> list[list[list[str]]]:
        """Words of each trait's phrases that make the difference."""
        every = []
        for _, _, phrases in self.traits:
            plain = [[w for w in self._plain(phrase) if w not in _ARTICLES | _JOINING] for phrase in phrases]
            every.append([[w for w in p if w not in _GENERIC] or p for p in plain])
        return every

    @cached_property
    def _borders(self) -> frozenset[str]:
        """Words that end a noun phrase: those that phrases end with, and those that join."""
        return _JOINING | {phrase[-1] for phrases in self._phrases for phrase in phrases if len(phrase) > 1}

    @cached_property
    def _meanings(self) -> Mapping[str, list[int]]:
        """Numbers of every word that may be written."""
        numbers = {word: i for i, word in enumerate(self.words, 1)}
        read: dict[str, list[int]] = {word: [] for word in self.silent}
        read |= {
            word: [numbers[part] for part in meaning.split() if part in numbers] for word, meaning in self.synonyms
        }
        return read | {word: [number] for word, number in numbers.items()}


def _follows(words_read: list[str], phrase: list[str], borders: frozenset[str]) -> bool:
    """Whether the words of a phrase follow in order within one noun phrase: "long red hair" names "long hair"."""
    for start, word in enumerate(words_read):
        if not phrase or word != phrase[0]:
            continue
        left = phrase[1:]
        for later in words_read[start + 1 :]:
            if not left:
                break
            if later == left[0]:
                left = left[1:]
            elif later in borders:
                break
        if not left:
            return True
    return False


def _spelled(text: str, known: Container[str]) -> list[str]:
    """Words of a text; hyphened ones apart where only their parts are known, ages in steps of five years."""
    words: list[str] = []
    for word in _WORD.findall(text.lower().replace("’", "'")):
        if word.isdigit():
            words.append(str(_AGE_STEP * round(int(word[:4]) / _AGE_STEP)))
        elif word in known or not re.search("[-']", word):
            words.append(word)
        else:
            words += re.split("[-']", word)
    return words


class StyleModel(nn.Module):
    """Both towers. The picture tower reads features that ``picture_features`` makes with a frozen HeadNet."""

    def __init__(self, config: StyleConfig, vocabulary: Vocabulary, feature_dim: int) -> None:
        super().__init__()
        self.config, self.vocabulary = config, vocabulary
        self.feature_mean: Tensor
        self.feature_spread: Tensor
        self.register_buffer("feature_mean", torch.zeros(feature_dim))
        self.register_buffer("feature_spread", torch.ones(feature_dim))
        self.drop = nn.Dropout(config.dropout)
        self.picture = Mlp(feature_dim, config.hidden, config.dim)
        self.words = nn.Embedding(len(vocabulary.words) + 1, config.word_dim, padding_idx=0)
        self.places = nn.Parameter(0.02 * torch.randn(config.words_max, config.word_dim))
        self.blocks = nn.ModuleList(
            SelfAttentionBlock(config.word_dim, config.num_heads, 2.0) for _ in range(config.depth)
        )
        self.norm = nn.LayerNorm(config.word_dim)
        self.out = nn.Linear(config.word_dim, config.dim)
        self.logit_scale = nn.Parameter(torch.tensor(2.66))  # log(1 / 0.07), as CLIP starts
        self.look: Tensor  # [D] the mean style embedding, not normalised; files call it so
        self.traits: Tensor  # [K, D] where pictures with each trait lie from there, other traits being equal
        self.register_buffer("look", torch.zeros(config.dim))
        self.register_buffer("traits", torch.zeros(len(vocabulary.traits), config.dim))

    def embed_features(self, features: Tensor) -> Tensor:
        """Picture features [B, F] -> unit vectors [B, D]."""
        x = self.drop(((features - self.feature_mean) / self.feature_spread).clamp(-6, 6))
        return F.normalize(self.picture(x), dim=-1)

    def embed_words(self, numbers: Tensor) -> Tensor:
        """Word numbers [B, T], 0 where there is none -> unit vectors [B, D]."""
        mask = numbers > 0
        x = self.words(numbers) + self.places[: numbers.shape[1]]
        for block in self.blocks:
            x = block(x, mask)
        weight = mask[..., None].to(x.dtype)
        mean = (self.norm(x) * weight).sum(1) / weight.sum(1).clamp_min(1)
        return F.normalize(self.out(mean), dim=-1)

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """Texts -> unit vectors [B, D].

        Raises:
            InvalidInputError: UNKNOWN_WORDS: no word of one of them is known.
        """
        return self.embed_words(self.numbers(texts).to(self.places.device))

    def embed_change(self, text: str, about: Tensor) -> Tensor:
        """The style ``about`` [D] with what a text names in place of what was there: [D] unit.

        What the text does not name stays: "red hair" changes no skin. A text that names no trait is taken as a whole.

        Raises:
            InvalidInputError: UNKNOWN_WORDS, as ``embed_texts``.
        """
        whole = self.embed_texts([text])[0]
        named = self.vocabulary.named(text)
        if not named:
            return whole
        moved = about.to(self.traits) - self.look
        for _ in range(_ROUNDS):
            for group, row in named.items():
                for rival in self.vocabulary.rivals(group):
                    if rival != row:
                        moved = moved + self._push(moved, self.traits[row], self.traits[rival])
        return F.normalize(self.look + moved, dim=-1)

    def _push(self, place: Tensor, wanted: Tensor, rival: Tensor) -> Tensor:
        """The shortest step that brings a place [D] as far to the side of ``wanted`` as is meant; often none."""
        apart = wanted - rival
        reach = apart.square().sum().clamp_min(1e-8)
        now = ((place - (wanted + rival) / 2) * apart).sum() / reach  # 0.5 at the mean of pictures with the trait
        return (_EMPHASIS - now).clamp_min(0) * apart

    def numbers(self, texts: Sequence[str]) -> Tensor:
        """Word numbers [B, T] int64, 0 where there is none; T is the longest. Raises as ``embed_texts``."""
        rows = torch.zeros(len(texts), self.config.words_max, dtype=torch.int64)
        for row, text in zip(rows, texts, strict=True):
            known, unknown = self.vocabulary.read(text)
            if not known:
                raise InvalidInputError(
                    f"No word of {' '.join(unknown) or 'the text'!r} is known; describe hair, skin, age, beard, "
                    "glasses, hat, make-up or clothes in plain English.",
                    reason="UNKNOWN_WORDS",
                    field="text",
                )
            known = known[: self.config.words_max]
            row[: len(known)] = torch.tensor(known)
        return rows[:, : max(1, int((rows > 0).sum(1).max()))]


def feature_width(config: HeadNetConfig) -> int:
    """Numbers in ``picture_features``."""
    return 7 * NUM_CLASSES + (2 + len(ParsingGroup)) * config.dim


@torch.no_grad()
def picture_features(net: HeadNet, rgba: Tensor) -> Tensor:
    """Statistics of matted portraits, class by class, by HeadNet: [B, F].

    Mean colour, spread of colour and share of each class; the class token of two blocks; mean tokens of each group of
    classes. Colours by class make "red hair" and "a blue shirt" plain to a linear layer.

    Args:
        net: Frozen, trained.
        rgba: [B, 4, S, S] RGB multiplied by alpha, and alpha, 0..1.
    """
    portrait = resized(rgba, _SIDE)
    output, layers = net.read(portrait[:, :3])
    shares = output.parsing.float().softmax(1)
    small = F.interpolate(portrait, shares.shape[-2:], mode="area")
    shares = shares * small[:, 3:]
    straight = small[:, :3] / small[:, 3:].clamp_min(0.05)
    area = shares.mean((2, 3))  # [B, 19]
    sums = torch.einsum("bchw,bdhw->bcd", shares, straight) / shares[0, 0].numel()
    squares = torch.einsum("bchw,bdhw->bcd", shares, straight.square()) / shares[0, 0].numel()
    color = sums / (area + _LEAST)[..., None]
    spread = (squares / (area + _LEAST)[..., None] - color.square()).clamp_min(0).sqrt()
    tokens = layers[-1][:, 1:].float()
    side = int(tokens.shape[1] ** 0.5)
    groups = F.adaptive_avg_pool2d(group_probabilities(shares), side).flatten(2)  # [B, 6, G * G]
    means = groups @ tokens / (groups.sum(2, keepdim=True) + _LEAST)
    statistics = [color, spread, area[..., None].sqrt(), means]
    whole = [layers[len(layers) // 2][:, 0].float(), layers[-1][:, 0].float()]
    return torch.cat([part.flatten(1) for part in statistics] + whole, -1)
