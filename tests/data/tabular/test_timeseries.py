"""Series: windows and their targets, borders of parts, scaling, the Mackey-Glass equation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dltrain.data.tabular.mackey_glass import MackeyGlass
from dltrain.data.tabular.timeseries import TimeSeries
from dltrain.errors import DltrainError

pytest.importorskip("pyarrow")


def series(values: list[Any], name: str = "series.csv") -> str:
    Path(name).write_text("\n".join(["day,x", *(f"{i},{v}" for i, v in enumerate(values))]) + "\n")
    return name


def counted(count: int = 100, **settings: Any) -> TimeSeries:
    """A series whose value is its place: 0, 1, 2, ..."""
    given = {
        "column": "x",
        "window": 5,
        "horizon": 3,
        "val_fraction": 0.2,
        "test_fraction": 0.3,
        **settings,
    }
    return TimeSeries(series(list(range(count))), **given)


def places(data: TimeSeries, split: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs and targets in the unit of the data: here their places."""
    mean, std = data.spec.target_mean[0], data.spec.target_std[0]
    inputs, targets = zip(*split.epoch(0), strict=True)
    return tuple((torch.cat(part) * std + mean).round().long() for part in (inputs, targets))


def test_windows_and_their_targets_never_cross_a_border() -> None:
    """50, 20 and 30 values: every window with its targets, 8 values, lies in one part, once."""
    data = counted()
    for split, start, end in ((data.train, 0, 50), (data.val, 50, 70), (data.test, 70, 100)):
        x, y = places(data, split)
        assert x.shape[1:] == (5, 1)
        assert y.shape[1:] == (3,)
        rows = torch.cat([x.squeeze(2), y], dim=1)
        assert torch.equal(rows, rows[:, :1] + torch.arange(8))
        assert sorted(rows[:, 0].tolist()) == list(range(start, end - 7))
    spec = data.spec
    assert (spec.train_samples, spec.test_samples) == (43 + 13, 23)
    assert spec.target_names == ("t+1", "t+2", "t+3")
    assert spec.arguments()["window"] == 5


def test_the_training_part_alone_decides_the_scale() -> None:
    data = counted()
    assert data.spec.target_mean == (24.5,) * 3
    assert data.spec.target_std == pytest.approx((np.arange(50).std(),) * 3)


def test_windows_are_views_of_one_series() -> None:
    data = counted(10_000, window=1000)
    inputs, targets = data.tensors
    assert inputs.untyped_storage().nbytes() == targets.untyped_storage().nbytes() == 40_000
    assert data.size_in_bytes() == 40_000


def test_windows_are_shuffled_in_training_and_ordered_by_time_elsewhere() -> None:
    data = counted(seed=1)
    starts = {
        name: places(data, split)[0][:, 0, 0].tolist()
        for name, split in (("train", data.train), ("test", data.test))
    }
    assert starts["train"] != sorted(starts["train"])
    assert starts["test"] == sorted(starts["test"])
    assert starts["train"] == places(counted(seed=1), counted(seed=1).train)[0][:, 0, 0].tolist()


@pytest.mark.parametrize(
    ("values", "settings", "code", "message"),
    [
        ([1.0] * 50, {}, 3, "series.csv:2: from here on column 'x' is 1: nothing to learn"),
        (
            [*range(20), "", *range(20)],
            {},
            3,
            "series.csv:22: column 'x' is empty: a series has no gaps",
        ),
        (
            [*range(20), "abc", *range(20)],
            {},
            3,
            "series.csv:22: 'abc' in column 'x' is not a number",
        ),
        (["red", "blue"] * 20, {}, 3, "series.csv:2: 'red' in column 'x' is not a number"),
        (
            list(range(20)),
            {},
            3,
            "series.csv:16: from here on 3 values are one part of the series, too few",
        ),
        (list(range(50)), {"column": "y"}, 2, "series.csv has none of that name"),
        (
            list(range(50)),
            {"column": None},
            2,
            "name the series: series.csv has the columns day, x",
        ),
    ],
)
def test_a_mistake_is_named_by_file_and_line(
    values: list[Any], settings: Any, code: int, message: str
) -> None:
    with pytest.raises(DltrainError) as raised:
        _ = TimeSeries(series(values), **{"column": "x", "window": 5, **settings}).spec
    assert message in str(raised.value)
    assert raised.value.exit_code == code


def test_fractions_that_leave_nothing_to_train_on_are_refused() -> None:
    with pytest.raises(ValueError, match="leave nothing to train on"):
        TimeSeries(val_fraction=0.5, test_fraction=0.5)


def test_a_run_scores_and_continues_other_series_by_its_own_scale(dltrain) -> None:
    wave = np.sin(np.arange(400) / 5) * 10 + 50
    series(wave.tolist())
    settings = (
        "dataset.path=series.csv",
        "dataset.column=x",
        "dataset.horizon=2",
        "callbacks=quiet",
    )
    run = dltrain("dataset=timeseries", *settings, "--json").json
    metrics = run["metrics"]
    assert metrics["test/relative_error"] < 0.5
    assert run["best"]["metric"] == "val/mse"
    series((wave[:60] + 0.01).tolist(), "other.csv")
    outcome = dltrain("evaluate", run["run"], "dataset.path=other.csv", "--json")
    assert outcome.code == 0, outcome.err
    assert outcome.json["metrics"]["test/rmse"] == pytest.approx(metrics["test/rmse"], rel=0.5)
    Path("series.csv").unlink()
    outcome = dltrain("predict", run["run"], "other.csv", "--json")
    assert outcome.code == 0, outcome.err
    (row,) = outcome.json["rows"]
    assert [row["t+1"], row["t+2"]] == pytest.approx(wave[60:62].tolist(), abs=2)


def test_the_last_window_of_a_file_is_predicted_from() -> None:
    trained = counted()
    data = TimeSeries(column="x", window=5, horizon=3)
    data.restore(json.loads(json.dumps(trained.description())))
    files = [
        series([7, *range(5)], "long.csv"),
        series([1, 2], "short.csv"),
        series([*range(4), ""], "gap.csv"),
    ]
    long, short, gap, absent = data.encode([Path(name) for name in (*files, "absent.csv")])
    assert long.inputs is not None
    scaled = (torch.arange(5.0) - trained.stored.mean) / trained.stored.std
    assert torch.allclose(long.inputs, scaled.unsqueeze(1))
    assert short.problem == "2 values; a window is 5"
    assert gap.problem.startswith(
        "gap.csv:6: column 'x' is empty from here to the end (1 row, the last is gap.csv:6)"
    )
    assert "the file does not exist" in absent.problem


# Mackey-Glass


def test_the_series_solves_its_equation() -> None:
    """Another method, with steps fifty times smaller, agrees for as long as chaos allows."""
    ours = MackeyGlass(length=60, seed=3)
    past = 1.2 + 0.1 * float(torch.rand((), generator=_keyed(3)))
    h, per_unit, count = 0.002, 500, 360
    delay = 17 * per_unit
    x = [past] * (delay + 1)
    for _ in range((count - 1) * per_unit):
        drift = 0.2 * x[-1 - delay] / (1 + x[-1 - delay] ** 10) - 0.1 * x[-1]
        ahead = 0.2 * x[-delay] / (1 + x[-delay] ** 10) - 0.1 * (x[-1] + h * drift)
        x.append(x[-1] + h / 2 * (drift + ahead))  # Heun
    reference = np.array(x[delay + 300 * per_unit :: per_unit])
    assert len(ours.series()) == 60
    assert np.abs(ours.series()[:60] - reference).max() < 1e-3


def _keyed(seed: int) -> torch.Generator:
    from dltrain.rng import keyed

    return keyed(seed)


def test_the_series_is_a_function_of_its_seed_and_neither_settles_nor_leaves_its_range() -> None:
    first, again, other = (MackeyGlass(length=800, seed=seed).series() for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert np.abs(first - other).max() > 0.1
    assert 0.2 < first.min() < 0.6
    assert 1.2 < first.max() < 1.5
    assert first[-200:].std() > 0.1


def test_a_bundled_series_needs_no_file() -> None:
    data = TimeSeries(source=MackeyGlass(length=200), window=10, horizon=4)
    x, y = next(data.train.epoch(0))
    assert (x.shape, y.shape) == ((64, 10, 1), (64, 4))
    assert data.fingerprint() != TimeSeries(source=MackeyGlass(length=201), window=10).fingerprint()
