"""Images of one patient stay on one side of every split, in memory and streamed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from small_pictures import COLORS, data, picture

from dltrain.errors import ConfigError, InputError

PATIENTS = 12


def lay_patients(
    folder: Path, name: str, patients: range = range(PATIENTS), count: int = 3
) -> None:
    """Images of every patient in two classes; `name` makes a path of patient and number."""
    for label in ("cat", "dog"):
        for patient in patients:
            for number in range(count):
                path = folder / label / name.format(patient=patient, number=number)
                path.parent.mkdir(parents=True, exist_ok=True)
                picture(COLORS[label], seed=100 * patient + number).save(path)


def patients_of(made: Any, part: Any) -> set[str]:
    """The patients with an image in a split, by the number after a p."""
    return {name.split("/p")[-1].split("_")[0].split("/")[0] for name in made.sample_names(part)}


@pytest.mark.parametrize("memory", [True, False])
@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("p{patient}/{number}.png", "folder"),
        ("p{patient}_{number}.png", "prefix"),
        ("p{patient}_{number}.png", "p"),
        ("p{patient}_{number}.png", "^p([0-9]+)_"),
    ],
)
def test_a_patient_is_on_one_side_of_every_split(name: str, group: str, memory: bool) -> None:
    lay_patients(Path("pets"), name)
    made = data("pets", group=group, memory=memory, test_fraction=0.25, val_fraction=0.25)
    parts = [patients_of(made, part) for part in ("train", "val", "test")]
    assert sorted(map(len, parts)) == [2, 3, 7]
    assert set.union(*parts) == set(map(str, range(PATIENTS)))
    assert made.test_rule().startswith("25 % of the images of each class, chosen with")
    assert "dataset.group=" in made.test_rule()


def test_without_a_group_patients_are_on_both_sides() -> None:
    lay_patients(Path("pets"), "p{patient}_{number}.png")
    made = data("pets")
    assert patients_of(made, "train") & patients_of(made, "test")


def test_each_patient_is_in_one_fold() -> None:
    lay_patients(Path("pets"), "p{patient}_{number}.png")
    held: list[str] = []
    for fold in range(3):
        made = data("pets", group="prefix", folds=3, fold=fold)
        assert patients_of(made, "val").isdisjoint(patients_of(made, "train"))
        held += made.sample_names("val")
        held_out_for_test = set(made.sample_names("test"))
    assert len(set(held)) == len(held)
    assert len(held) + len(held_out_for_test) == 2 * 3 * PATIENTS


def test_patients_in_folders_of_several_splits_are_found(caplog: pytest.LogCaptureFixture) -> None:
    lay_patients(Path("pets/train"), "p{patient}_{number}.png")
    lay_patients(Path("pets/val"), "p{patient}_{number}.png", range(20, 23))
    lay_patients(Path("pets/test"), "p{patient}_{number}.png", range(10, 16))
    made = data("pets", group="prefix")
    assert made.test.samples == 36
    warnings = [r.getMessage() for r in caplog.records if "dataset.group" in r.getMessage()]
    assert warnings == [
        "dataset.group=prefix: 2 groups of 6 in the test set have samples in the training set too "
        "(p10, p11), so test metrics are too good for new groups"
    ]


def test_a_file_without_a_group_and_an_invalid_rule_are_refused() -> None:
    lay_patients(Path("pets"), "p{patient}_{number}.png", range(2))
    picture().save("pets/cat/extra.png")
    with pytest.raises(InputError, match=r"pets/cat/extra\.png: dataset.group=prefix finds no"):
        _ = data("pets", group="prefix").train
    with pytest.raises(ConfigError, match="has 0 groups in parentheses"):
        data("pets", group="[0-9]+")


def test_too_few_patients_are_refused_with_their_number() -> None:
    lay_patients(Path("pets"), "p{patient}_{number}.png", range(4))
    with pytest.raises(InputError, match="3 groups in 18 training samples cannot be divided into"):
        _ = data("pets", group="prefix", folds=5, fold=0).train


def test_another_folder_needs_no_groups(dltrain) -> None:
    """A finished run is scored on it whole."""
    lay_patients(Path("pets"), "p{patient}_{number}.png", range(6), count=2)
    lay_patients(Path("new"), "{patient}{number}.png", range(3), count=2)
    run = ("dataset=image_folder", "dataset.path=pets", "model=perceptron", "callbacks=quiet")
    outcome = dltrain(*run, "dataset.group=prefix", "trainer.epochs=1", "device=cpu")
    assert outcome.code == 0, outcome.err
    for split in ("train", "test"):
        lay_patients(Path("split") / split, "{patient}{number}.png", range(3), count=2)
    for folder in ("new", "split"):
        outcome = dltrain("evaluate", "last", f"dataset.path={folder}")
        assert outcome.code == 0, outcome.err


def test_an_expression_is_typed_in_quotes(dltrain) -> None:
    lay_patients(Path("pets"), "p{patient}_{number}.png", range(6), count=2)
    check = ("check", "--data", "dataset=image_folder", "dataset.path=pets", "model=perceptron")
    outcome = dltrain(*check, r"dataset.group='^(p\d+)_'")
    assert outcome.code == 0, outcome.err
    outcome = dltrain(*check, "dataset.group=subject")
    assert outcome.code == 3
    assert "pets/cat/p0_0.png: dataset.group=subject finds no group in this path" in outcome.err
