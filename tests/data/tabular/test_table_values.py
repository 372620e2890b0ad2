"""Reading a table's values: numbers in other notations, missing values, labels, row numbers;
alike in every command.
"""

from __future__ import annotations

import datetime
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from dltrain.data.tabular.tabular import Tabular
from dltrain.data.tabular.timeseries import TimeSeries
from dltrain.errors import DltrainError, InputError

pa = pytest.importorskip("pyarrow")
ALL = {"val_fraction": 0, "test_fraction": 0, "batch_size": "all"}


def table(header: str, rows: list[str], name: str = "table.csv") -> str:
    Path(name).write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return name


def parquet(
    name: str = "table.parquet", metadata: dict[str, Any] | None = None, **columns: Any
) -> str:
    from pyarrow import parquet as pq

    made = pa.table(columns)
    if metadata is not None:
        made = made.replace_schema_metadata({"pandas": json.dumps(metadata)})
    pq.write_table(made, name)
    return name


def refusal(path: str, target: Any, **settings: Any) -> str:
    with pytest.raises(InputError) as raised:
        _ = Tabular(path, target, **settings).spec
    return str(raised.value)


def draws(count: int = 60) -> list[float]:
    """Numbers of up to five digits with two decimals, below 1 and negative ones among them."""
    draw = random.Random(0)
    return [round(draw.choice([1, 10, 90_000]) * draw.uniform(-0.3, 1), 2) for _ in range(count)]


def grouped(value: float, thousands: str, decimal: str) -> str:
    return f"{value:,.2f}".translate({ord(","): thousands, ord("."): decimal})


def sides(values: list[Any]) -> list[str]:
    return [f"{value};{'ab'[i % 2]}" for i, value in enumerate(values)]


# numbers-become-categories

NOTATIONS: dict[str, Any] = {
    "decimal comma": lambda v: f"{v:.2f}".replace(".", ","),
    "as in the US": lambda v: grouped(v, ",", "."),
    "as in Germany": lambda v: grouped(v, ".", ","),
    "as in France": lambda v: grouped(v, "\u202f", ","),
    "as in Sweden": lambda v: grouped(v, "\u00a0", ","),
    "as in Switzerland": lambda v: grouped(v, "’", "."),
    "dollars": lambda v: ("-" if v < 0 else "") + "$" + grouped(abs(v), ",", "."),
    "dollars in parentheses": lambda v: f"(${-v:,.2f})" if v < 0 else f"${v:,.2f}",
    "euros": lambda v: grouped(v, ".", ",") + " €",
    "by a code": lambda v: "USD " + grouped(v, ",", "."),
    "percent": lambda v: f"{v}%",
    "a minus that no keyboard has": lambda v: str(v).replace("-", "−"),
    "a minus behind": lambda v: f"{-v}-" if v < 0 else str(v),
    "plus": lambda v: f"{v:+}",
    "exponents": lambda v: f"{v:.6e}",
    "spaces": lambda v: f"  {v}\t",
    "quotes": lambda v: f"'{v}'",
    "a measure": lambda v: f"{v} kg",
}


@pytest.mark.parametrize("notation", NOTATIONS)
def test_numbers_in_another_notation_are_the_same_numbers(notation: str) -> None:
    """The plain table and the other give the same inputs, also for a regression's target and for a
    series.
    """
    values = draws()
    plain = Tabular(table("x;y", sides(values), "plain.csv"), "y", **ALL)
    other = Tabular(table("x;y", sides([NOTATIONS[notation](v) for v in values])), "y", **ALL)
    assert other.spec.feature_names == ("x",)
    assert torch.equal(other.stored.inputs, plain.stored.inputs)
    goal = Tabular("table.csv", "x", **ALL).spec
    assert goal.target_mean == pytest.approx(Tabular("plain.csv", "x", **ALL).spec.target_mean)
    series = [TimeSeries(name, "x", window=5).stored.values for name in ("plain.csv", "table.csv")]
    assert torch.equal(*series)


@pytest.mark.parametrize(
    "mark",
    [
        "-",
        "—",
        ".",
        "..",
        "n/a",
        "N/A",
        "NA",
        "?",
        "#N/A",
        "nan",
        "null",
        "None",
        "",
        "   ",
        "<NA>",
        "#DIV/0!",
    ],
)
def test_marks_of_missing_numbers_are_missing(mark: str) -> None:
    rows = sides([mark if i % 4 == 0 else i for i in range(60)])
    data = Tabular(table("x;y", rows), "y", missing="mean", **ALL)
    assert data.spec.feature_names[0] == "x"
    assert data.encoder.numbers[0].mean == sum(i for i in range(60) if i % 4) / 45
    assert "table.csv:2: column 'x' is empty" in refusal("table.csv", "y", missing="error")


@pytest.mark.parametrize(
    "values", [["45,011", "812", "7,205"], ["1,234"] * 3, ["1.234", "2,345", "1"]]
)
def test_numbers_that_can_be_read_in_two_ways_are_refused_until_a_key_says_how(
    values: list[str],
) -> None:
    table("x;y", sides(values * 20))
    assert "table.csv:2: " in refusal("table.csv", "y")
    assert "dataset.decimal=" in refusal("table.csv", "y")
    assert "dataset.thousands=" in refusal("table.csv", "y")
    assert "dataset.thousands=" in refusal("table.csv", "x", kind="regression")


def test_the_keys_say_how_numbers_are_read() -> None:
    table("x;y", sides(["45,011", "812", "7,205"] * 20))
    means = {
        key: Tabular("table.csv", "y", **{key: "comma"}, **ALL).encoder.numbers[0].mean
        for key in ("thousands", "decimal")
    }
    assert means["thousands"] == pytest.approx((45011 + 812 + 7205) / 3)
    assert means["decimal"] == pytest.approx((45.011 + 812 + 7.205) / 3)
    assert "is not a number in the notation" in refusal(
        table("x;y", sides(["0.5", "1.5"] * 20)), "y", decimal="comma"
    )
    with pytest.raises(DltrainError, match="the same mark"):
        Tabular("table.csv", "y", decimal=",", thousands=",")


def test_points_that_separate_thousands_are_not_read_as_decimal_ones() -> None:
    """In a file with decimal commas; and beside numbers below 1000 that have no point."""
    rows = [f"0,{i};{i % 9 + 1}.{100 + i};{'ab'[i % 2]}" for i in range(60)]
    assert "table.csv:2: '1.100' in column 'z'" in refusal(table("x;z;y", rows), "y")
    values = [f"{i % 9 + 1}.{100 + i}" if i % 3 else str(500 + i) for i in range(60)]
    assert "table.csv:3: '2.101' in column 'x'" in refusal(table("x;y", sides(values)), "y")
    data = Tabular("table.csv", "y", thousands="point", **ALL)
    assert data.encoder.numbers[0].mean > 1000


def test_points_before_three_digits_of_a_file_with_semicolons_are_not_guessed() -> None:
    path = table("x;y", [f"{i};{1 + i}.{100 + i}" for i in range(40)])
    message = refusal(path, "y", kind="regression")
    assert (
        "table.csv:2: '1.100' in column 'y' may have a decimal point or separated thousands"
        in message
    )
    assert Tabular(path, "y", kind="regression", thousands=".").spec.target_mean[0] > 10_000
    assert Tabular(path, "y", kind="regression", decimal=".").spec.target_mean[0] < 100
    path = table("x;y", [f"{i}.5;{1 + i}.{100 + i}" for i in range(40)])
    assert Tabular(path, "y", kind="regression").spec.target_mean[0] < 100
    path = table("x,y", [f"{i},{1 + i}.{100 + i}" for i in range(40)])
    assert Tabular(path, "y", kind="regression").spec.target_mean[0] < 100


def test_a_column_in_two_notations_is_refused_by_both_lines() -> None:
    message = refusal(table("x;y", sides([*range(20), "0,5", "0.5"])), "y")
    assert "table.csv:23: '0.5' in column 'x' and '0,5' (table.csv:22)" in message
    assert "percent" in refusal(table("x;y", sides(["1%", "2%", "3.5"] * 20)), "y")
    assert "another unit" in refusal(table("x;y", sides(["$1", "€2", "$3"] * 20)), "y")


def test_a_placeholder_among_numbers_is_refused_until_a_key_says_what_it_is() -> None:
    path = table("x;y", sides(["unknown" if i % 2 else i for i in range(60)]))
    assert (
        "table.csv:3: 'unknown' in column 'x' is not a number; "
        '"dataset.missing_values=[unknown]"' in refusal(path, "y")
    )
    data = Tabular(path, "y", missing="mean", missing_values=("unknown",), **ALL)
    assert data.encoder.numbers[0].mean == pytest.approx(29)
    path = table("x;y", sides([-999 if i % 2 else i for i in range(60)]))
    assert (
        Tabular(path, "y", missing="mean", missing_values=(-999,), **ALL).encoder.numbers[0].mean
        == 29
    )
    stored = parquet(x=[-999.0 if i % 2 else i for i in range(60)], y=["a", "b"] * 30)
    assert (
        Tabular(stored, "y", missing="mean", missing_values=(-999,), **ALL).encoder.numbers[0].mean
        == 29
    )


@pytest.mark.parametrize(
    "text", ["<0.5", "≥ 7", "~12", "7*", "1,234[1]", "3 (estimated)", "not measured"]
)
def test_numbers_with_a_note_are_refused_rather_than_made_categories(text: str) -> None:
    values = [f"{i}.5" if i % 3 else text.replace("7", str(i)) for i in range(90)]
    assert 'is not a number; "dataset.missing_values=[' in refusal(table("x;y", sides(values)), "y")


@pytest.mark.parametrize(
    "units", [("GB", "MB"), ("kmpl", "km/kg"), ("million", "billion"), ("km", "mi", "ft")]
)
def test_numbers_in_several_units_are_refused_rather_than_made_categories(
    units: tuple[str, ...],
) -> None:
    values = [f"{i}.5 {units[i % len(units)]}" for i in range(60)]
    message = refusal(table("x;y", sides(values)), "y")
    assert (
        f"table.csv:3: '1.5 {units[1]}' in column 'x' is in another unit than '0.5 {units[0]}' "
        f"(table.csv:2)" in message
    )
    assert "dataset.categorical=[x]" in message
    few = [f"{1 + i % 4} {units[i % len(units)]}" for i in range(60)]
    assert Tabular(table("x;y", sides(few)), "y", **ALL).encoder.categories


@pytest.mark.parametrize("marks", ["AB", ("am", "pm"), ("st", "nd")])
def test_places_and_hours_are_not_numbers_in_several_units(marks: Sequence[str]) -> None:
    values = [f"{i % 26} {marks[i % len(marks)]}" for i in range(120)]
    assert Tabular(table("x;y", sides(values)), "y", **ALL).encoder.categories


def test_a_column_of_few_words_and_many_numbers_is_one_of_numbers() -> None:
    words = ["tbd", "n.d.", "open", "unknown"]
    values = [words[i % 4] if i % 3 == 0 else i for i in range(90)]
    assert "table.csv:2: 'tbd' in column 'x' is not a number" in refusal(
        table("x;y", sides(values)), "y"
    )


@pytest.mark.parametrize(
    "texts",
    [
        ["12A", "7B", "31C"],
        ["A/5 21171", "PC 17599", "113803"],
        ["1-2", "3-4"],
        ["3/4"],
        ["10.0.0.1", "192.168.100.101"],
        ["192.168.100.101", "192.168.100.102"],
    ],
)
def test_codes_that_hold_digits_stay_categories(texts: list[str]) -> None:
    data = Tabular(table("x;y", sides(texts * 20)), "y", **ALL)
    assert len(data.encoder.categories[0].texts) == len(texts)


def test_a_run_reads_other_tables_in_the_notation_of_its_training_table() -> None:
    """The description keeps how each column was read, through JSON; a description without it knows
    plain numbers.
    """
    values = draws()
    rows = [
        f"{grouped(v, '.', ',')};{grouped(v, ',', '.')};{'ab'[i % 2]}" for i, v in enumerate(values)
    ]
    trained = Tabular(table("x;z;y", rows), "y", **ALL)
    description = json.loads(json.dumps(trained.description()))
    table("x;z", ['1.234,5;"1,234.5"', "1234,5;1234.5", "1.234;1", "0.5;1", "1,5;$2"], "new.csv")
    data = Tabular(target="y")
    data.restore(description)
    samples = list(data.encode([Path("new.csv")]))
    assert [s.problem for s in samples[:3]] == ["", "", ""]
    assert samples[0].inputs is not None
    assert samples[1].inputs is not None
    assert samples[2].inputs is not None
    assert torch.equal(samples[0].inputs, samples[1].inputs)
    x = trained.encoder.numbers[0]
    assert float(samples[2].inputs[0]) * x.std + x.mean == pytest.approx(1234, rel=1e-3)
    assert "'0.5' in column 'x' is not a number as the run reads this column" in samples[3].problem
    assert "'$2' in column 'z' is not a number" in samples[4].problem
    for number in description["encoder"]["numbers"]:
        del number["format"]
    data.restore(description)
    assert [bool(s.problem) for s in data.encode([Path("new.csv")])] == [
        True,
        True,
        False,
        False,
        True,
    ]


# blank-is-not-missing and missing-target-is-a-class


@pytest.mark.parametrize(
    "word",
    ["", "  ", "NA", "N/A", "n/a", "#N/A", "NaN", "nan", "null", "NULL", "None", "<NA>", "?"],
)
def test_a_missing_target_is_not_a_class(word: str) -> None:
    path = table(
        "x,sex", [f"{i},{word if i == 7 else ('male', 'female')[i % 2]}" for i in range(60)]
    )
    assert "table.csv:9: the target 'sex' is empty: dataset.missing=drop" in refusal(path, "sex")
    data = Tabular(path, "sex", missing="drop", **ALL)
    assert data.spec.class_names == ("female", "male")
    assert len(data.stored.targets) == 59


@pytest.mark.parametrize("none", [None, float("nan"), "NA", "  "])
def test_a_missing_target_of_a_parquet_file_is_not_a_class(none: Any) -> None:
    labels: list[Any] = [1.0, 2.0] * 30 if isinstance(none, float) else ["male", "female"] * 30
    labels[7] = none
    path = parquet(x=list(range(60)), y=labels)
    assert "table.parquet: row 8: the target 'y' is empty" in refusal(path, "y")
    assert len(Tabular(path, "y", missing="drop", **ALL).spec.class_names) == 2


def test_a_missing_word_is_a_label_where_the_target_is_a_category() -> None:
    path = table("x,country", [f"{i},{('NA', 'DE')[i % 2]}" for i in range(60)])
    assert Tabular(path, "country", categorical=("country",)).spec.class_names == ("DE", "NA")


def test_a_finished_run_leaves_out_the_same_rows_without_a_label() -> None:
    """A dash among labels that are numbers means that there is none, also when the labels are
    known.
    """
    path = table("x,y", [f"{i},{'-' if i == 7 else i % 2 + 1}" for i in range(60)])
    trained = Tabular(path, "y", missing="drop", **ALL)
    assert trained.spec.class_names == ("1", "2")
    data = Tabular(path, "y", missing="drop", **ALL)
    data.restore(json.loads(json.dumps(trained.description())))
    assert torch.equal(data.stored.targets, trained.stored.targets)
    assert len(data.stored.targets) == 59


def test_signs_are_labels() -> None:
    """The classes of the UCI credit approval data are + and -."""
    assert Tabular(
        table("x,y", [f"{i},{'+-'[i % 2]}" for i in range(60)]), "y"
    ).spec.class_names == ("+", "-")


# labels-merged

LABELS: list[tuple[list[str], tuple[str, ...]]] = [
    (["007", "7", "8"], ("007", "7", "8")),
    (["9007199254740993", "9007199254740992"], ("9007199254740992", "9007199254740993")),
    (["01234", "56789", "00001"], ("00001", "01234", "56789")),
    ([" a", "b ", "a"], ("a", "b")),
    (["True", "False"], ("False", "True")),
    (["1.0", "2.0", "10.0"], ("1", "2", "10")),
    (["1.10", "1.2"], ("1.1", "1.2")),
]


@pytest.mark.parametrize(("labels", "classes"), LABELS)
def test_labels_are_compared_as_texts(labels: list[str], classes: tuple[str, ...]) -> None:
    path = table("x,y", [f"{i},{labels[i % len(labels)]}" for i in range(60)])
    data = Tabular(path, "y", kind="classification")
    assert data.spec.class_names == classes
    counts = torch.bincount(data.stored.targets).tolist()
    assert sum(counts) == 60
    assert len(counts) == len(classes)


@pytest.mark.parametrize("other", ["e\u0301t", "\u00e9t\u200b", "\u00e9t\u00a0", "\ufeff\u00e9t"])
def test_labels_that_look_alike_are_one_class_and_are_logged(
    other: str, caplog: pytest.LogCaptureFixture
) -> None:
    labels = ["\u00e9t", other, "b"]
    data = Tabular(table("x,z,y", [f"{i},{labels[i % 3]},{labels[i % 3]}" for i in range(60)]), "y")
    assert data.spec.class_names == ("b", "\u00e9t")
    assert data.encoder.categories[0].texts == ("b", "\u00e9t")
    assert f"are one class: {other!a} is '\u00e9t'" in caplog.text


@pytest.mark.parametrize(("word", "count"), [("NA", 2), ("None", 3)])
def test_the_error_for_a_label_that_means_no_value_says_how_to_use_it(
    word: str, count: int
) -> None:
    labels = [word, "b", "c"][:count]
    path = table("x,y", [f"{i},{labels[i % count]}" for i in range(60)])
    assert (
        f'{word!r} means that there is no value, "dataset.categorical=[y]" takes it for a class'
        in refusal(path, "y")
    )
    assert Tabular(path, "y", categorical=("y",)).spec.class_names == tuple(sorted(labels))


@pytest.mark.parametrize(
    "labels", [["1e3", "1000"], ["1", "1.0"], ["True", "true"], ["1.1", "1.10"], ["+1", "1"]]
)
def test_labels_of_one_value_in_two_writings_are_refused_or_kept_apart(labels: list[str]) -> None:
    path = table("x,y", [f"{i},{labels[i % 2]}" for i in range(60)])
    message = refusal(path, "y", kind="classification")
    assert f"table.csv:3: the label {labels[1]!r}" in message
    assert f"{labels[0]!r} (table.csv:2)" in message
    assert Tabular(path, "y", categorical=("y",)).spec.class_names == tuple(sorted(labels))


def test_whole_labels_of_parquet_keep_all_their_digits() -> None:
    labels = [2**53, 2**53 + 1] * 30
    data = Tabular(parquet(x=list(range(60)), y=labels), "y", **ALL)
    assert data.spec.class_names == (str(2**53), str(2**53 + 1))
    assert data.stored.targets.tolist() == [0, 1] * 30


def test_a_different_label_in_every_row_is_nothing_to_learn() -> None:
    assert "every row has another label" in refusal(
        table("x,y", [f"{i},name {i}" for i in range(60)]), "y"
    )


# parquet-predict-differs

MOMENT = datetime.datetime(2020, 1, 1)
SAME: dict[str, tuple[list[Any], list[str]]] = {
    "floats": ([1.0, 2.0, 3.5], ["1", "2.0", "3.50"]),
    "whole numbers": ([1, 2, 3], ["1.0", "2", "3e0"]),
    "texts of numbers": (["1", "2", "3"], ["1.0", " 2", "3"]),
    "booleans": ([True, False, True], ["True", "FALSE", "true"]),
    "days": (
        [MOMENT.date(), datetime.date(2020, 1, 2), None],
        ["2020-01-01", "2020-01-02 00:00:00", "NaT"],
    ),
    "times": ([MOMENT, MOMENT.replace(hour=9), None], ["2020-01-01", "2020-01-01T09:00", ""]),
    "texts": (["a", "b ", None], [" a", "b", "NA"]),
}


@pytest.mark.parametrize("kind", SAME)
def test_every_format_and_every_command_reads_a_value_alike(kind: str) -> None:
    """Training, evaluation and prediction, from csv and from Parquet, and dictionary-encoded
    Parquet.
    """
    typed, texts = SAME[kind]
    y = ["a", "b"] * 30
    table("c,y", [f"{texts[i % 3]},{y[i]}" for i in range(60)])
    values = pa.array([typed[i % 3] for i in range(60)])
    paths = ["table.csv", parquet("one.parquet", c=values, y=y)]
    paths.append(parquet("two.parquet", c=values.dictionary_encode(), y=y))
    runs = [Tabular(path, "y", categorical=("c",), **ALL) for path in paths]
    expected = runs[0].stored.inputs
    assert len(expected.unique(dim=0)) == 3 - (kind == "booleans")
    for run in runs:
        assert run.spec.feature_names == runs[0].spec.feature_names
        assert torch.equal(run.stored.inputs, expected)
        for path in paths:
            data = Tabular(path, "y", categorical=("c",))
            data.restore(json.loads(json.dumps(run.description())))
            assert torch.equal(data.stored.inputs, expected), path
            rows = [sample.inputs for sample in data.encode([Path(path)])]
            assert torch.equal(torch.stack([row for row in rows if row is not None]), expected), (
                path
            )


def test_numbers_of_every_type_are_predicted_from_as_they_were_trained_on() -> None:
    from decimal import Decimal

    columns = {
        "f32": pa.array([i / 7 for i in range(60)], pa.float32()),
        "f64": [i / 7 for i in range(60)],
        "i64": [2**60 + i * 2**40 for i in range(60)],
        "u8": pa.array(range(60), pa.uint8()),
        "dec": [Decimal(i) / 4 for i in range(60)],
        "text": [str(i / 7) for i in range(60)],
    }
    path = parquet(**columns, y=["a", "b"] * 30)
    trained = Tabular(path, "y", **ALL)
    assert trained.spec.feature_names == tuple(columns)
    data = Tabular(target="y")
    data.restore(json.loads(json.dumps(trained.description())))
    rows = [sample.inputs for sample in data.encode([Path(path)])]
    assert torch.equal(torch.stack([row for row in rows if row is not None]), trained.stored.inputs)


def test_a_run_of_an_older_version_reads_its_categories_and_classes_as_before() -> None:
    """Its texts were those of the file, with spaces and words for missing; its numbers were merged
    labels.
    """
    rows = [f"{('NA', ' a', 'b')[i % 3]},{('007', '7', '8')[i % 3]}" for i in range(60)]
    trained = Tabular(table("c,y", rows), "y", categorical=("c",), missing="error", **ALL)
    description = json.loads(json.dumps(trained.description()))
    del description["target_formats"]
    description["class_names"] = ["7", "8"]
    description["encoder"]["categories"][0]["texts"] = [" a", "NA", "b"]
    data = Tabular("table.csv", "y", categorical=("c",), missing="error", **ALL)
    data.restore(description)
    assert data.stored.inputs[:3].tolist() == [[0, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 1]]
    assert data.stored.targets[:3].tolist() == [0, 0, 1]


def test_unknown_categories_are_counted_by_column(
    dltrain, caplog: pytest.LogCaptureFixture
) -> None:
    path = table("c,x,y", [f"{'pq'[i % 2]},{i},{'ab'[i % 2]}" for i in range(60)])
    on_it = (
        "dataset=tabular",
        f"dataset.path={path}",
        "dataset.target=y",
        "callbacks=quiet",
        "trainer.epochs=1",
    )
    run = dltrain(*on_it, "--json").json["run"]
    table("c,x,y", [f"{'pr'[i % 2] if i else 's'},{i},{'ab'[i % 2]}" for i in range(60)], "new.csv")
    message = (
        "new.csv: 31 of 60 values in column 'c' (52%) are not among the training rows and "
        "count as unknown"
    )
    for command in (("predict", run, "new.csv"), ("evaluate", run, "dataset.path=new.csv")):
        outcome = dltrain(*command)
        assert outcome.code == 0, outcome.err
        assert f"{message}: 'r' (30), 's' (1)" in outcome.out + outcome.err
    outcome = dltrain("predict", run, path)
    assert "unknown" not in outcome.out + outcome.err


# parquet-index-is-a-feature


@pytest.mark.parametrize("name", ["__index_level_0__", "passenger"])
def test_the_index_of_pandas_is_no_feature(name: str, caplog: pytest.LogCaptureFixture) -> None:
    columns: dict[str, Any] = {
        "noise": [0.5, 0.25] * 30,
        "y": ["a", "b"] * 30,
        name: list(range(60)),
    }
    path = parquet(metadata={"index_columns": [name], "columns": []}, **columns)
    assert Tabular(path, "y").spec.feature_names == ("noise",)
    assert f"table.parquet: column '{name}' is the row index of pandas" in caplog.text
    assert (
        Tabular(path, "noise", kind="regression", ignore=("y",), categorical=(name,))
        .spec.feature_names[0]
        .startswith(name)
    )


def test_several_levels_a_range_and_a_lost_note_of_the_index() -> None:
    columns: dict[str, Any] = {"noise": [0.5, 0.25] * 30, "y": ["a", "b"] * 30}
    levels = {"year": list(range(60)), "__index_level_1__": list(range(60))}
    path = parquet(metadata={"index_columns": list(levels)}, **columns, **levels)
    assert Tabular(path, "y").spec.feature_names == ("noise",)
    step = {"kind": "range", "name": None, "start": 0, "stop": 60, "step": 1}
    assert Tabular(
        parquet(metadata={"index_columns": [step]}, **columns), "y"
    ).spec.feature_names == ("noise",)
    assert Tabular(
        parquet(**columns, __index_level_0__=list(range(60))), "y"
    ).spec.feature_names == ("noise",)


@pytest.mark.parametrize("name", ["", "Unnamed: 0"])
@pytest.mark.parametrize("start", ["from 0", "from 1", "a shuffled part", "floats", "two runs"])
def test_a_nameless_first_column_that_counts_the_rows_is_no_feature(
    name: str, start: str, caplog: pytest.LogCaptureFixture
) -> None:
    shuffled = random.Random(0).sample(range(500), 60)
    count = {"from 0": range(60), "from 1": range(1, 61), "a shuffled part": shuffled}
    numbers: Any = (
        [float(i) for i in range(60)]
        if start == "floats"
        else count.get(start, [*range(30), *range(30)])
    )
    path = table(f"{name},noise,y", [f"{n},{i % 7},{'ab'[i % 2]}" for i, n in enumerate(numbers)])
    assert Tabular(path, "y").spec.feature_names == ("noise",)
    assert "and numbers the rows: it is left out" in caplog.text


@pytest.mark.parametrize(
    "names", [("", "Unnamed: 0"), ("Unnamed: 0.1", "Unnamed: 0"), ("Unnamed: 0", "")]
)
def test_every_nameless_column_that_counts_the_rows_is_no_feature(names: tuple[str, str]) -> None:
    by_class = sorted(range(60), key=lambda i: i % 2)  # from which the class could be told
    path = table(
        f"{names[0]},{names[1]},noise,y",
        [f"{i},{n},{i % 7},{'ab'[i % 2]}" for i, n in enumerate(by_class)],
    )
    assert Tabular(path, "y").spec.feature_names == ("noise",)


def test_later_commands_leave_out_nameless_columns_too(dltrain) -> None:
    path = table(",noise,y", [f"{i},{i % 7},{'ab'[i % 2]}" for i in range(60)])
    on_it = (
        "dataset=tabular",
        f"dataset.path={path}",
        "dataset.target=y",
        "callbacks=quiet",
        "trainer.epochs=1",
    )
    run = dltrain(*on_it, "--json").json["run"]
    table(",noise,y", [f"{i},{i % 5},{'ab'[i % 2]}" for i in range(60)], "new.csv")
    commands = [("evaluate", run, "dataset.path=new.csv"), ("predict", run, "new.csv")]
    for command in [*commands, ("resume", run, "trainer.epochs=2")]:
        outcome = dltrain(*command)
        assert outcome.code == 0, outcome.err


def test_lines_that_end_in_delimiters_make_no_columns(caplog: pytest.LogCaptureFixture) -> None:
    path = table("x,z,y,,", [f"{i / 3},{i % 7},{'ab'[i % 2]},, " for i in range(60)])
    assert Tabular(path, "y").spec.feature_names == ("x", "z")
    assert "has no name and no values: it is left out" in caplog.text


def test_a_column_called_by_spaces_that_is_empty_is_left_out() -> None:
    path = table("x,y, ,", [f"{i / 3},{'ab'[i % 2]},," for i in range(60)])
    assert Tabular(path, "y").spec.feature_names == ("x",)


def test_a_nameless_column_that_does_not_count_is_refused() -> None:
    rows = [f"{i % 5 / 2},{i % 7},{'ab'[i % 2]}" for i in range(60)]
    assert "column 1 has no name: give it one, or leave it out" in refusal(table(",z,y", rows), "y")
    assert Tabular(table("Unnamed: 0,z,y", rows), "y").spec.feature_names == ("Unnamed: 0", "z")


def test_true_and_false_are_one_and_zero_where_the_run_knows_only_these() -> None:
    flags = [i % 3 == 0 for i in range(60)]
    y = ["a", "b"] * 30
    paths = [
        parquet("flags.parquet", c=flags, y=y),
        parquet("numbers.parquet", c=list(map(int, flags)), y=y),
        table(
            "c,y", [f"{flag},{label}" for flag, label in zip(flags, y, strict=True)], "flags.csv"
        ),
        table(
            "c,y",
            [f"{int(flag)},{label}" for flag, label in zip(flags, y, strict=True)],
            "numbers.csv",
        ),
    ]
    for path in paths:
        trained = Tabular(path, "y", **ALL)
        for other in paths:
            data = Tabular(other, "y")
            data.restore(json.loads(json.dumps(trained.description())))
            rows = [sample.inputs for sample in data.encode([Path(other)])]
            assert torch.equal(data.stored.inputs, trained.stored.inputs), (path, other)
            assert torch.equal(
                torch.stack([row for row in rows if row is not None]), trained.stored.inputs
            )


def test_a_series_is_predicted_from_in_the_notation_of_the_run() -> None:
    """Also where its only column is not named, decimal commas being no delimiters."""
    Path("series.csv").write_text("\n".join(["x", *(f"{i % 7},{i % 9}" for i in range(60))]))
    trained = TimeSeries("series.csv", window=3)
    assert trained.spec.target_mean[0] > 1
    description = json.loads(json.dumps(trained.description()))
    Path("new.csv").write_text("x\n1,234\n2,345\n3,456\n")
    assert (
        "dataset.decimal=comma"
        in next(TimeSeries("series.csv", window=3).encode([Path("new.csv")])).problem
    )
    trained.restore(description)
    sample = next(trained.encode([Path("new.csv")]))
    assert sample.inputs is not None
    mean, std = trained.spec.target_mean[0], trained.spec.target_std[0]
    assert (sample.inputs[:, 0] * std + mean).tolist() == pytest.approx(
        [1.234, 2.345, 3.456], abs=1e-4
    )


def test_durations_are_seconds_in_whatever_unit_a_file_stores_them() -> None:
    y = ["a", "b"] * 30
    stored = [
        pa.array([i * per for i in range(60)], pa.duration(unit))
        for unit, per in (("s", 1), ("ns", 10**9))
    ]
    runs = [
        Tabular(parquet(f"{i}.parquet", c=column, y=y), "y", **ALL)
        for i, column in enumerate(stored)
    ]
    assert torch.equal(runs[0].stored.inputs, runs[1].stored.inputs)
    assert [run.encoder.numbers[0].mean for run in runs] == [29.5, 29.5]
    runs[0].restore(json.loads(json.dumps(runs[0].description())))
    rows = [sample.inputs for sample in runs[0].encode([Path("1.parquet")])]
    assert torch.equal(torch.stack([row for row in rows if row is not None]), runs[1].stored.inputs)


def test_training_continues_with_what_the_run_learned_of_its_table(
    dltrain, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A resume keeps the encoder of the run, also of an older version's, and the splits; unless
    settings change.
    """
    path = table("c,x,y", [f"{('NA', ' a', 'b')[i % 3]},{i},{'pq'[i % 2]}" for i in range(60)])
    fresh = Tabular(path, "y", missing="error")
    description = json.loads(json.dumps(fresh.description()))
    description["encoder"]["categories"][0]["texts"] = [" a", "NA", "b"]
    description["digest"] = "another"
    data = Tabular(path, "y", missing="error")
    data.continue_as(description)
    assert data.spec.feature_names == ("x", "c=other", "c= a", "c=NA", "c=b")
    assert torch.equal(data.stored.train, fresh.stored.train)
    assert torch.equal(data.stored.targets, fresh.stored.targets)
    assert data.stored.inputs[:3, 1:].argmax(dim=1).tolist() == [2, 1, 3]
    known: list[dict[str, Any]] = []
    monkeypatch.setattr(Tabular, "continue_as", lambda self, description: known.append(description))
    on_it = (
        "dataset=tabular",
        f"dataset.path={path}",
        "dataset.target=y",
        "callbacks=quiet",
        "trainer.epochs=1",
        "dataset.missing=error",
    )
    run = dltrain(*on_it, "--json").json["run"]
    assert dltrain("resume", run, "trainer.epochs=2").code == 0
    assert known[0]["encoder"] == json.loads(json.dumps(fresh.description()))["encoder"]
    del known[:]
    dltrain("resume", run, "trainer.epochs=3", "dataset.batch_size=16")
    assert known == []


@pytest.mark.parametrize(
    "numbers", [range(60), range(1, 61), range(1001, 1061), random.Random(0).sample(range(60), 60)]
)
def test_a_column_that_numbers_the_rows_is_logged(
    numbers: Any, caplog: pytest.LogCaptureFixture
) -> None:
    path = table("id,x,y", [f"{n},{i % 7},{'ab'[i % 2]}" for i, n in enumerate(numbers)])
    assert Tabular(path, "y").spec.feature_names == ("id", "x")
    assert 'id counts the rows; to leave out: "dataset.ignore=[id]"' in caplog.text


def test_the_table_of_columns_counts_labels_as_training_does(dltrain) -> None:
    path = table("x,code", [f"{i},{('007', '7', '8')[i % 3]}" for i in range(60)])
    found = dltrain(
        "check",
        "--data",
        "dataset=tabular",
        f"dataset.path={path}",
        "dataset.target=code",
        "--json",
    )
    columns = {row["name"]: row for row in found.json["data"]["columns"]}
    assert (columns["code"]["distinct"], columns["code"]["example"]) == (3, "007")


def test_a_nameless_column_of_moments_orders_a_series() -> None:
    """Pandas writes a table with an index of dates so: the series is the only other column."""
    moments = [f"2020-01-01 {i // 60:02}:{i % 60:02}:00" for i in range(100)]
    rows = [f"{moment},{i % 7}" for i, moment in enumerate(moments)]
    random.Random(0).shuffle(rows)
    data = TimeSeries(table(",kW", rows), window=5)
    values = (data.stored.values * data.stored.std + data.stored.mean).round().tolist()
    assert values == [i % 7 for i in range(100)]
