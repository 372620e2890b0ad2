"""A table in the order of time: the earliest rows are for training, the latest for testing."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.model_selection import TimeSeriesSplit

from dltrain.data.tabular.splits.times import nearest_border, split_by_time
from dltrain.data.tabular.tabular import Tabular
from dltrain.errors import ConfigError, InputError

DAYS = [datetime(2024, 1, 1) + timedelta(days=day) for day in range(100)]
PARTS = ("train", "val", "test")


def table(times: Sequence[object], shuffled: bool = True, path: str = "table.csv") -> str:
    """Rows of x,when,y with these times, in random order."""
    rows = [f"{i % 7},{time},{'yes' if i % 3 else 'no'}" for i, time in enumerate(times)]
    if shuffled:
        random.Random(0).shuffle(rows)
    Path(path).write_text("\n".join(["x,when,y", *rows]) + "\n")
    return path


def by_time(path: str, **settings: Any) -> Tabular:
    return Tabular(path, "y", split="time", time="when", **settings)


def times_of(data: Tabular, part: Any) -> list[str]:
    """The times of the rows of a split, by their lines."""
    lines = Path("table.csv").read_text().splitlines()
    places = [int(name.rpartition(":")[2]) for name in data.sample_names(part)]
    return [lines[place - 1].split(",")[1] for place in places]


WRITTEN = {
    "days": [f"{day:%Y-%m-%d}" for day in DAYS],
    "numbers": [day * 10 + 0.5 for day in range(100)],
    "moments": [f"{day:%Y-%m-%dT%H:%M:%S}" for day in DAYS],
    "time zones": [f"{day:%Y-%m-%d} 12:00:00+02:00" for day in DAYS],
    "day first": [f"{day:%d.%m.%Y}" for day in DAYS],
    "months by name": [f"{day:%d %b %Y}" for day in DAYS],
}


@pytest.mark.parametrize("times", WRITTEN.values(), ids=WRITTEN)
def test_the_earliest_rows_are_for_training_and_the_latest_for_testing(
    times: list[object],
) -> None:
    data = by_time(table(times), val_fraction=0.25, test_fraction=0.2)
    expected = [str(time) for time in times]
    parts = [times_of(data, part) for part in PARTS]
    assert list(map(sorted, parts)) == [
        sorted(expected[:60]),
        sorted(expected[60:80]),
        sorted(expected[80:]),
    ]
    assert data.spec.feature_names == ("x",)
    assert data.test_rule() == "the latest 20 % of the rows by when"


def test_moments_of_several_time_zones_are_in_their_order() -> None:
    times = [f"2024-01-01T{hour:02}:00:00+{hour:02}:00" for hour in range(0, 20, 2)]
    times += [f"2024-01-01T{hour:02}:30:00Z" for hour in range(10)]
    data = by_time(table(times), val_fraction=0.0, test_fraction=0.5)
    assert sorted(times_of(data, "train")) == sorted([*times[:10]])


def test_rows_of_one_time_stay_together() -> None:
    times = [f"{DAYS[i // 7]:%Y-%m-%d}" for i in range(100)]
    data = by_time(table(times), val_fraction=0.2, test_fraction=0.2)
    parts = [set(times_of(data, part)) for part in PARTS]
    assert max(parts[0]) < min(parts[1]) <= max(parts[1]) < min(parts[2])
    assert len(set.union(*parts)) == 15
    assert [len(times_of(data, part)) for part in PARTS] == [63, 14, 23]


@pytest.mark.parametrize(
    ("wanted", "border"), [(0, 0), (1, 1), (2, 1), (3, 4), (4, 4), (5, 5), (6, 6), (7, 7)]
)
def test_a_border_is_the_nearest_one_between_two_times(wanted: int, border: int) -> None:
    assert nearest_border(np.array([0.0, 1, 1, 1, 2, 3, 4]), wanted) == border


def test_all_rows_at_one_time_are_refused() -> None:
    with pytest.raises(InputError, match="20 rows have the same time, so they cannot be divided"):
        _ = by_time(table(["2024-01-01"] * 20)).train


def test_a_part_that_is_asked_for_is_not_empty() -> None:
    times = np.array([0.0] * 10 + [1.0] * 90)
    sizes = [len(rows) for rows in split_by_time(times, 0.0, 0.05, None, None)]
    assert sizes == [10, 0, 90]


@pytest.mark.parametrize("folds", [2, 3, 5])
@pytest.mark.parametrize("count", [30, 47])
def test_folds_are_those_of_scikit_learn(folds: int, count: int) -> None:
    order = np.random.default_rng(0).permutation(count)
    times = order.argsort().astype(float)
    expected = TimeSeriesSplit(folds).split(times)
    for fold, (train, val) in enumerate(expected):
        rows = split_by_time(times, 0.1, 0.0, folds, fold)
        assert sorted(times[rows[0].numpy()]) == train.tolist()
        assert sorted(times[rows[1].numpy()]) == val.tolist()
        assert not len(rows[2])


def test_rows_of_one_time_are_in_one_fold() -> None:
    times = np.arange(60) // 4 * 1.0
    last = -1.0
    for fold in range(5):
        train, val, test = split_by_time(times, 0.1, 0.1, 5, fold)
        assert times[train.numpy()].max() < times[val.numpy()].min()
        assert times[val.numpy()].max() < times[test.numpy()].min()
        assert times[val.numpy()].min() > last
        last = times[val.numpy()].max()


def test_too_few_times_for_the_folds_are_refused() -> None:
    with pytest.raises(InputError, match=r"20 rows at 2 different times .* into 4 parts"):
        split_by_time(np.arange(20) // 10 * 1.0, 0.1, 0.0, 3, 0)


@pytest.mark.parametrize(
    ("times", "words"),
    [
        (["2024-01-01", "", "2024-01-03"], r"csv:3: column 'when' is empty \(1 such row\)"),
        ([1, "", 3], r"csv:3: column 'when' is empty"),
        (["2024-01-01", "soon", "2024-01-03"], r"csv:3: column 'when' has 'soon', which is not a"),
        (["2024-01-01", "2024-13-45", "2024-01-03"], r"csv:3: column 'when' has '2024-13-45'"),
        (["2024-01-01", "01.02.2024", "2024-01-03"], r"csv:3: column 'when' has '01.02.2024'"),
        (["2024-01-01", 20240102, "2024-01-03"], r"csv:3: column 'when' has '20240102'"),
        (["first", "second", "third"], r"csv:2: column 'when' has 'first'"),
        (
            ["2024-01-01T10:00:00", "2024-01-01T10:00:00Z", "2024-01-03T10:00:00"],
            r"csv:3: '2024-01-01T10:00:00Z' .* one has a time zone and the other has none",
        ),
        (
            ["03/04/2024", "05/06/2024", "07/08/2024"],
            r"csv:2: '03/04/2024' in column 'when' is 2024-04-03 or 2024-03-04: write dates as in",
        ),
    ],
)
def test_a_row_without_a_clear_time_is_refused_with_its_line(
    times: list[object], words: str
) -> None:
    path = table([*times, *(times[::2] * 4)], shuffled=False)
    with pytest.raises(InputError, match=words):
        _ = by_time(path).train


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"split": "time"}, "dataset.split=time needs the column .*: dataset.time=NAME"),
        ({"time": "when"}, "dataset.time=when orders the rows: add dataset.split=time"),
        (
            {"split": "time", "time": "when", "group": "x"},
            "dataset.split=time and dataset.group cannot both hold: .* Leave out dataset.group",
        ),
    ],
)
def test_settings_that_contradict_each_other_are_refused(
    settings: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        Tabular(table(WRITTEN["days"]), "y", **settings)


@pytest.mark.parametrize(("time", "words"), [("wen", "did you mean 'when'"), ("y", "the target")])
def test_another_column_is_refused(time: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        _ = Tabular(table(WRITTEN["days"]), "y", split="time", time=time).train


def test_a_parquet_table_of_moments() -> None:
    import pyarrow as pa
    from pyarrow import parquet

    columns = {"when": DAYS[::-1], "x": list(range(100)), "y": [i % 2 for i in range(100)]}
    parquet.write_table(pa.table(columns), "table.parquet")
    data = Tabular("table.parquet", "y", split="time", time="when", test_fraction=0.2)
    assert sorted(data.stored.test.tolist()) == list(range(20))


def test_statistics_come_from_the_earliest_rows() -> None:
    """The later rows have other values, and a category that no training row has."""
    rows = [
        f"{day},{int(day >= 80)},{'new' if day >= 80 else 'old'},{day % 2}" for day in range(100)
    ]
    Path("table.csv").write_text("\n".join(["when,x,kind,y", *rows]) + "\n")
    data = by_time("table.csv", val_fraction=0.0, test_fraction=0.2)
    [number] = data.encoder.numbers
    assert (number.mean, number.std) == (0.0, 1.0)
    assert data.encoder.categories[0].texts == ("old",)


def test_a_run_from_the_command_line(dltrain) -> None:
    path = table(WRITTEN["days"])
    run = ("dataset=tabular", f"dataset.path={path}", "dataset.target=y", "model=perceptron")
    settings = ("dataset.split=time", "dataset.time=when", "trainer.epochs=1", "device=cpu")
    outcome = dltrain(*run, *settings, "callbacks=quiet")
    assert outcome.code == 0, outcome.err
    assert "the latest 20 % of the rows by when" in outcome.out
    outcome = dltrain(*run, "dataset.split=time", "device=cpu")
    assert outcome.code == 2
    assert "dataset.time=NAME" in outcome.err


def test_a_test_table_with_early_rows_is_said(caplog: pytest.LogCaptureFixture) -> None:
    path = table(WRITTEN["days"][:50])
    table(["2024-02-19", "2024-02-18", "2024-03-01"], shuffled=False, path="test.csv")
    assert by_time(path, test_path="test.csv").test.samples == 3
    assert (
        "dataset.time=when: 2 of 3 test rows (test.csv:2 is the first) are not later than the last "
        "row of the training table" in caplog.text
    )
    caplog.clear()
    table(["2024-02-20", "2024-02-21", "2024-03-01"], shuffled=False, path="test.csv")
    assert by_time(path, test_path="test.csv").test.samples == 3
    Path("test.csv").write_text("x,y\n1,yes\n2,no\n")
    assert by_time(path, test_path="test.csv").test.samples == 2
    assert "not later" not in caplog.text
