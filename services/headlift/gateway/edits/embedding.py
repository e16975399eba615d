"""Styles: from the terms of a style to points on the sphere of embeddings."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from threading import Lock

from torch import Tensor

from headlift.errors import InvalidInputError
from headlift.gateway.edits.requests import parse_head
from headlift.gateway.edits.stage import EditStage
from headlift.gateway.edits.styles import Term, bad_style, embedding_of
from headlift.gateway.edits.subjects import Subjects, note_cached
from headlift.gateway.portraits import PortraitCache
from headlift.gateway.validation import parse_creation
from headlift.model.types import Portrait
from headlift.stages.clock import Stopwatch
from headlift.stages.stop_token import StopToken
from headlift.v1 import head_service_pb2

_KEPT_MAX = 256
_WORDS_MAX = 64


class Embedder:
    """Embeds words, pictures and heads; blocks.

    What words and pictures were embedded as is remembered in memory alone: pictures may be of other people, and
    nothing of them is stored before they are part of an edit.
    """

    def __init__(self, subjects: Subjects, portraits: PortraitCache, *, picture_bytes_max: int) -> None:
        self._subjects, self._portraits, self._picture_bytes_max = subjects, portraits, picture_bytes_max
        self._kept: OrderedDict[tuple[str, ...], Tensor] = OrderedDict()
        self._lock = Lock()

    def mix(
        self,
        terms: Sequence[Term],
        tenant: str,
        stage: EditStage,
        watch: Stopwatch,
        token: StopToken,
        about: Tensor | None = None,
    ) -> Tensor:
        """The embedding [D] of a style; what its words do not name stays as in ``about``, the style of the edited head.

        InvalidInputError: as the contract says of EmbedStyle.
        """
        styles = [self.term(term, tenant, stage, watch, token, about) for term in terms]
        total = sum(term.weight for term in terms)
        if len(styles) == 1:
            return styles[0]
        return blended(stage, styles, [term.weight / total for term in terms], terms[0].field.rpartition(".")[0])

    def term(
        self,
        term: Term,
        tenant: str,
        stage: EditStage,
        watch: Stopwatch,
        token: StopToken,
        about: Tensor | None = None,
    ) -> Tensor:
        """The embedding [D] of one part of a style; see ``mix``."""
        token.check()
        message = term.message
        if term.source == "embedding":
            style = embedding_of(message.embedding, stage.fingerprint, f"{term.field}.embedding")
            if len(style) != stage.style_dim:
                raise bad_style(f"{term.field} has {len(style)} numbers; {stage.style_dim} are needed.", term.field)
            return style
        if term.source == "head":
            subject = self._subjects.find(parse_head(message.head, tenant, f"{term.field}.head"), stage)
            return self._subjects.style(subject, stage, watch, token)
        if term.source == "text" and about is not None:  # cheap, and another result for every head
            return self._embed(term, tenant, stage, watch, token, about)
        content = message.text.encode() if term.source == "text" else message.picture
        name = (stage.fingerprint, tenant, term.source, hashlib.sha256(content).hexdigest())
        if (cached := self._recall(name)) is not None:
            note_cached(watch, "embed")
            return cached
        style = self._embed(term, tenant, stage, watch, token)
        self._keep(name, style)
        return style

    def portrait(self, tenant: str, picture: bytes, field: str, watch: Stopwatch, token: StopToken) -> Portrait:
        """The portrait in a picture, of which nothing is kept. Raises what CreateHead raises, about ``field``."""
        try:
            request = head_service_pb2.CreateHeadRequest(parent=f"tenants/{tenant}", picture=picture)
            creation = parse_creation(request, refine_steps_default=0, picture_bytes_max=self._picture_bytes_max)
            return self._portraits.preprocess(creation, watch, token, keep=False).portrait
        except InvalidInputError as error:
            error.field = field
            raise

    def ignored(self, terms: Sequence[Term], stage: EditStage) -> list[str]:
        """The words that are passed over."""
        words = [word for t in terms if t.source == "text" for word in stage.unknown_words(t.message.text)]
        return list(dict.fromkeys(words))[:_WORDS_MAX]

    def _embed(
        self,
        term: Term,
        tenant: str,
        stage: EditStage,
        watch: Stopwatch,
        token: StopToken,
        about: Tensor | None = None,
    ) -> Tensor:
        if term.source == "text":
            try:
                with watch.timing("embed"):
                    return stage.embed_text(term.message.text, about)
            except InvalidInputError as error:  # UNKNOWN_WORDS
                error.field = f"{term.field}.text"
                raise
        portrait = self.portrait(tenant, term.message.picture, f"{term.field}.picture", watch, token)
        with watch.timing("embed"):
            return stage.embed_picture(portrait)

    def _recall(self, name: tuple[str, ...]) -> Tensor | None:
        with self._lock:
            if name in self._kept:
                self._kept.move_to_end(name)
            return self._kept.get(name)

    def _keep(self, name: tuple[str, ...], style: Tensor) -> None:
        with self._lock:
            self._kept[name] = style
            while len(self._kept) > _KEPT_MAX:
                self._kept.popitem(last=False)


def blended(stage: EditStage, styles: Sequence[Tensor], weights: Sequence[float], field: str) -> Tensor:
    """A mix of styles. InvalidInputError: BAD_STYLE, they cancel each other out."""
    try:
        return stage.blend(styles, weights)
    except InvalidInputError as error:
        raise bad_style(f"{error.message} Leave one out, or change its weight.", field) from None
