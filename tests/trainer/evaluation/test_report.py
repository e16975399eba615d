"""One page, no network, every number."""

from __future__ import annotations

from html.parser import HTMLParser

import torch

from headlift_trainer.evaluation.report import Chart, Report, Tile, flattened
from headlift_trainer.evaluation.sheets import TILE, Sheet, chosen, strip

FIGURES = {"a": 1.25, "b": {"c": [3, None], "d": "x<y"}, "e": -0.5}


class Balanced(HTMLParser):
    """Counts tags that are left open."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sources: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.sources += [str(value) for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "img", "br", "line", "circle", "polyline"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in ("line", "circle", "polyline"):
            assert self.open.pop() == tag


def page() -> str:
    pictures = strip("truth", torch.rand(3, 3, 20, 20))
    sheet = Sheet("x", "Worst", "about <it>", ("l", "m", "r"), (pictures,))
    chart = Chart("PSNR", ["l", "r"], {"ours": [20.0, None], "mean": [19.0, 18.5], "none": [None, None]})
    return Report(
        "T & co", ["line"], FIGURES, [Tile("1", "one", good=True)], [chart], sheets=[sheet], notes=["n"]
    ).html()


def test_the_page_is_well_formed_and_brings_its_own_pictures() -> None:
    parser = Balanced()
    parser.feed(page())
    assert parser.open == []
    assert len(parser.sources) == 1
    assert all(source.startswith("data:") for source in parser.sources)


def test_the_page_holds_every_figure_and_calls_what_is_absent_so() -> None:
    text = page()
    for path, value in flattened(FIGURES):
        assert path in text
        assert value.replace("<", "&lt;") in text
    assert ("b.c.1", "absent") in flattened(FIGURES)


def test_the_page_follows_light_and_dark() -> None:
    assert "prefers-color-scheme: dark" in page()
    assert "<script" not in page()


def test_a_chart_of_nothing_is_no_chart() -> None:
    assert "<svg" not in Report("T", [], {}, charts=[Chart("c", ["x"], {"a": [None]})]).html()


def test_a_strip_shows_views_side_by_side() -> None:
    import io

    from PIL import Image

    assert Image.open(io.BytesIO(strip("m", torch.rand(3, 3, 300, 300)).webp)).size == (3 * TILE, TILE)


def test_the_worst_the_typical_and_the_best_are_chosen_once_each() -> None:
    scores = {str(i): float(i) for i in range(20)}
    found = chosen(scores)
    assert [found[str(i)] for i in (0, 1, 2)] == ["worst"] * 3
    assert [found[str(i)] for i in (17, 18, 19)] == ["best"] * 3
    assert sum(what == "typical" for what in found.values()) == 3
    assert len(chosen({"a": 1.0, "b": 2.0})) == 2
