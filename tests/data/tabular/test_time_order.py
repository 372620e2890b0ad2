"""The order of a series' rows: by dates in every notation, backwards, mixed up, twice, with gaps,
and in the future.
"""

from __future__ import annotations

import json
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dltrain.data.io.dates import formats_of, looks_like_dates, moments
from dltrain.data.tabular.timeseries import TimeSeries
from dltrain.errors import DltrainError, InputError

pa = pytest.importorskip("pyarrow")
COUNT = 80
START = date(2023, 1, 2)  # a Monday


def days(form: str = "%Y-%m-%d", count: int = COUNT) -> list[str]:
    return [(START + timedelta(days=i)).strftime(form) for i in range(count)]


def written(
    dates: list[str], order: Any = None, name: str = "series.csv", header: str = "day,x"
) -> str:
    """A series whose value is its place in time; its rows in another order."""
    rows = [f'"{day}",{place}' for place, day in enumerate(dates)]
    rows = rows if order is None else [rows[place] for place in order]
    Path(name).write_text("\n".join([header, *rows]) + "\n")
    return name


def values_of(path: str, **settings: Any) -> list[int]:
    data = TimeSeries(path, **{"column": "x", "window": 5, **settings})
    series = data.stored
    return [round(value * series.std + series.mean) for value in series.values.tolist()]


SHUFFLED = np.random.default_rng(0).permutation(COUNT).tolist()
BACKWARDS = list(range(COUNT))[::-1]
FORMS = [
    "%Y-%m-%d",
    "%d.%m.%Y",
    "%m/%d/%Y",
    "%d/%m/%Y",
    "%b %d, %Y",
    "%d-%b-%y",
    "%Y/%m/%d %H:%M",
    "%Y-%m-%dT%H:%M:%S",
]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("order", [BACKWARDS, SHUFFLED], ids=["backwards", "shuffled"])
def test_rows_are_put_into_the_order_of_time(
    form: str, order: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    assert values_of(written(days(form), order)) == list(range(COUNT))
    (line,) = caplog.messages
    what = "the rows go backwards in time" if order is BACKWARDS else "not in the order of time"
    assert what in line
    assert "series.csv:" in line
    assert "dataset.time=none takes the rows as they stand" in line
    assert values_of("series.csv", time="none") == order


@pytest.mark.parametrize("form", FORMS)
def test_rows_in_order_are_not_logged(form: str, caplog: pytest.LogCaptureFixture) -> None:
    assert values_of(written(days(form))) == list(range(COUNT))
    assert caplog.messages == []


def test_months_quarters_and_working_days_have_no_gaps(caplog: pytest.LogCaptureFixture) -> None:
    months = [f"{1949 + i // 12}-{1 + i % 12:02}" for i in range(COUNT)]
    quarters = [f"{1949 + i // 4}Q{1 + i % 4}" for i in range(COUNT)]
    working = [day for i, day in enumerate(days(count=7 * COUNT)) if i % 7 < 5][:COUNT]
    for dates in (months, quarters, working):
        assert values_of(written(dates)) == list(range(COUNT))
    assert caplog.messages == []


def test_gaps_and_repeated_moments_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    dates = days(count=COUNT + 10)
    assert values_of(written([*dates[:20], *dates[30:]])) == list(range(COUNT))
    assert (
        "series.csv:22: 1 gap by column 'day', the first from 2023-01-21 to 2023-02-01"
        in caplog.text
    )
    caplog.clear()
    values_of(written([*dates[:20], dates[19], *dates[20:]]))
    assert "series.csv:22: 2023-01-21 in column 'day' is repeated (1 such row)" in caplog.text


@pytest.mark.parametrize(
    ("dates", "message"),
    [
        (
            days()[:40] * 2,
            r"series.csv:42: 2023-01-02 in column 'day' repeats that of series.csv:2",
        ),
        (
            [*days()[:50], "05/03/2023", *days()[51:]],
            r"series.csv:52: column 'day', .* does not have a date like the others",
        ),
        (
            [*days()[:79], "Total"],
            r"series.csv:81: column 'day', .* \(1 such row\): correct or remove the line",
        ),
        ([*days()[:50], "", *days()[51:]], r"series.csv:52: column 'day', .* does not have a date"),
    ],
)
def test_rows_that_cannot_be_put_in_order_are_refused(dates: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        values_of(written(dates))
    assert values_of("series.csv", time="none") == list(range(COUNT))


def test_numbers_of_a_column_called_time_count_too(caplog: pytest.LogCaptureFixture) -> None:
    numbers = [str(i) for i in range(COUNT)]
    assert values_of(written(numbers, SHUFFLED, header="t,x")) == list(range(COUNT))
    assert "(2" in caplog.text or "before" in caplog.text
    months = [str(1 + i % 12) for i in range(COUNT)]
    assert values_of(written(months, header="month,x")) == list(range(COUNT))
    assert values_of(written(numbers, SHUFFLED, header="z,x")) == SHUFFLED
    assert values_of("series.csv", time="z") == list(range(COUNT))
    with pytest.raises(
        DltrainError, match=r"dataset\.time=w.*there is no column of that name, but z, x"
    ):
        values_of("series.csv", time="w")


def test_parquet_with_timestamps_is_put_in_order() -> None:
    from pyarrow import parquet

    moments_ = pa.array(
        [datetime.combine(START + timedelta(days=i), time()) for i in SHUFFLED], pa.timestamp("ns")
    )
    parquet.write_table(
        pa.table({"when": moments_, "x": [float(i) for i in SHUFFLED]}), "series.parquet"
    )
    assert values_of("series.parquet") == list(range(COUNT))


def test_a_run_orders_other_series_as_its_own(dltrain) -> None:
    settings = (
        "dataset.path=series.csv",
        "dataset.column=x",
        "dataset.window=5",
        "callbacks=quiet",
        "trainer.epochs=1",
    )
    written(days(), BACKWARDS)
    outcome = dltrain("dataset=timeseries", *settings, "--json")
    assert outcome.code == 0, outcome.err
    run = outcome.json["run"]
    assert json.loads((Path(run) / "manifest.json").read_text())["data"]["time"] == {
        "name": "day",
        "dates": True,
    }
    written(days(), name="sorted.csv")
    written(days(), SHUFFLED, name="shuffled.csv")
    rows = dltrain("predict", run, "sorted.csv", "shuffled.csv", "--json").json["rows"]
    assert rows[0]["t+1"] == rows[1]["t+1"]
    again = dltrain("evaluate", run, "dataset.path=sorted.csv", "--json").json["metrics"]
    assert again == dltrain("evaluate", run, "dataset.path=shuffled.csv", "--json").json["metrics"]


def test_runs_of_older_versions_take_rows_as_they_stand() -> None:
    written(days(), BACKWARDS)
    data = TimeSeries("series.csv", column="x", window=5)
    description = data.description()
    del description["time"]
    old = TimeSeries("series.csv", column="x", window=5)
    old.restore(description)
    assert torch.equal(old.stored.values, data.stored.values.flip(0))


def test_a_resume_continues_with_the_order_of_the_run(dltrain) -> None:
    """Also where the run is of a version that knew of no order, and where training continues with
    more rows.
    """
    settings = (
        "dataset.path=series.csv",
        "dataset.column=x",
        "dataset.window=5",
        "callbacks=quiet",
        "trainer.epochs=2",
    )
    written(days(), BACKWARDS)
    whole = dltrain("dataset=timeseries", *settings, "--json").json
    part = dltrain("dataset=timeseries", *settings[:-1], "trainer.epochs=1", "--json").json
    outcome = dltrain("resume", part["run"], "trainer.epochs=2", "--json")
    assert outcome.code == 0, outcome.err
    assert outcome.json["metrics"]["train/loss"] == whole["metrics"]["train/loss"]
    assert outcome.json["metrics"]["test/rmse"] == whole["metrics"]["test/rmse"]
    manifest = Path(part["run"]) / "manifest.json"
    content = json.loads(manifest.read_text())
    del content["data"]["time"]
    manifest.write_text(json.dumps(content))
    outcome = dltrain("resume", part["run"], "trainer.epochs=3")
    assert outcome.code == 0, outcome.err
    assert "sorted" not in outcome.out + outcome.err


@pytest.mark.parametrize("order", [None, BACKWARDS], ids=["forwards", "backwards"])
def test_future_values_are_named_with_the_lines_to_cut(order: list[int] | None) -> None:
    rows = [f"{day},{'' if i >= 75 else i}" for i, day in enumerate(days())]
    rows = rows if order is None else [rows[i] for i in order]
    Path("series.csv").write_text("\n".join(["day,x", *rows]) + "\n")
    first, last = ("77", "81") if order is None else ("6", "2")
    message = (
        rf"series.csv:{first}: column 'x' is empty from here to the end \(5 rows, the last "
        rf"is series.csv:{last}\)"
    )
    with pytest.raises(
        InputError, match=f"{message}: if these are steps to be forecast, cut the rows off"
    ):
        values_of("series.csv")


def test_check_shows_the_columns_of_a_series(dltrain) -> None:
    written(days())
    settings = ("dataset.path=series.csv", "dataset.column=x", "dataset.window=5")
    outcome = dltrain("check", "dataset=timeseries", *settings, "--json")
    assert outcome.code == 0, outcome.err
    assert outcome.json["data"]["columns"] == [
        {"name": "day", "type": "date", "use": "time", "example": "2023-01-02"},
        {"name": "x", "type": "number", "use": "series", "example": "0"},
    ]
    span = {
        "rows": COUNT,
        "time": "day",
        "first": "2023-01-02",
        "last": "2023-03-22",
        "order": "in order",
    }
    assert outcome.json["data"]["series"] == [span]
    written(days(), BACKWARDS)
    outcome = dltrain("check", "--data", "dataset=timeseries", *settings, "--json")
    assert outcome.json["data"]["series"] == [{**span, "order": "backwards, sorted"}]


def test_texts_that_look_like_dates() -> None:
    for texts in (
        ["2023-01-05"],
        ["1/13/23"],
        ["Jan 2020"],
        ["2020Q1"],
        ["2023-01-05T10:00:00Z"],
        ["5.1.2023 10:00"],
    ):
        assert looks_like_dates(texts), texts
    for texts in (
        ["abc"],
        ["1.5"],
        ["12:30"],
        ["Main 12"],
        ["20230105"],
        ["555-1234"],
        ["192.168.1.1"],
        ["3-2"],
        [""],
    ):
        assert not looks_like_dates(texts), texts
    assert formats_of(["05/01/2023", "13/01/2023"]) == ["%d/%m/%Y"]
    found = moments(["05/01/2023", "06/01/2023", "07/01/2023"], np.array([0, 1, 2, -1]))
    assert np.isnan(found[3])


MONTHS = {
    "de": "Jan Feb März Apr Mai Juni Juli Aug Sept Okt Nov Dez",
    "fr": "janv. févr. mars avr. mai juin juil. août sept. oct. nov. déc.",
    "es": "enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre "
    "diciembre",
    "it": "gennaio febbraio marzo aprile maggio giugno luglio agosto settembre ottobre novembre "
    "dicembre",
}
MONTH_NUMBERS = [(1990 + i // 12, i % 12 + 1) for i in range(COUNT)]
MOMENTS = {
    **{
        name: [f"{words.split()[m - 1]} {y}" for y, m in MONTH_NUMBERS]
        for name, words in MONTHS.items()
    },
    "month year": [f"{m:02}/{y}" for y, m in MONTH_NUMBERS],
    "year month": [f"{y} {date(y, m, 1):%b}" for y, m in MONTH_NUMBERS],
    "M": [f"{y}M{m:02}" for y, m in MONTH_NUMBERS],
    "quarter": [f"Q{i % 4 + 1} {1950 + i // 4}" for i in range(COUNT)],
    "week": [f"{date(2015, 1, 5) + timedelta(weeks=i):%G-W%V}" for i in range(COUNT)],
    "weekday": [f"{date(2020, 1, 1) + timedelta(days=i):%A, %B %d, %Y}" for i in range(COUNT)],
    "day number": [f"{date(2020, 1, 1) + timedelta(days=i):%Y%m%d}" for i in range(COUNT)],
    "milliseconds": [str(1577836800000 + 3600000 * i) for i in range(COUNT)],
    "count": [str(1700 + i) for i in range(COUNT)],
}


@pytest.mark.parametrize("name", MOMENTS)
def test_rows_that_go_backwards_are_logged_however_dates_are_written(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = written(MOMENTS[name], BACKWARDS, header="when,x")
    assert values_of(path) == list(range(COUNT))
    assert "the rows go backwards in time by column 'when'" in caplog.text


NO_MOMENTS = [
    [5, 3, 9] * 20,
    [6e8, 9e8, 7e8, *range(10**9, 10**9 + 57)],
    [1e9 + i**2 % 97 for i in range(40)],
]


@pytest.mark.parametrize("numbers", NO_MOMENTS)
def test_other_numbers_are_not_moments(numbers: list[float]) -> None:
    path = written([str(number) for number in numbers], header="load,x")
    assert values_of(path) == list(range(len(numbers)))


def test_years_and_months_that_go_backwards_are_refused() -> None:
    lines = [f"{y},{m},{i}" for i, (y, m) in enumerate(MONTH_NUMBERS)]
    Path("series.csv").write_text("\n".join(["year,month,x", *lines]) + "\n")
    assert values_of("series.csv") == list(range(COUNT))
    Path("series.csv").write_text("\n".join(["year,month,x", *lines[::-1]]) + "\n")
    with pytest.raises(
        InputError, match=r"series.csv:\d+: the rows go backwards in time by column 'year'"
    ):
        values_of("series.csv")
    assert values_of("series.csv", time="none") == BACKWARDS
