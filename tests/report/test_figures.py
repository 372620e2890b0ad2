"""Figures on the screen."""

from __future__ import annotations

from dltrain.report.figures import figure_rows


def test_of_very_many_figures_the_first_are_shown_and_where_the_others_are() -> None:
    figures = {f"test/mse_t+{i}": float(i) for i in range(60)}
    rows = figure_rows(None, figures, "results.json has all")
    assert len(rows) == 41
    assert rows[39:] == [("test/mse_t+39", "39.0000"), ("and 20 more", "results.json has all")]
    few = dict(list(figures.items())[:40])
    assert [name for name, _ in figure_rows(None, few, "")] == list(few)
