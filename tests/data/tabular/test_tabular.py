"""Tables: reading files, messages on mistakes, and learning from the training rows alone."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dltrain.data.tabular.bundled import Bundled
from dltrain.data.tabular.tabular import Tabular
from dltrain.errors import ConfigError, DltrainError

pa = pytest.importorskip("pyarrow")
COLORS = ("red", "green", "blue")


def lines(count: int = 60) -> list[str]:
    """Rows of x,color,y: y says whether x, 0 to 9.5 in halves, is above 4."""
    return [f"{i % 20 / 2},{COLORS[i % 3]},{'yes' if i % 20 > 8 else 'no'}" for i in range(count)]


def written(text: str | bytes, name: str = "table.csv") -> str:
    Path(name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return name


def people(
    rows: list[str] | None = None, header: str = "x,color,y", name: str = "table.csv"
) -> str:
    return written("\n".join([header, *(lines() if rows is None else rows)]) + "\n", name)


def numbers(count: int = 40, **at: str) -> str:
    """Rows of x,y with y = 1.5 x, but of the line `at` that says: numbers(at_9="7,")."""
    rows = [f"{i},{1.5 * i + 0.25}" for i in range(count)]
    for line, text in at.items():
        rows[int(line.removeprefix("at_")) - 2] = text
    return people(rows, "x,y")


def cells(split: Any) -> tuple[torch.Tensor, torch.Tensor]:
    inputs, targets = zip(*split.epoch(0), strict=True)
    return torch.cat(inputs), torch.cat(targets)


# reading


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_guessed(delimiter: str) -> None:
    spec = Tabular(written(Path(people()).read_text().replace(",", delimiter)), "y").spec
    assert spec.feature_names == ("x", "color=other", "color=blue", "color=green", "color=red")
    assert spec.class_names == ("no", "yes")
    assert (spec.train_samples, spec.test_samples) == (48, 12)


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
def test_values_arrive_in_their_rows_whatever_the_file_looks_like(newline: str, bom: bytes) -> None:
    """Unicode, quoted line breaks, a byte order mark, blank lines: the target of x is 3 x + 1."""
    rows = [f'{3 * i + 1},"größe{newline}""{i % 2}""",{i}' for i in range(30)]
    text = newline.join(["цель,text,x", *rows[:10], "", *rows[10:]])
    data = Tabular(
        written(bom + text.encode()), "цель", val_fraction=0, test_fraction=0, batch_size=7
    )
    x, y = cells(data.train)
    spec = data.spec
    number = x[:, 0].double() * data.encoder.numbers[0].std + data.encoder.numbers[0].mean
    target = y[:, 0].double() * spec.target_std[0] + spec.target_mean[0]
    assert target.tolist() == pytest.approx((3 * number + 1).tolist(), abs=1e-4)
    assert data.encoder.categories[0].texts == (f'größe{newline}"0"', f'größe{newline}"1"')
    assert torch.equal(x[:, 3], (number.round() % 2).float())


def test_parquet_and_csv_of_the_same_table_give_the_same_batches() -> None:
    from pyarrow import csv, parquet

    table = csv.read_csv(people())
    parquet.write_table(
        table.append_column("flag", pa.array([i % 2 == 0 for i in range(60)])), "table.parquet"
    )
    text = people(
        [f"{line},{'true' if i % 2 == 0 else 'false'}" for i, line in enumerate(lines())],
        "x,color,y,flag",
    )
    one, other = Tabular(text, "y"), Tabular("table.parquet", "y")
    assert one.spec == other.spec
    for x, y in zip(cells(one.train), cells(other.train), strict=True):
        assert torch.equal(x, y)


@pytest.mark.parametrize(
    ("column", "values", "classes"),
    [
        ("text", ["b", "a", "c"], ("a", "b", "c")),
        ("bool", ["true", "false"], ("false", "true")),
        ("few whole numbers", ["10", "2", "9"], ("2", "9", "10")),
        ("many whole numbers", [str(i) for i in range(60)], ()),
        ("fractions", ["0.5", "1", "2"], ()),
    ],
)
def test_the_values_of_the_target_decide_its_kind(
    column: str, values: list[str], classes: tuple[str, ...]
) -> None:
    path = people([f"{i},{values[i % len(values)]}" for i in range(60)], f"x,{column}")
    spec = Tabular(path, column).spec
    assert spec.class_names == classes
    assert spec.target_names == (() if classes else (column,))
    if column == "few whole numbers":
        assert Tabular(path, column, kind="regression").spec.target_names == (column,)
    if column == "fractions":
        assert Tabular(path, column, kind="classification").spec.class_names == ("0.5", "1", "2")


def test_columns_can_be_left_out_or_used_as_categories() -> None:
    path = people([f"{i},{i % 3},{'ab'[i % 2]},oops" for i in range(30)], "id,code,y,note")
    data = Tabular(path, "y", ignore=("id", "note"), categorical=("code",))
    assert data.spec.feature_names == ("code=other", "code=0", "code=1", "code=2")


def test_several_targets_are_a_regression_in_the_order_in_which_they_are_named() -> None:
    path = people([f"{i},{i % 7},{i * i}" for i in range(40)], "a,x,b")
    spec = Tabular(path, ("b", "a")).spec
    assert spec.target_names == ("b", "a")
    assert spec.target_mean[0] > spec.target_mean[1]


# mistakes: (text of the file, further settings, exit code, what the message says)

MISTAKES: dict[str, tuple[str | bytes, dict[str, Any], int, str]] = {
    "empty": ("", {}, 3, "table.csv: the file is empty"),
    "blank lines": ("\n\n", {}, 3, "table.csv: the file is empty"),
    "header only": ("x,y", {}, 3, "table.csv:1: there is a header and nothing below it"),
    "one class": (
        "x,y\n1,a\n2,a\n",
        {},
        3,
        "table.csv:2: from here on the target 'y' has no value but 'a'",
    ),
    "one row": (
        "x,y\n1,a\n",
        {},
        3,
        "table.csv:2: from here on the target 'y' has no value but 'a'",
    ),
    "constant target": (
        "x,y\n1,2.5\n2,2.5\n",
        {"kind": "regression"},
        3,
        "the target 'y' is 2.5: nothing to learn",
    ),
    "only the target": ("y\na\nb\n", {}, 3, "table.csv:1: the target is the only column"),
    "the target twice": (
        "y\n1\n2\n",
        {"target": ["y", "y"]},
        3,
        "table.csv:1: the target is the only column",
    ),
    "two of a name": ("x,x,y\n1,2,a\n", {}, 3, "table.csv:1: 2 columns are called 'x'"),
    "no name": (
        ",x,y\n0.5,1,a\n0.5,2,b\n",
        {},
        3,
        "table.csv:1: column 1 has no name: give it one, or leave it out",
    ),
    "wrong delimiter": ("x,y\n1,a\n", {"delimiter": ";"}, 2, "is dataset.delimiter right?"),
    "few fields": ('x,z,y\n1,"2\n3",a\n\n3,b\n', {}, 3, "table.csv:5: 2 fields; the header has 3"),
    "many fields": ("x,y\n1,a\n3,b,c\n", {}, 3, "table.csv:3: 3 fields; the header has 2"),
    "open quote": (
        "x,y\n" + "1,a\n2,b\n" * 99 + '2,"b\n3,c\n',
        {},
        3,
        "table.csv:200: the record that begins here",
    ),
    "not UTF-8": (b"x,y\n1,a\n2,gr\xfcn\n", {}, 3, "table.csv:3: the text is not UTF-8"),
    "infinite": (
        "x,y\n" + "1,a\n2,b\n" * 99 + "1e999,a\n",
        {},
        3,
        "table.csv:200: the number in column 'x' is infinite",
    ),
    "text among numbers": (
        "x,y\n" + "1,a\n2,b\n" * 99 + "abc,a\n",
        {},
        3,
        "table.csv:200: 'abc' in column 'x' is no",
    ),
    "text in a target": (
        "x,y\n1,2\n3,b\n",
        {"kind": "regression"},
        3,
        "table.csv:3: 'b' in column 'y' is not a number",
    ),
    "a gap": (
        "x,y\n1,a\n,b\n2,a\n",
        {"missing": "error"},
        3,
        "table.csv:3: column 'x' is empty: dataset.missing=auto",
    ),
    "no value at all": (
        "x,z,y\n1,,a\n2,,b\n",
        {"missing": "mean"},
        3,
        "table.csv:2: column 'z' is empty in this and",
    ),
    "no complete row": (
        "x,z,y\n1,,a\n2,,b\n",
        {"missing": "drop"},
        3,
        "table.csv:2: from here on no row is complete",
    ),
    "no target value": (
        "x,y\n1,a\n2,b\n3,\n",
        {},
        3,
        "table.csv:4: the target 'y' is empty from here to the end",
    ),
    "NaN for a target": (
        "x,y\n1,0.5\n2,1\n3,NaN\n",
        {},
        3,
        "dataset.missing=drop leaves such rows out, or cut them off",
    ),
    "too many classes": (
        "x,y\n" + "".join(f"1,c{i}\n" for i in range(10000)),
        {},
        3,
        "has 10,000 different values",
    ),
    "too many texts": (
        "x,y\n" + "".join(f"c{i % 1500},{'ab'[i % 2]}\n" for i in range(6000)),
        {},
        3,
        "dataset.ignore=[x]",
    ),
    "no such target": (
        "price,y\n1,a\n",
        {"target": "prize"},
        2,
        "did you mean 'price'? It has: price, y",
    ),
    "no such column": ("x,y\n1,a\n", {"ignore": ("id",)}, 2, "table.csv has none of that name"),
    "target left out": ("x,y\n1,a\n", {"ignore": ("y",)}, 2, "the target cannot be ignored"),
    "no target": (
        "x,y\n1,a\n",
        {"target": None},
        2,
        "name the column to predict: dataset.target=COLUMN; table.csv has the columns x "
        "(number), y (category)",
    ),
    "all for validation": (
        "x,y\n1,a\n2,b\n",
        {"val_fraction": 0.9},
        3,
        "2 usable rows are too few",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_named_by_file_and_line(name: str) -> None:
    text, settings, code, message = MISTAKES[name]
    with pytest.raises(DltrainError) as raised:
        _ = Tabular(written(text), **{"target": "y", **settings}).spec
    assert message in str(raised.value)
    assert raised.value.exit_code == code


def test_a_file_that_is_not_there_is_named_and_a_run_leaves_no_folder(dltrain) -> None:
    outcome = dltrain("dataset=tabular", "dataset.path=no.csv", "dataset.target=y")
    message = "dataset.path=no.csv: "
    assert (outcome.code, message in outcome.err) == (3, True)
    outcome = dltrain("dataset=tabular")
    assert (outcome.code, "name the table to train on: dataset.path=" in outcome.err) == (2, True)
    outcome = dltrain("check", "dataset=tabular")
    assert outcome.code == 2
    assert not Path("outputs").exists()


def test_without_pyarrow_the_command_that_installs_it_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(DltrainError, match="pip install pyarrow"):
        _ = Tabular(people(), "y").spec


# what is learned


def test_numbers_are_standardized_by_the_training_rows_alone() -> None:
    data = Tabular(numbers(200), "y", test_fraction=0.3, val_fraction=0.2)
    (x, y), (test_x, _) = cells(data.train), cells(data.test)
    for values in (x, y):
        assert float(values.mean()) == pytest.approx(0, abs=1e-5)
        assert float(values.std(correction=0)) == pytest.approx(1, abs=1e-5)
    assert abs(float(test_x.mean())) > 1e-3
    assert x.dtype == y.dtype == torch.float32


def test_a_constant_column_is_zero_and_large_numbers_keep_their_differences() -> None:
    path = people([f"0.1,{1.7e9 + i},{'ab'[i % 2]}" for i in range(50)], "c,time,y")
    x, _ = cells(Tabular(path, "y", test_fraction=0, val_fraction=0).train)
    assert float(x[:, 0].abs().max()) < 1e-6
    assert len(x[:, 1].unique()) == 50


@pytest.mark.parametrize(("missing", "filled"), [("mean", 0.0), ("median", -0.5), ("zero", None)])
def test_a_missing_number_is_filled_as_the_training_rows_say(
    missing: Any, filled: float | None
) -> None:
    """The values are 1, 1, 1, 1, 6 again and again: mean 2, median 1, deviation 2."""
    rows = [f"{6 if i % 5 == 4 else 1},{'ab'[i % 2]}" for i in range(50)] + [",a"]
    data = Tabular(
        people(rows, "x,y"), "y", missing=missing, test_fraction=0, val_fraction=0, batch_size="all"
    )
    number = data.encoder.numbers[0]
    x, _ = cells(data.train)
    expected = (0 - number.mean) / number.std if filled is None else filled
    known = {round((1 - number.mean) / number.std, 4), round((6 - number.mean) / number.std, 4)}
    assert len(x) == 51
    assert (number.mean, number.std) == pytest.approx((2, 2))
    assert {round(v, 4) for v in x[:, 0].tolist()} == known | {round(expected, 4)}


def test_dropped_rows_are_gone_and_the_others_keep_their_targets() -> None:
    data = Tabular(
        numbers(40, at_9="7,", at_12=",3"), "y", missing="drop", test_fraction=0, val_fraction=0
    )
    x, y = cells(data.train)
    spec, number = data.spec, data.encoder.numbers[0]
    assert len(x) == 38
    target = y[:, 0] * spec.target_std[0] + spec.target_mean[0]
    assert target.tolist() == pytest.approx(
        (1.5 * (x[:, 0] * number.std + number.mean) + 0.25).tolist(), abs=1e-3
    )


@pytest.mark.parametrize("categories", ["onehot", "embed"])
def test_a_missing_and_an_unseen_category_have_a_code_of_their_own(categories: Any) -> None:
    people([f"{i},{'' if i == 7 else COLORS[i % 2]},{'ab'[i % 2]}" for i in range(30)], "x,color,y")
    people(["1,red,a", "1,green,b", "1,purple,a", "1,,b"], "x,color,y", name="test.csv")
    data = Tabular("table.csv", "y", test_path="test.csv", categories=categories, missing="error")
    x, y = cells(data.test)
    assert y.tolist() == [0, 1, 0, 1]
    if categories == "embed":
        assert data.spec.cardinalities == (3,)
        assert x[:, 1].tolist() == [2, 1, 0, 0]
    else:
        assert data.spec.cardinalities == ()
        assert x[:, 1:].tolist() == [[0, 0, 1], [0, 1, 0], [1, 0, 0], [1, 0, 0]]
    assert len(cells(data.train)[0]) + data.val.samples == 30


def test_categories_that_only_held_out_rows_have_are_unseen() -> None:
    data = Tabular(
        people([f"c{i},{'ab'[i % 2]}" for i in range(50)], "c,y"), "y", categorical=("c",)
    )
    assert len(data.encoder.categories[0].texts) == data.train.samples
    x, _ = cells(data.test)
    assert (x[:, 0] == 1).all()


# splits


def test_the_split_is_a_function_of_split_seed_disjoint_complete_and_stratified() -> None:
    path = people([f"{i},{'rare' if i % 10 == 0 else 'usual'}" for i in range(200)], "x,y")
    first, again, other = (
        Tabular(path, "y", split_seed=s, seed=k).stored for s, k in ((0, 0), (0, 1), (1, 0))
    )
    parts = [first.train, first.val, first.test]
    assert sorted(torch.cat(parts).tolist()) == list(range(200))
    assert [len(p) for p in parts] == [144, 16, 40]
    assert [int((first.targets[p] == 0).sum()) for p in parts] == [14, 2, 4]
    assert torch.equal(first.test, again.test)
    assert torch.equal(first.val, again.val)
    assert not torch.equal(first.test, other.test)


def test_every_row_that_is_not_for_testing_is_in_one_fold() -> None:
    loaded = [Tabular(numbers(53), "y", folds=4, fold=fold).stored for fold in range(4)]
    held = torch.cat([part.val for part in loaded])
    assert sorted(torch.cat([held, loaded[0].test]).tolist()) == list(range(53))
    assert all(torch.equal(part.test, loaded[0].test) for part in loaded)
    with pytest.raises(ValueError, match="is not one of the"):
        Tabular(numbers(), "y", folds=4, fold=4)


# after training

TRAIN = (
    "dataset=tabular",
    "dataset.path=table.csv",
    "dataset.target=y",
    "callbacks=quiet",
    "trainer.epochs=3",
)


def test_evaluating_another_file_uses_what_the_run_learned_and_every_row(dltrain) -> None:
    """Columns and classes in another order, fewer categories: the scores are those of the rows."""
    people()
    run = dltrain(*TRAIN, "trainer.epochs=30", "optimizer.lr=0.01", "--json").json
    assert run["metrics"]["test/accuracy"] > 0.9
    rows = [f"yes,red,{9 + i / 100},spare" for i in range(20)] + ["no,purple,0.5,spare"] * 5
    people(rows, "y,color,x,unused", name="other.csv")
    outcome = dltrain("evaluate", run["run"], "dataset.path=other.csv", "--json")
    assert outcome.code == 0, outcome.err
    assert outcome.json["metrics"]["test/accuracy"] == 1
    people(["yes,red,0.5"] * 3 + ["no,red,9"] * 3, "y,color,x", name="wrong.csv")
    assert (
        dltrain("evaluate", run["run"], "dataset.path=wrong.csv", "--json").json["metrics"][
            "test/accuracy"
        ]
        == 0
    )
    again = dltrain("evaluate", run["run"], "--json").json["metrics"]
    assert again["test/loss"] == run["metrics"]["test/loss"]
    people(["perhaps,red,1"], "y,color,x", name="unknown.csv")
    outcome = dltrain("evaluate", run["run"], "dataset.path=unknown.csv")
    assert (
        outcome.code,
        "unknown.csv:2: 'perhaps' is not one of the 2 known classes" in outcome.err,
    ) == (3, True)
    people(["yes,1"], "y,x", name="narrow.csv")
    outcome = dltrain("evaluate", run["run"], "dataset.path=narrow.csv")
    assert (outcome.code, "'color'" in outcome.err) == (2, True)


@pytest.mark.parametrize("categories", ["onehot", "embed"])
def test_rows_of_a_file_are_encoded_one_by_one_as_the_run_encoded_its_own(categories: Any) -> None:
    """The description goes through JSON; the target is absent; each bad row has its problem."""
    trained = Tabular(people(), "y", categories=categories, missing="error")
    description = json.loads(json.dumps(trained.description()))
    rows = ["color,x", "red,2.5", "blue,abc", "green", "purple,+1e0", ",", '"re\nd",3', "blue,inf"]
    written("\n".join(rows), "new.csv")
    data = Tabular(target="y", categories=categories, missing="error")
    data.restore(description)
    assert data.spec.feature_names == trained.spec.feature_names
    samples = list(data.encode([Path("new.csv"), Path("absent.csv")]))
    assert [s.name for s in samples] == [
        *(f"new.csv:{i}" for i in (2, 3, 4, 5, 6, 7, 9)),
        "absent.csv",
    ]
    problems = {s.name: s.problem for s in samples if s.problem}
    assert problems == {
        "new.csv:3": "'abc' in column 'x' is not a number",
        "new.csv:4": "1 field; the header has 2",
        "new.csv:6": "column 'x' is empty",
        "new.csv:9": "'inf' in column 'x' is not a number",
        "absent.csv": "absent.csv: the file does not exist",
    }
    number = trained.encoder.numbers[0]
    first, purple = samples[0].inputs, samples[3].inputs
    assert first is not None
    assert purple is not None
    assert float(first[0]) == pytest.approx((2.5 - number.mean) / number.std)
    assert first[1:].tolist() == ([3] if categories == "embed" else [0, 0, 0, 1])
    assert purple[1:].tolist() == ([0] if categories == "embed" else [1, 0, 0, 0])


def test_embedded_categories_need_a_model_with_embeddings(dltrain) -> None:
    people()
    outcome = dltrain(*TRAIN, "dataset.categories=embed", "model=mlp")
    assert outcome.code == 2
    assert "model=tabular_mlp, or dataset.categories=onehot" in outcome.err
    run = dltrain(
        *TRAIN, "dataset.categories=embed", "trainer.epochs=30", "optimizer.lr=0.01", "--json"
    )
    assert run.json["metrics"]["test/accuracy"] > 0.9


def test_a_run_needs_no_test_rows(dltrain) -> None:
    people()
    run = dltrain(*TRAIN, "dataset.test_fraction=0", "--json")
    assert run.code == 0, run.err
    assert not [name for name in run.json["metrics"] if name.startswith("test/")]


def test_the_fingerprint_names_the_content() -> None:
    one = Tabular(people(), "y").fingerprint()
    assert one == Tabular(people(name="copy.csv"), "y").fingerprint()
    assert one != Tabular(people(lines()[:-1]), "y").fingerprint()


def test_fake_rows_look_like_the_table_and_need_no_file(dltrain) -> None:
    path = people()
    data = Tabular(path, "y", categories="embed")
    fake = data.fake()
    Path(path).unlink()
    x, y = next(fake.train.epoch(0))
    assert x.shape[1:] == data.spec.input_shape
    assert set(x[:, 1].tolist()) <= {0, 1, 2, 3}
    assert set(y.tolist()) == {0, 1}


@pytest.mark.parametrize("name", ["diabetes", "wine", "breast_cancer"])
def test_bundled_tables_are_scikit_learns(name: Any) -> None:
    from sklearn import datasets

    bunch = getattr(datasets, f"load_{name}")()
    data = Tabular(
        source=Bundled(name), target="target", val_fraction=0, test_fraction=0, batch_size="all"
    )
    spec = data.spec
    assert spec.feature_names == tuple(map(str, bunch.feature_names))
    x, y = data.stored.inputs.double().numpy(), data.stored.targets.numpy()
    raw = (bunch.data - bunch.data.mean(0)) / bunch.data.std(0)
    assert np.abs(x - raw).max() < 1e-5
    if name == "diabetes":
        assert np.allclose(
            y[:, 0] * spec.target_std[0] + spec.target_mean[0], bunch.target, atol=1e-3
        )
    else:
        assert [spec.class_names[k] for k in y] == [
            str(bunch.target_names[k]) for k in bunch.target
        ]


def test_a_column_of_a_bundled_table_that_does_not_exist_is_named() -> None:
    with pytest.raises(ConfigError, match="did you mean 'age'"):
        _ = Tabular(source=Bundled("diabetes"), target="target", ignore=("agee",)).spec


def test_all_rows_of_another_table_than_the_runs_own_are_for_testing() -> None:
    description = Tabular(people(), "y").description()
    data = Tabular(people(lines()[:-1], name="other.csv"), "y")
    data.restore(description)
    assert (data.train.samples, data.val.samples, data.test.samples) == (0, 0, 59)


def test_two_columns_of_one_name_are_refused_in_prediction_too() -> None:
    Path("table.csv").write_text(
        "\n".join(["x,z,y", *(f"{i % 9},{i % 7},{'ab'[i % 2]}" for i in range(60))]) + "\n"
    )
    data = Tabular("table.csv", "y")
    data.restore(data.description())
    Path("twice.csv").write_text("x,z,x\n1,2,3\n")
    Path("other.csv").write_text("x,u,u,z\n1,2,3,4\n")
    twice, other = data.encode([Path("twice.csv"), Path("other.csv")])
    assert twice.inputs is None
    assert twice.problem == "twice.csv:1: 2 columns are called 'x'"
    assert other.inputs is not None
