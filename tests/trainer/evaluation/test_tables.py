"""Tables say what was measured, mark the best, and never print a zero for what was not."""

from __future__ import annotations

import torch

from headlift_trainer.evaluation import published
from headlift_trainer.evaluation.records import Records
from headlift_trainer.evaluation.tables import Column, Row, Table, method_table


def small() -> Table:
    columns = (Column("psnr", "Novel"), Column("lpips", "Novel"), Column("csim"))
    return Table(
        "T",
        columns,
        (Row("a", (20.0, 0.3, None)), Row("b", (21.0, 0.3, None)), Row("p", (30.0, 0.1, None), published=True)),
    )


def test_the_best_is_marked_by_the_metrics_own_sense_and_never_a_published_row() -> None:
    assert small().best() == [{1}, {0, 1}, set()]


def test_what_was_not_measured_is_called_absent() -> None:
    table = small()
    assert table.texts()[0] == ["20.00", "0.300", "absent"]
    assert table.texts()[2] == ["30.0", "0.100", "—"]
    assert table.json()["rows"][0]["values"] == [20.0, 0.3, None]
    assert "absent" in table.markdown()
    assert "absent" in table.html()


def test_markdown_rows_have_as_many_cells_as_the_head() -> None:
    lines = [line for line in small().markdown().splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in lines}) == 1
    assert "Novel: PSNR ↑" in lines[0]


def test_html_is_escaped() -> None:
    table = Table("a<b", (Column("psnr"),), (Row("<x>", (1.0,)),))
    assert "<x>" not in table.html()
    assert "a&lt;b" in table.html()


def test_a_method_table_has_the_papers_columns_and_its_rows_for_reference() -> None:
    records = Records()
    records.add("ours", "x", "front", [("left", "novel"), ("right", "extreme")], {"psnr": torch.tensor([18.0, 17.0])})
    table = method_table(records, "Ava-256", published=published.AVA256.rows)
    assert [c.metric for c in table.columns] == ["psnr", "ssim", "lpips", "dreamsim", "arcface"] * 2
    assert table.rows[0].cells[0] == 18
    assert table.rows[0].cells[5] == 17
    assert table.rows[-1].label == "PercHead"


def test_published_rows_fit_their_columns() -> None:
    for table in published.ALL:
        assert all(len(row.cells) == len(table.columns) and row.published for row in table.rows)
