"""Groups of runs that were started apart: what is averaged, and what is compared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from run_folders import config_of, make_run, results_of

from dltrain.runs.listing.index import all_summaries
from dltrain.runs.listing.rows import Row, grouped_rows
from dltrain.runs.listing.verdicts import verdicts
from dltrain.statistics import summarize

ACCURACY = "test/accuracy"
SCORES = (0.90, 0.93, 0.91, 0.94, 0.92)


def make(root: Path, number: int, score: float | None, lr: float = 0.001, **more: Any) -> None:
    """Make a run; without a score, it has failed. `more` are parts of configuration or manifest."""
    results = results_of(score) if score is not None else {"status": "failed", "metrics": {}}
    manifest = {key: more.pop(key) for key in ("dataset_fingerprint", "settings") if key in more}
    config = config_of(more.pop("seed", number % 10), lr, **more)
    make_run(root, f"2030-01-02/10-00-00-{number:06d}_mlp_digits", config, results, **manifest)


def make_five(
    root: Path, first: int = 0, lr: float = 0.001, less: float = 0.0, **more: Any
) -> None:
    for seed, score in enumerate(SCORES):
        make(root, first + seed, score - less * (1 + seed % 2), lr, **more)


def rows_of(root: Path, *keys: str) -> list[Row]:
    return grouped_rows(all_summaries(root), keys)


def said(root: Path, *keys: str) -> list[str]:
    return verdicts(rows_of(root, *keys), keys)


def test_runs_that_were_started_apart_are_compared_in_pairs(tmp_path: Path) -> None:
    make_five(tmp_path)
    make_five(tmp_path, 10, lr=0.1, less=0.02)
    (line, _) = said(tmp_path)
    assert line.startswith("lr=0.001 is better than lr=0.1 by 0.0280 ± 0.0136 test/accuracy (5 pai")
    assert said(tmp_path, "optimizer.lr") == said(tmp_path)


def test_a_difference_within_the_noise(tmp_path: Path) -> None:
    make_five(tmp_path)
    for seed, score in enumerate(SCORES):
        make(tmp_path, 10 + seed, score + 0.01 * (-1) ** seed, 0.1)
    (line, _) = said(tmp_path)
    assert "is within the noise (5 paired seeds, p = 0." in line


def test_a_failed_run_does_not_count(tmp_path: Path) -> None:
    make_five(tmp_path)
    make_five(tmp_path, 10, lr=0.1, less=0.02)
    make(tmp_path, 5, None)
    (row,) = [row for row in rows_of(tmp_path) if len(row.runs) == 6]
    assert row.summary(ACCURACY) == summarize(SCORES)
    assert row.count == 5
    assert said(tmp_path)[-1] == "only finished runs count: 5 of 6 seeds of lr=0.001"
    make(tmp_path, 25, 0.7, seed=5)  # the failed seed is trained again
    assert "only finished" not in said(tmp_path)[-1]


def test_figures_so_far_count_only_without_finished_runs(tmp_path: Path) -> None:
    make_run(tmp_path, "2030-01-02/10-00-00-000001_mlp", config_of(0))
    open_run = make_run(tmp_path, "2030-01-02/10-00-00-000002_mlp", config_of(1))
    (open_run / "metrics.jsonl").write_text('{"epoch": 1, "step": 1, "val/accuracy": 0.3}\n')
    (row,) = rows_of(tmp_path)
    assert row.value("val/accuracy") == 0.3
    assert verdicts([row], []) == []
    make(tmp_path, 3, 0.9)
    (row,) = rows_of(tmp_path)
    assert row.value("val/accuracy") == 0.9


def test_a_repeated_seed_is_no_independent_run(tmp_path: Path) -> None:
    """Ten runs of two seeds have n = 2; each seed counts with its mean."""
    for number in range(10):
        make(tmp_path, number, (0.8, 0.9)[number % 2] + 0.001 * (number // 2), seed=number % 2)
    (row,) = rows_of(tmp_path)
    assert row.summary(ACCURACY).n == row.count == 2
    assert row.summary(ACCURACY).mean == pytest.approx(0.852)
    assert row.summary(ACCURACY).std == pytest.approx(0.1 / 2**0.5)


@pytest.mark.parametrize(
    "other",
    [
        {"dataset_fingerprint": "b"},
        {"dataset": config_of()["dataset"] | {"val_fraction": 0.3}},
        {"dataset": config_of()["dataset"] | {"folds": 5, "fold": 1}},
        {"task": {"_target_": "dltrain.tasks.regression.Regression"}},
    ],
    ids=["fingerprint", "split", "fold", "task"],
)
def test_other_data_is_not_compared(other: dict[str, Any], tmp_path: Path) -> None:
    """Other data, splits, folds or tasks: neither averaged nor compared, whatever the keys are."""
    make_five(tmp_path)
    make_five(tmp_path, 10, less=0.02, **other)
    assert [row.count for row in rows_of(tmp_path)] == [5, 5]
    assert [row.count for row in rows_of(tmp_path, "model")] == [5, 5]
    assert said(tmp_path) == said(tmp_path, "model") == []
    make_five(tmp_path, 20, lr=0.1, less=0.03)
    heading, first, *_, last = said(tmp_path)
    assert heading.endswith(":")
    assert "better than" in first
    assert (
        last == "groups with other data, splits, tasks or losses are not compared with each other"
    )


def test_comparable_parts_have_a_heading(tmp_path: Path) -> None:
    for part, name in enumerate(("digits", "photos")):
        for i, lr in enumerate((0.001, 0.1)):
            settings = {"model": "mlp", "dataset": name, "optimizer.lr": lr}
            first = 100 * part + 10 * i
            make_five(tmp_path, first, lr, 0.02 * i, dataset_fingerprint=name, settings=settings)
    summaries = all_summaries(tmp_path)
    for run in summaries:
        run.choices["dataset"] = "photos" if "-0001" in run.path else "digits"
    lines = verdicts(grouped_rows(summaries), [])
    assert lines[0] == "dataset=photos:"
    assert lines[1].startswith("lr=0.001 is better than lr=0.1")
    assert "dataset=digits:" in lines
    for run in summaries:
        run.choices["dataset"] = run.settings["dataset"] = "digits"
    assert verdicts(grouped_rows(summaries), [])[0] == "the data of 10-00-00-000114:"


def test_values_of_other_losses_are_not_compared(tmp_path: Path) -> None:
    """The accuracy is, and the loss is not."""
    smooth = {"_target_": "CrossEntropy", "smoothing": 0.1}
    for first, loss in ((0, {"_target_": "CrossEntropy", "smoothing": 0.0}), (10, smooth)):
        make_five(tmp_path, first, less=first / 500, loss=loss)
    assert "test/accuracy" in said(tmp_path)[0]
    summaries = all_summaries(tmp_path)
    for run in summaries:
        run.watch, run.mode = "val/loss", "min"
    assert verdicts(grouped_rows(summaries), []) == []


def test_folds_are_averaged_where_the_keys_ask_for_it(tmp_path: Path) -> None:
    """With the interval for folds, whose training samples overlap; in pairs of folds."""
    for i, lr in enumerate((0.001, 0.1)):
        for fold, score in enumerate(SCORES):
            data = config_of()["dataset"] | {"folds": 5, "fold": fold}
            score = score - i * (0.03 + 0.001 * fold)
            make(tmp_path, 10 * i + fold, score, lr, seed=0, dataset=data)
    assert {row.count for row in rows_of(tmp_path)} == {1}
    assert said(tmp_path) == ['one seed each: no noise is known; add "seed=range(0,5)"']
    row = rows_of(tmp_path, "optimizer.lr")[1]
    assert row.summary(ACCURACY).half_width == pytest.approx(summarize(SCORES, 1 / 4).half_width)
    line = said(tmp_path, "optimizer.lr")[0]
    assert line.startswith("lr=0.001 is better than lr=0.1 by 0.0320")
    assert "(5 paired folds" in line


def test_some_of_the_folds_have_the_interval_of_all(tmp_path: Path) -> None:
    """Two of five folds share as many samples in pairs as five do."""
    for fold, score in enumerate(SCORES[:2]):
        data = config_of()["dataset"] | {"folds": 5, "fold": fold}
        make(tmp_path, fold, score, 0.001, seed=0, dataset=data)
    (row,) = rows_of(tmp_path, "optimizer.lr")
    assert row.summary(ACCURACY) == summarize(SCORES[:2], 1 / 4)


def test_groups_of_different_settings_have_no_interval(tmp_path: Path) -> None:
    make_five(tmp_path)
    make_five(tmp_path, 10, lr=0.1, less=0.02)
    (row,) = rows_of(tmp_path, "model")
    summary = row.summary(ACCURACY)
    assert (summary.n, summary.half_width) == (10, None)
    assert summary.std is not None
    (line,) = said(tmp_path, "model")
    assert line.startswith("groups whose runs differ in more than their seed are not compared")


def test_groups_without_a_setting_of_their_own_have_names(tmp_path: Path) -> None:
    make_five(tmp_path)
    make_five(tmp_path, 10, less=0.02, trainer={"epochs": 3})
    assert said(tmp_path)[0].startswith(
        "(10-00-00-000004) is better than (10-00-00-000014) by 0.0280"
    )


def test_runs_without_a_seed_are_runs(tmp_path: Path) -> None:
    """A run of an earlier version may not say its seed."""
    make_five(tmp_path, seed=None)
    (row,) = rows_of(tmp_path)
    assert row.summary(ACCURACY) == summarize(SCORES)


def test_a_metric_that_some_runs_lack_has_its_own_number(tmp_path: Path) -> None:
    make_five(tmp_path)
    summaries = all_summaries(tmp_path)
    del summaries[0].metrics[ACCURACY]
    (row,) = grouped_rows(summaries)
    assert row.text(ACCURACY).endswith(" (n = 4)")
    assert row.text("test/loss").startswith("0.0800 ± 0.0158")
    assert not row.text("test/loss").endswith(")")
