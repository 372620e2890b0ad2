"""Figures on the screen."""

from __future__ import annotations

from dltrain.report.figures import figure_rows


def test_many_figures_are_cut_with_a_hint_to_the_others() -> None:
    figures = {f"test/mse_t+{i}": float(i) for i in range(60)}
    rows = figure_rows(None, figures, "results.json has all")
    assert len(rows) == 41
    assert rows[39:] == [("test/mse_t+39", "39.0000"), ("and 20 more", "results.json has all")]
    few = dict(list(figures.items())[:40])
    assert [name for name, _ in figure_rows(None, few, "")] == list(few)
