"""Advice on groups that nobody named: id columns and paths that are on both sides of the split."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_pictures import data, lay, picture

from dltrain.data.held_out.advice import id_columns, min_number_of_groups
from dltrain.data.tabular.bundled import Bundled
from dltrain.data.tabular.tabular import Tabular

CHECK = ("check", "--data", "device=cpu")
TABLE = (*CHECK, "dataset=tabular", "dataset.path=table.csv", "dataset.target=y")


@pytest.mark.parametrize(
    "name",
    [
        *("patient", "Patient", "patients", "patient_id", "PatientID", "patientId", "subject_no"),
        *("user name", "user", "session", "session-id", "id", "ID", "scene", "movie_id"),
    ],
)
def test_a_name_that_says_group(name: str) -> None:
    assert id_columns([name, "x"]) == [name]


@pytest.mark.parametrize(
    "name",
    [
        *("age", "name", "code", "number", "country_code", "country_id", "class_id", "zip code"),
        *("user_score", "patient_age", "video_length", "grid", "idea", "x", "1", "", "größe"),
    ],
)
def test_another_name(name: str) -> None:
    assert min_number_of_groups(name) == 0


def table(column: str = "patient", number: int = 20, rows: int = 80, ids: bool = False) -> None:
    lines = [f"x,{column},y"]
    lines += [f"{i % 9},p{i if ids else i % number},{i % 2}" for i in range(rows)]
    Path("table.csv").write_text("\n".join(lines) + "\n")


def test_a_column_of_patients_on_both_sides_is_said(dltrain) -> None:
    table()
    advice = (
        "column patient: 15 of 20 values have rows on both sides of the split; "
        "dataset.group=patient keeps them together"
    )
    outcome = dltrain(*TABLE, "--json")
    assert outcome.code == 0, outcome.err
    assert advice in outcome.json["data"]["warnings"]
    without_data = [word for word in TABLE if word != "--data"]
    outcome = dltrain(*without_data)
    assert advice in outcome.out + outcome.err
    outcome = dltrain(*TABLE, "dataset.group=patient")
    assert outcome.code == 0, outcome.err
    assert "both sides" not in outcome.out + outcome.err
    outcome = dltrain(*TABLE, "dataset.ignore=[patient]")
    assert advice in outcome.out + outcome.err, "the split is the same"


@pytest.mark.parametrize(
    "settings",
    [
        {"number": 4},
        {"column": "session", "number": 6},
        {"column": "measurement"},
        {"ids": True},
        {"number": 60},
    ],
    ids=str,
)
def test_few_values_other_names_and_an_id_for_each_row_are_no_groups(
    settings: dict[str, object],
) -> None:
    table(**settings)  # type: ignore[arg-type]
    assert Tabular("table.csv", "y").split_advice() == []


def test_rows_of_a_patient_that_are_on_one_side_by_chance_are_fine() -> None:
    rows = [f"{i},p{i // 10},{i % 2},{i}" for i in range(100)]
    Path("table.csv").write_text("\n".join(["x,patient,y,day", *rows]) + "\n")
    settings = {"val_fraction": 0.0, "test_fraction": 0.2}
    assert Tabular("table.csv", "y", **settings).split_advice()  # type: ignore[arg-type]
    in_time = Tabular("table.csv", "y", split="time", time="day")
    assert in_time.split_advice() == []


@pytest.mark.parametrize("name", ["wine", "breast_cancer", "diabetes"])
def test_bundled_tables_have_no_groups(name: str) -> None:
    table_data = Tabular(source=Bundled(name), target="target")  # type: ignore[arg-type]
    assert table_data.split_advice() == []


@pytest.mark.parametrize("dataset", ["digits", "synthetic", "wine"])
def test_data_sets_that_come_with_the_package_are_checked_in_silence(dataset: str, dltrain) -> None:
    outcome = dltrain(*CHECK, f"dataset={dataset}")
    assert outcome.code == 0, outcome.err
    assert "both sides" not in outcome.out + outcome.err


def pictures(name: str, patients: int = 12, count: int = 3) -> None:
    for label in ("cat", "dog"):
        for patient in range(patients):
            for number in range(count):
                path = Path("pets", label, name.format(patient=patient, number=number, label=label))
                path.parent.mkdir(parents=True, exist_ok=True)
                picture(seed=100 * patient + number).save(path)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            "p{patient}/{number}.png",
            "files in the same folder below that of the class (such as p0) are on both sides of "
            "the split; if they belong together, dataset.group=folder keeps them together",
        ),
        (
            "p{patient}_{number}.png",
            "files whose names begin alike, up to the first _ or - (such as p0) are on both sides "
            "of the split; if they belong together, dataset.group=prefix keeps them together",
        ),
    ],
)
def test_files_that_share_a_folder_or_a_prefix_are_said(name: str, words: str, dltrain) -> None:
    pictures(name)
    outcome = dltrain(*CHECK, "dataset=image_folder", "dataset.path=pets", "--json")
    assert outcome.code == 0, outcome.err
    [advice] = [line for line in outcome.json["data"]["warnings"] if "both sides" in line]
    assert advice.endswith(words)
    assert " of 12 groups of files" in advice


@pytest.mark.parametrize(
    "name",
    [
        "img_{patient}_{number}.png",
        "{label}_{patient}_{number}.png",
        "{patient}-{number}.png",
        "{patient}{number}.png",
    ],
)
def test_files_that_are_only_numbered_are_no_groups(name: str, dltrain) -> None:
    pictures(name, patients=3 if name.startswith("{patient}-") else 12)
    lay(Path("pets"), count=3)
    outcome = dltrain(*CHECK, "dataset=image_folder", "dataset.path=pets")
    assert outcome.code == 0, outcome.err
    assert "both sides" not in outcome.out + outcome.err


def test_kinds_of_a_class_are_no_groups() -> None:
    """Two breeds of each of six classes are no groups of files that belong together."""
    for label in range(6):
        for breed in range(2):
            for number in range(4):
                path = Path("pets", f"class{label}", f"breed{label}{breed}_{number}.png")
                path.parent.mkdir(parents=True, exist_ok=True)
                picture(seed=number).save(path)
    assert data("pets").split_advice() == []


def test_texts_of_an_author_on_both_sides_are_said(dltrain) -> None:
    rows = [f"word {i},{'ab'[i % 2]},w{i % 12}" for i in range(60)]
    Path("texts.csv").write_text("\n".join(["text,label,author", *rows]) + "\n")
    texts = (*CHECK, "dataset=text_files", "dataset.path=texts.csv", "model=fasttext")
    outcome = dltrain(*texts)
    assert outcome.code == 0, outcome.err
    words = "column author: 9 of 12 values have rows on both sides of the split; dataset.group="
    assert words in outcome.out + outcome.err
    outcome = dltrain(*texts, "dataset.group=author")
    assert outcome.code == 0, outcome.err
    assert "both sides" not in outcome.out + outcome.err


def test_texts_in_files_that_begin_alike_are_said(dltrain) -> None:
    for label in ("a", "b"):
        for author in range(12):
            for number in range(3):
                path = Path("texts", label, f"w{author}_{number}.txt")
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(f"word {number} of {author}")
    outcome = dltrain(*CHECK, "dataset=text_files", "dataset.path=texts", "model=fasttext")
    assert outcome.code == 0, outcome.err
    assert "dataset.group=prefix keeps them together" in outcome.out + outcome.err
