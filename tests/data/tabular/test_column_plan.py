"""The plan for each column of a table and for missing values: filled or left out, and logged in a
line.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dltrain.data.tabular.tabular import Tabular
from dltrain.errors import InputError

pytest.importorskip("pyarrow")


def written(header: str, rows: list[str], name: str = "table.csv") -> str:
    Path(name).write_text("\n".join([header, *rows]) + "\n")
    return name


def batches(split: Any) -> tuple[torch.Tensor, torch.Tensor]:
    inputs, targets = zip(*split.epoch(0), strict=True)
    return torch.cat(inputs), torch.cat(targets)


def passengers(count: int = 200, name: str = "titanic.csv") -> str:
    """A table with the structure of the passengers of the Titanic: sex decides, the rest is names
    and numbers.
    """
    draw = np.random.default_rng(0)
    rows = []
    for i in range(count):
        sex = "female" if draw.random() < 0.4 else "male"
        survived = int(draw.random() < (0.9 if sex == "female" else 0.1))
        age = "" if i % 5 == 0 else f"{draw.integers(1, 80)}"
        cabin = f"C{draw.integers(1, 150)}" if i % 4 == 0 else ""
        rows.append(
            f'{survived},"Smith, Mr. Number {i}",{sex},{age},A/{draw.integers(1, 10**5)},{cabin},'
            f"{'SCQ'[i % 3]}"
        )
    return written("survived,name,sex,age,ticket,cabin,embarked", rows, name)


def warnings_of(data: Tabular, caplog: pytest.LogCaptureFixture) -> list[str]:
    caplog.set_level(logging.INFO, "dltrain")
    caplog.clear()
    _ = data.spec
    return caplog.messages


def test_names_tickets_and_cabins_are_left_out_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    data = Tabular(passengers(), "survived")
    line, missing = warnings_of(data, caplog)
    assert line.startswith("titanic.csv: 6 columns besides the target; 1 as numbers: age; ")
    assert "2 as categories, one-hot: sex (2), embarked (3); " in line
    assert (
        "3 left out: name (200 different texts in 200 rows), ticket (200 different texts in 200 "
        "rows), cabin (" in line
    )
    assert line.endswith('; to use as categories: "dataset.categorical=[name,ticket,cabin]"')
    assert missing.startswith(
        "titanic.csv: missing values filled (dataset.missing=auto): age 40 (by "
    )
    names = ["age", "age is missing", "sex=other", "sex=female", "sex=male"]
    assert list(data.spec.feature_names) == [
        *names,
        "embarked=other",
        "embarked=C",
        "embarked=Q",
        "embarked=S",
    ]
    whole = Tabular("titanic.csv", "survived", categorical=("name", "ticket", "cabin"))
    assert whole.spec.input_shape[0] > 250
    assert {c.name for c in whole.encoder.categories} == {
        "name",
        "sex",
        "ticket",
        "cabin",
        "embarked",
    }


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([f"2023-{1 + i // 28:02}-{1 + i % 28:02}" for i in range(60)], "date"),
        ([f"{1 + i % 12}/{1 + i % 28}/2023" for i in range(60)], "date"),
        ([f"0{1 + i % 3}.05.2023 10:00" for i in range(60)], "date"),
        (["Jan 2020", "Feb 2020"] * 30, "date"),
        ([f"id-{i}" for i in range(60)], "text"),
        ([f"the film number {i} is fine" for i in range(60)], "text"),
        ([f"user{i % 40}@mail" for i in range(60)], "text"),
        ([f"city {i % 25}" for i in range(60)], "category"),
        (["red", "green"] * 30, "category"),
        ([f"{i}" for i in range(60)], "number"),
        ([""] * 60, "empty"),
    ],
)
def test_every_column_is_a_number_a_category_or_left_out(
    values: list[str], kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [f"{i % 7},{value},{'ab'[i % 2]}" for i, value in enumerate(values)]
    data = Tabular(written("x,column,y", rows), "y")
    (line, *_) = warnings_of(data, caplog)
    used = any(name.partition("=")[0] == "column" for name in data.spec.feature_names)
    assert used is (kind in ("category", "number"))
    assert ("left out: column (" in line) is not used
    (listing,) = data.inspect()
    (row,) = [
        dict(zip(listing.columns, row, strict=True)) for row in listing.rows if row[0] == "column"
    ]
    assert row["type"] == kind
    if kind in ("date", "text"):
        assert (
            "column=other" in Tabular("table.csv", "y", categorical=("column",)).spec.feature_names
        )


def test_a_table_of_names_alone_is_refused() -> None:
    path = written("name,day,y", [f"n{i},2020-01-{1 + i % 28},{'ab'[i % 2]}" for i in range(40)])
    with pytest.raises(
        InputError,
        match=r"no column is left.*'name' \(40 different.*'day' \(dates\).*categorical=\[name\]",
    ):
        _ = Tabular(path, "y").spec


def test_a_target_of_names_is_refused() -> None:
    path = written("x,ticket", [f"{i % 7},T{i % 45}" for i in range(60)])
    with pytest.raises(InputError, match=r"the target 'ticket' has 45 different labels in 60 rows"):
        _ = Tabular(path, "ticket").spec
    assert len(Tabular(path, "ticket", kind="classification").spec.class_names) == 45


def test_a_column_that_counts_the_rows_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    data = Tabular(written("id,x,y", [f"{i + 1},{i % 7},{'ab'[i % 2]}" for i in range(40)]), "y")
    assert 'id counts the rows; to leave out: "dataset.ignore=[id]"' in warnings_of(data, caplog)[0]


def test_check_shows_the_columns(dltrain) -> None:
    settings = (
        "dataset=tabular",
        f"dataset.path={passengers()}",
        "dataset.target=survived",
        "dataset.ignore=[ticket]",
    )
    outcome = dltrain("check", *settings, "--json")
    assert outcome.code == 0, outcome.err
    rows = {row["name"]: row for row in outcome.json["data"]["columns"]}
    assert list(rows) == ["survived", "name", "sex", "age", "cabin", "embarked", "ticket"]
    assert rows["survived"]["use"] == "target"
    age = {
        "name": "age",
        "type": "number",
        "use": "number",
        "missing": 40,
        "distinct": rows["age"]["distinct"],
    }
    assert rows["age"] == {**age, "example": rows["age"]["example"]}
    assert rows["age"]["distinct"] > 20
    assert rows["sex"] == {
        "name": "sex",
        "type": "category",
        "use": "one-hot",
        "missing": 0,
        "distinct": 2,
        "example": "male",
    }
    assert rows["name"]["use"] == "left out: 200 different texts in 200 rows"
    assert rows["ticket"]["use"] == "left out: dataset.ignore"
    assert outcome.out.count("columns besides the target") == 1
    assert (
        dltrain("check", "--data", *settings, "--json").json["data"]["columns"]
        == outcome.json["data"]["columns"]
    )


# missing values


def gaps(name: str = "table.csv") -> str:
    rows = [
        f"{i % 4},{'' if i % 10 == 3 else i % 9},{'' if i % 20 == 7 else 'rrg'[i % 3]},"
        f"{'ab'[i % 2]}"
        for i in range(60)
    ]
    return written("full,x,color,y", rows, name)


@pytest.mark.parametrize("categories", ["onehot", "embed"])
def test_missing_values_are_filled_and_an_input_says_where(
    categories: Any, caplog: pytest.LogCaptureFixture
) -> None:
    data = Tabular(
        gaps(), "y", categories=categories, test_fraction=0, val_fraction=0, batch_size="all"
    )
    (line, missing) = warnings_of(data, caplog)
    assert missing == (
        "table.csv: missing values filled (dataset.missing=auto): x 6 (by 3.5), color 3 (by "
        "'r'); an input for each column "
        "that lacks values in training says where"
    )
    names = ["full", "x", "x is missing", "color is missing"]
    assert list(data.spec.feature_names)[:4] == names
    x, _ = batches(data.train)
    number = data.encoder.numbers[1]
    absent = x[:, 2] == 1
    assert int(absent.sum()) == 6
    assert x[absent, 1].tolist() == pytest.approx([(3.5 - number.mean) / number.std] * 6, abs=1e-6)
    assert int(x[:, 3].sum()) == 3
    filled = x[x[:, 3] == 1, 4:]
    assert filled.tolist() == ([[2]] * 3 if categories == "embed" else [[0, 0, 1]] * 3)
    assert "full" in line


def test_prediction_and_evaluation_fill_as_training_did_also_columns_that_were_full(
    dltrain,
) -> None:
    settings = ("dataset.path=table.csv", "dataset.target=y", "callbacks=quiet", "trainer.epochs=1")
    gaps()
    outcome = dltrain("dataset=tabular", *settings, "--json")
    assert outcome.code == 0, outcome.err
    run = outcome.json["run"]
    description = json.loads((Path(run) / "manifest.json").read_text())["data"]["encoder"]
    assert [number["indicator"] for number in description["numbers"]] == [False, True]
    assert description["categories"][0]["fill"] == "r"
    written("full,x,color,y", ["1,2,r,a", ",,,b", "1,,blue,a"], "new.csv")
    outcome = dltrain("predict", run, "new.csv", "--json")
    assert outcome.code == 0, outcome.err
    assert (
        "new.csv: missing values filled (dataset.missing=auto): full 1 (by 1.5); the columns had "
        "all values" in outcome.err + outcome.out
    )
    predicted = [row["probability"] for row in outcome.json["rows"]]
    outcome = dltrain("evaluate", run, "dataset.path=new.csv", "--json")
    assert outcome.code == 0, outcome.err
    assert "full 1 (by 1.5); the columns had all values in training" in outcome.err + outcome.out
    data = Tabular("new.csv", "y")
    data.restore({**json.loads((Path(run) / "manifest.json").read_text())["data"]})
    evaluated, _ = batches(data.test)
    encoded = torch.stack([sample.inputs for sample in data.encode([Path("new.csv")])])
    assert torch.equal(evaluated, encoded)
    assert len(predicted) == 3
    x = data.spec.feature_names.index("color=other")
    assert encoded[2, x] == 1, "an unknown text is not a missing one"


def test_runs_of_older_versions_have_no_indicators() -> None:
    """A description without the newer keys encodes as before: no fill, no indicator."""
    data = Tabular(gaps(), "y", missing="mean")
    description = json.loads(json.dumps(data.description()))
    for column in (*description["encoder"]["numbers"], *description["encoder"]["categories"]):
        del column["indicator"]
    del description["encoder"]["categories"][0]["fill"]
    old = Tabular("table.csv", "y", missing="mean")
    old.restore(description)
    assert old.spec.feature_names == data.spec.feature_names
    assert torch.equal(batches(old.test)[0], batches(data.test)[0])


# footers


@pytest.mark.parametrize(
    ("end", "message"),
    [
        (
            ["Source: the office"],
            "table.csv:42: 1 field; the header has 3; line 42 is the file's last: if that is a "
            "footer",
        ),
        (
            ["", "Total: 40", "made by hand"],
            "table.csv:43: 1 field; the header has 3; lines 43 to 44 are the file's last",
        ),
        (["Total,9,a"], "table.csv:42: 'Total' in column 'x' is not a number"),
        (
            ["9,Total,a"],
            "table.csv:42: the last row looks like the total of the others ('Total' in column "
            "'z'): cut it off",
        ),
        (
            ["9,Total (n=40),a"],
            "table.csv:42: the last row looks like the total of the others ('Total (n=40)'",
        ),
        (
            ["9,grand total,a"],
            "table.csv:42: the last row looks like the total of the others ('grand total'",
        ),
        (
            ["9,TOTAL GENERAL,a"],
            "table.csv:42: the last row looks like the total of the others ('TOTAL GENERAL'",
        ),
        (
            ["9,Gesamtsumme,a"],
            "table.csv:42: the last row looks like the total of the others ('Gesamtsumme'",
        ),
        (
            ["135.0,Alle,a"],
            "table.csv:42: the last row looks like the total of the others (135 in column 'x'): "
            "cut it off",
        ),
        (
            [",,b"],
            "table.csv:42: the last row has a value in column 'y' only, like a footer: cut it off",
        ),
        (
            ["9,r,"],
            "table.csv:42: the target 'y' is empty from here to the end (1 row, the last is "
            "table.csv:42)",
        ),
        (
            ["9,r,", "8,r,"],
            "table.csv:42: the target 'y' is empty from here to the end (2 rows, the last is "
            "table.csv:43)",
        ),
    ],
)
def test_a_footer_is_named_with_the_lines_to_cut(end: list[str], message: str) -> None:
    rows = [f"{i % 7}.5,{'rg'[i % 2]},{'ab'[i % 2]}" for i in range(40)]
    with pytest.raises(InputError) as raised:
        _ = Tabular(written("x,z,y", [*rows, *end]), "y").spec
    assert message in str(raised.value)
    assert "cut" in str(raised.value)


# the task says what the target is


def test_regression_hint_wrong(dltrain) -> None:
    """Case regression-hint-wrong: a regression of whole numbers of few values."""
    written("x,z,count", [f"{i % 7}.5,{i % 3},{3 + i % 3}" for i in range(60)], "count.csv")
    settings = (
        "dataset=tabular",
        "dataset.path=count.csv",
        "dataset.target=count",
        "callbacks=quiet",
        "trainer.epochs=1",
    )
    outcome = dltrain(*settings, "task=regression", "loss=mse", "--json")
    assert outcome.code == 0, outcome.err
    assert outcome.json["metrics"]["test/rmse"] < 5
    again = dltrain("evaluate", outcome.json["run"], "--json").json["metrics"]
    assert again["test/rmse"] == outcome.json["metrics"]["test/rmse"]
    outcome = dltrain(
        "check", *settings, "task=regression", "loss=mse", "dataset.kind=classification"
    )
    assert (outcome.code, "dataset.kind=regression" in outcome.err) == (2, True)
    assert dltrain("check", *settings).code == 0, "without a word few whole numbers are classes"


def test_a_target_that_does_not_suit_the_task_gets_a_hint(dltrain) -> None:
    written("x,price,word", [f"{i % 7},{i / 3:.2f},{'ud'[i % 2]}" for i in range(60)])
    settings = ("check", "dataset=tabular", "dataset.path=table.csv", "callbacks=quiet")
    outcome = dltrain(*settings, "dataset.target=price")
    assert outcome.code == 2
    assert "task=regression loss=mse" in outcome.err
    assert "dataset.kind=classification" in outcome.err
    outcome = dltrain(*settings, "dataset.target=word", "task=regression", "loss=mse")
    assert outcome.code == 3
    assert "table.csv:2: 'u' in column 'word' is not a number" in outcome.err
    assert "task=classification" in outcome.err
