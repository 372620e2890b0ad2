"""Groups of jobs that differ in their seed or fold: figures, the table, and sentences."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from run_folders import config_of, make_run, results_of

from dltrain.runs.comparison.groups import RunGroup
from dltrain.runs.comparison.verdicts import MAX_SENTENCES, comparison
from dltrain.statistics import summarize
from dltrain.sweeps.summary.groups import groups_of, groups_report, keys_that_differ

MODEL = "model"
ACCURACY = "test/accuracy"


def job(accuracy: float | None, *overrides: str, status: str = "completed", **more: Any) -> dict:
    """Return the row of a job."""
    row: dict[str, Any] = {"job": 0, "overrides": list(overrides), "status": status, "metrics": {}}
    if status in ("completed", "stopped"):
        row["metrics"] = {ACCURACY: accuracy, "val/loss": 0.5, "train/loss": 0.1}
        row["best"] = {"metric": "val/accuracy", "mode": "max", "value": accuracy}
    return row | more


def jobs(model: str, scores: Sequence[float | None], **more: Any) -> list[dict]:
    return [
        job(score, f"model={model}", f"seed={seed}", **more) for seed, score in enumerate(scores)
    ]


def group(label: str, scores: Sequence[float], first_seed: int = 0) -> RunGroup:
    values = {first_seed + i: score for i, score in enumerate(scores)}
    return RunGroup(label, {}, len(values), {ACCURACY: values})


BETTER = (0.921, 0.934, 0.928, 0.919, 0.931)
WORSE = (0.909, 0.920, 0.918, 0.907, 0.917)


def test_a_group_has_the_scores_of_its_seeds() -> None:
    rows = [*jobs("mlp", WORSE), *jobs("cnn", BETTER)]
    mlp, cnn = groups_of(rows, [MODEL, "seed"])
    assert (mlp.label, cnn.label) == ("model=mlp", "model=cnn")
    assert (cnn.started, cnn.n, cnn.unit, cnn.settings) == (5, 5, "seed", {"model": "cnn"})
    assert set(cnn.metrics) == {ACCURACY, "val/loss", "best val/accuracy"}
    assert cnn.metrics[ACCURACY] == summarize(BETTER)


def test_the_better_group_is_named() -> None:
    (line, legend) = comparison([group("a", WORSE), group("b", BETTER)], ACCURACY, "max")
    assert line == "b is better than a by 0.0124 ± 0.0021 test/accuracy (5 paired seeds, p < 0.001)"
    assert "95 % interval" in legend
    (line, _) = comparison([group("a", WORSE), group("b", BETTER)], ACCURACY, "min")
    assert line.startswith("a is better than b by 0.0124 ± 0.0021")


def test_the_best_loss_is_the_lowest() -> None:
    high = [2 * value for value in BETTER]
    groups = [group("high", high), group("b", BETTER), group("a", WORSE)]
    lines = comparison(groups, ACCURACY, "min")
    assert [line.partition(" by ")[0] for line in lines[:2]] == [
        "a is better than b",
        "a is better than high",
    ]


def test_without_a_direction_no_group_is_better() -> None:
    (line,) = comparison([group("a", WORSE), group("b", BETTER)], ACCURACY, "")
    assert line.startswith("the runs do not say whether test/accuracy is better high or low")


def test_a_difference_within_the_noise_is_called_that() -> None:
    almost = [value + 0.001 * (-1) ** i for i, value in enumerate(BETTER)]
    (line, _) = comparison([group("b", BETTER), group("c", almost)], ACCURACY, "max")
    assert line.startswith(
        "c and b: the difference 0.0002 ± 0.0014 in test/accuracy is within the "
    )
    assert line.endswith("noise (5 paired seeds, p = 0.7)")


def test_other_seeds_are_not_paired() -> None:
    (line, _) = comparison([group("b", BETTER), group("a", WORSE[:4], 9)], ACCURACY, "max")
    assert "(5 and 4 seeds, p = 0.0" in line
    (line, _) = comparison([group("b", BETTER), group("a", WORSE, 9)], ACCURACY, "max")
    assert "(5 seeds each, p = 0.0" in line


def test_one_seed_has_no_noise() -> None:
    lines = comparison([group("a", WORSE[:1]), group("b", BETTER[:1])], ACCURACY, "max")
    assert lines == ['one seed each: no noise is known; add "seed=range(0,5)"']
    lines = comparison([group("lucky", [0.99]), group("b", BETTER)], ACCURACY, "max")
    assert lines == [
        "b and lucky: the difference 0.0634 in test/accuracy cannot be tested, "
        'lucky has one seed; add "seed=range(0,5)"'
    ]


def test_equal_scores_are_not_significant() -> None:
    same = [0.9, 0.91]
    (line,) = comparison([group("a", same), group("b", same)], ACCURACY, "max")
    assert line == "a and b: no difference in test/accuracy (2 paired seeds)"
    shifted = [value + 0.01 for value in same]
    (line,) = comparison([group("a", same), group("b", shifted)], ACCURACY, "max")
    assert 'cannot be tested, no seed changes it (2 paired seeds); add "seed=range(0,5)"' in line


def test_nothing_is_compared_with_itself_or_with_nothing() -> None:
    assert comparison([group("a", BETTER)], ACCURACY, "max") == []
    assert comparison([group("a", BETTER), RunGroup("b", {}, 5)], ACCURACY, "max") == []
    assert comparison([], ACCURACY, "max") == []


def test_p_values_of_several_groups_are_corrected() -> None:
    close = [value - 0.002 * (i % 3) for i, value in enumerate(BETTER)]  # p = 0.07 alone
    groups = [group("b", BETTER), group("a", WORSE), group("c", close)]
    first, second, legend = comparison(groups, ACCURACY, "max")
    assert first.startswith("b and c: the difference 0.0016 ")
    assert "p = 0.099, corrected p = 0.2)" in first
    assert second.startswith("b is better than a")
    assert legend.endswith("p is corrected for 3 pairs of groups (Holm)")


def test_a_difference_that_many_comparisons_explain() -> None:
    rng = np.random.default_rng(0)
    groups = [group(str(i), (0.8 + 0.01 * rng.normal(size=5)).tolist()) for i in range(8)]
    groups.append(group("best", [0.830, 0.822, 0.829, 0.817, 0.826]))
    text = "\n".join(comparison(groups, ACCURACY, "max"))
    assert "is within the noise of so many comparisons" in text
    assert "36 pairs of groups" in text


def test_the_best_of_equal_groups_is_rarely_called_better() -> None:
    """In at most 5 % of all sweeps over ten settings that make no difference."""
    rng = np.random.default_rng(0)
    wrong = 0
    for _ in range(200):
        groups = [group(str(i), rng.normal(size=4).tolist()) for i in range(10)]
        wrong += any("is better than" in line for line in comparison(groups, ACCURACY, "max"))
    assert wrong <= 10


def test_many_groups_are_counted() -> None:
    groups = [group(str(i), [value - 0.1 * i for value in BETTER]) for i in range(3)]
    groups += [group(f"w{i}", [v - 0.2 - 0.01 * i * v for v in BETTER]) for i in range(30)]
    lines = comparison(groups, ACCURACY, "max")
    assert len(lines) == MAX_SENTENCES + 2
    assert lines[MAX_SENTENCES] == (
        "20 more groups: 20 worse than 0 beyond the noise, 0 within it or not tested"
    )
    assert lines[-1].endswith("p is corrected for 528 pairs of groups (Holm)")


def test_unfinished_jobs_are_counted_and_named() -> None:
    rows = [*jobs("mlp", WORSE), *jobs("cnn", BETTER)]
    rows[1] = job(None, *rows[1]["overrides"], status="failed", reason="RuntimeError: no")
    rows[2] = job(0.999, *rows[2]["overrides"], status="pruned", metrics={ACCURACY: 0.999})
    report = groups_report(rows, [MODEL, "seed"])
    assert "3 of 5" in report
    assert "(3 paired seeds" in report
    assert report.splitlines()[-1] == "  only finished runs count: 3 of 5 seeds of model=mlp"
    assert "0.999" not in report


def test_scores_that_are_no_numbers_do_not_count() -> None:
    rows = [*jobs("mlp", (0.9, math.nan, None, 0.91, math.inf)), *jobs("cnn", BETTER)]
    mlp, _ = groups_of(rows, [MODEL, "seed"])
    assert mlp.metrics[ACCURACY] == summarize([0.9, 0.91])
    assert "2 of 5" in groups_report(rows, [MODEL, "seed"])
    assert "nan" not in groups_report(rows, [MODEL, "seed"]).lower()


def test_without_seeds_there_is_no_report() -> None:
    rows = [job(0.9, "model=mlp"), job(0.8, "model=cnn")]
    assert groups_report(rows, [MODEL]) == ""
    assert [one.n for one in groups_of(rows, [MODEL])] == [1, 1]
    assert groups_report([], []) == ""
    failed = [job(None, "model=mlp", f"seed={seed}", status="failed") for seed in range(2)]
    assert groups_report(failed, ["seed"]) == ""


def test_seeds_alone_are_one_group() -> None:
    report = groups_report(jobs("mlp", WORSE), ["seed"])
    assert report.splitlines()[1].split()[:4] == ["all", ACCURACY, "0.9142", "0.0058"]
    assert len(report.splitlines()) == 3


def test_folds_have_an_interval_for_overlapping_samples() -> None:
    rows = [job(score, f"dataset.fold={fold}", "seed=0") for fold, score in enumerate(BETTER)]
    (folds,) = groups_of(rows, ["dataset.fold"])
    assert (folds.unit, folds.overlap, folds.n) == ("fold", 1 / 4, 5)
    assert folds.metrics[ACCURACY] == summarize(BETTER, 1 / 4)
    assert "folds" in groups_report(rows, ["dataset.fold"]).splitlines()[0]


def test_some_of_the_folds_have_the_interval_of_all(tmp_path: Path) -> None:
    """Two of five folds share as many samples in pairs as five do."""
    rows = []
    for fold, score in enumerate(BETTER[:2]):
        data = config_of()["dataset"] | {"folds": 5, "fold": fold}
        make_run(tmp_path, str(fold), config_of(dataset=data), results_of(score))
        rows.append(job(score, f"dataset.fold={fold}", run=str(tmp_path / str(fold))))
    (folds,) = groups_of(rows, ["dataset.fold"])
    assert folds.metrics[ACCURACY] == summarize(BETTER[:2], 1 / 4)


def test_folds_of_several_seeds_are_runs() -> None:
    rows = [
        job(0.9 + 0.01 * fold + 0.001 * seed, f"dataset.fold={fold}", f"seed={seed}")
        for fold in range(3)
        for seed in range(2)
    ]
    (both,) = groups_of(rows, ["dataset.fold", "seed"])
    assert (both.unit, both.n, both.overlap) == ("run", 6, 1 / 2)
    by_fold = groups_of(rows, ["dataset.fold", "seed"], over=("seed",))
    assert [one.label for one in by_fold] == ["fold=0", "fold=1", "fold=2"]
    assert [one.n for one in by_fold] == [2, 2, 2]


def test_the_metric_in_the_unit_of_the_data_is_shown() -> None:
    rows = jobs("mlp", WORSE) + jobs("cnn", BETTER)
    for row in rows:
        score = row["best"]["value"]
        row["metrics"] = {"test/mse": score**2, "test/rmse": score, "test/r2": 1 - score}
        row["best"] = {"metric": "val/mse", "mode": "min", "value": score**2}
    report = groups_report(rows, [MODEL, "seed"])
    metrics = [line.split()[1] for line in report.splitlines()[1:5]]
    assert metrics == ["test/rmse", "test/rmse", "test/r2", "test/r2"]
    assert "model=mlp is better than model=cnn by 0.0124 ± 0.0021 test/rmse" in report


def test_groups_on_other_data_are_not_compared(tmp_path: Path) -> None:
    """A sweep over data sets compares the models on each of them."""
    rows = []
    for i, (name, model) in enumerate(itertools.product(("digits", "photos"), ("mlp", "cnn"))):
        for seed, score in enumerate(BETTER if model == "cnn" else WORSE):
            path = f"{i}{seed}"
            make_run(tmp_path, path, config_of(seed), results_of(score), dataset_fingerprint=name)
            words = (f"dataset={name}", f"model={model}", f"seed={seed}")
            rows.append(job(score, *words, run=str(tmp_path / path)))
    lines = groups_report(rows, ["dataset", MODEL, "seed"]).splitlines()[9:]
    pairs = [line.strip().partition(" by ")[0] for line in lines if "better" in line]
    assert pairs == [
        "dataset=digits model=cnn is better than dataset=digits model=mlp",
        "dataset=photos model=cnn is better than dataset=photos model=mlp",
    ]
    assert lines[-1].endswith("losses are not compared with each other")


def test_keys_that_differ() -> None:
    rows = [job(0.9, "a=1", "b=1", "+seed=0"), job(0.8, "a=1", "b=2", "++seed=1"), job(0.7, "a=1")]
    assert keys_that_differ(rows) == ["b", "seed"]
    assert keys_that_differ(rows[:1]) == keys_that_differ([]) == []


def test_a_setting_that_some_jobs_lack_is_a_dash() -> None:
    rows = [job(0.9, "seed=0"), job(0.8, "model.dropout=0.1", "seed=0")]
    labels = [one.label for one in groups_of(rows, ["model.dropout", "seed"])]
    assert labels == ["dropout=-", "dropout=0.1"]


def test_long_and_foreign_labels_fit_a_narrow_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "模型 " * 12 + "ünïcødé"
    rows = jobs(name, WORSE) + jobs("cnn", BETTER)
    monkeypatch.setattr("dltrain.report.text.screen_width", lambda: 60)
    lines = groups_report(rows, [MODEL, "seed"]).splitlines()
    from dltrain.terminal import cells

    in_table = [line for line in lines if " than " not in line and "±" not in line]
    assert len(in_table) > 8
    assert max(map(cells, in_table)) <= 60
