"""Folders are classes or splits by the names of splits in any spelling, and by structure."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dltrain.data.io.layout.arrange import arrange
from dltrain.data.io.layout.split_names import parse_name, split_names
from dltrain.errors import InputError


def tree(*files: str) -> Path:
    """Make empty files below the folder `d`, and return it; a name ending in / is a folder."""
    for name in files:
        path = Path("d", name)
        (path if name.endswith("/") else path.parent).mkdir(parents=True, exist_ok=True)
        if not name.endswith("/"):
            path.touch()
    return Path("d")


def found(path: Path, **more: object) -> dict[str, list[str]]:
    """The names of the classes in each split."""
    return {split: sorted(classes) for split, classes in arrange(path, **more).parts.items()}


SPELLINGS = {
    "train": "train Training TRAIN trn trainset train_set train-data training_images "
    "images_train seg_train train2017 "
    "Train.Data TrainingSet trainval train_val X__train 训练集 entrenamiento",
    "test": "test Testing TST testset test-data TestImages seg_test test1 eval Evaluation "
    "holdout hold-out 测试集 prueba",
    "val": "val VALID validation dev valset val_images Validation-Set development val2017",
    "rest": "seg_pred predict predictions unlabeled unlabelled unsup test_unlabeled submission",
}


@pytest.mark.parametrize(
    ("split", "name"), [(split, n) for split, names in SPELLINGS.items() for n in names.split()]
)
def test_spellings_of_splits(split: str, name: str) -> None:
    parsed = parse_name(name)
    assert parsed is not None
    assert parsed.split == split
    assert parsed.others == ()


@pytest.mark.parametrize(
    "names",
    [
        ("bullet_train", "steam_train", "car"),
        ("blood_test", "litmus_test"),
        ("train station", "bus station"),
        ("valid", "invalid"),
        ("valid", "not_valid"),
        ("development", "marketing", "sales"),
        (
            "trains",
            "tests",
            "trainer",
            "contest",
            "devices",
            "Valentina",
            "pretrained",
            "evaluator",
            "protest",
        ),
        ("cat", "dog", "овца", "犬"),
    ],
    ids=str,
)
def test_classes_that_resemble_splits(names: tuple[str, ...]) -> None:
    assert split_names(names) == {}
    assert found(tree(*(f"{name}/x.png" for name in names))) == {"train": sorted(names)}


LAYOUTS: dict[str, tuple[tuple[str, ...], dict[str, list[str]], str]] = {
    "a flat test folder": (
        ("train/cat/1.png", "train/dog/1.png", "test/1.png", "test/2.png"),
        {"train": ["cat", "dog"]},
        "test looks like a test set without class folders and is left out: 2 files (2 .png)",
    ),
    "Training and Testing": (
        ("Training/cat/1.png", "Training/dog/1.png", "Testing/dog/1.png"),
        {"train": ["cat", "dog"], "test": ["dog"]},
        "",
    ),
    "each split again one level deeper": (
        (
            "seg_train/seg_train/cat/1.png",
            "seg_train/seg_train/dog/1.png",
            "seg_test/seg_test/cat/1.png",
            "seg_pred/seg_pred/1.png",
        ),
        {"train": ["cat", "dog"], "test": ["cat"]},
        "seg_pred looks like a split without labels and is left out: 1 file (1.png)",
    ),
    "a test folder with all files one level deeper": (
        (
            "train/cat/1.png",
            "train/dog/1.png",
            "valid/cat/1.png",
            "test/test/1.png",
            "test/test/2.png",
        ),
        {"train": ["cat", "dog"], "val": ["cat"]},
        "test looks like a test set without class folders and is left out: 2 files",
    ),
    "an archive's own folder, twice": (
        (
            "a/b/train/cat/1.png",
            "a/b/train/dog/1.png",
            "a/b/val/dog/1.png",
            "__MACOSX/a/._b",
            "a/.git/config",
        ),
        {"train": ["cat", "dog"], "val": ["dog"]},
        "d: the data set is the folder d/a/b",
    ),
    "an archive's folder of classes": (
        ("pets/cat/1.png", "pets/dog/1.png"),
        {"train": ["cat", "dog"]},
        "d: the data set is the folder d/pets",
    ),
    "an archive's folder within a split": (
        ("train/pets/cat/1.png", "train/pets/dog/1.png", "test/images/dog/1.png"),
        {"train": ["cat", "dog"], "test": ["dog"]},
        "d/train: the classes are the folders in d/train/pets",
    ),
    "an archive's folder beside others": (
        (
            "fruits/Training/a/1.png",
            "fruits/Training/b/1.png",
            "fruits/Test/a/1.png",
            "papers/x.pdf",
            "readme.md",
        ),
        {"train": ["a", "b"], "test": ["a"]},
        "papers left out beside fruits, which has splits in it",
    ),
    "an archive's folder, twice, beside a flat test folder": (
        (
            "Plants(Augmented)/Plants(Augmented)/train/a/1.png",
            "Plants(Augmented)/Plants(Augmented)/train/b/1.png",
            "Plants(Augmented)/Plants(Augmented)/valid/a/1.png",
            "test/test/1.png",
            "papers/x.pdf",
        ),
        {"train": ["a", "b"], "val": ["a"]},
        "test looks like a test set without class folders and is left out: 1 file (1.png)",
    ),
    "the classes' folder beside a flat test folder": (
        ("pets/cat/1.png", "pets/dog/1.png", "test/1.png", "chart.png"),
        {"train": ["cat", "dog"]},
        "the data set is the folder d/pets",
    ),
    "a test set called by another name of the data set": (
        (
            "simpsons_dataset/bart/1.png",
            "simpsons_dataset/lisa/1.png",
            "kaggle_simpson_testset/bart_1.png",
        ),
        {"train": ["bart", "lisa"]},
        "kaggle_simpson_testset looks like a test set without class folders",
    ),
    "an archive's folder in two spellings": (
        (
            "Waste sorting/Waste/can/1.png",
            "Waste sorting/Waste/jar/1.png",
            "waste_sorting/Waste/can/1.png",
            "waste_sorting/Waste/jar/1.png",
            "index.txt",
        ),
        {"train": ["can", "jar"]},
        "waste_sorting holds the same files as Waste sorting and is left out",
    ),
    "classes that differ by case": (
        ("Waste/can/1.png", "waste/jar/1.png", "Waste/jar/1.png"),
        {"train": ["Waste", "waste"]},
        "",
    ),
    "the data set's name before the split": (
        ("asl_train/A/1.png", "asl_train/B/1.png", "asl_test/A_test.png"),
        {"train": ["A", "B"]},
        "asl_test looks like a test set",
    ),
    "the training set called like the data set": (
        ("rps/paper/1.png", "rps/rock/1.png", "rps-test-set/rock/1.png", "rps-validation/1.png"),
        {"train": ["paper", "rock"], "test": ["rock"]},
        "rps is read as the training set",
    ),
    "classes beside a test folder with the same": (
        ("cat/1.png", "dog/1.png", "test/cat/1.png"),
        {"train": ["cat", "dog"], "test": ["cat"]},
        "",
    ),
    "classes beside a flat test folder": (
        ("cat/1.png", "dog/1.png", "test/1.png"),
        {"train": ["cat", "dog"]},
        "dataset.classes=[cat,dog,test]",
    ),
    "unlabeled texts within a split": (
        (
            "train/neg/1.txt",
            "train/pos/1.txt",
            "train/unsup/1.txt",
            "train/urls.txt",
            "test/neg/1.txt",
            "test/pos/1.txt",
        ),
        {"train": ["neg", "pos"], "test": ["neg", "pos"]},
        "unsup left out",
    ),
    "a class called train": (
        ("train/1.png", "car/1.png", "plane/1.png"),
        {"train": ["car", "plane", "train"]},
        "train is read as a class, like car, plane beside it; if it is not one: "
        '"dataset.classes=[car,plane]"',
    ),
    "splits within each class": (
        (
            "cat/train/1.png",
            "cat/test/1.png",
            "dog/train/1.png",
            "dog/test/1.png",
            "dog/more/1.png",
        ),
        {"train": ["cat", "dog"], "test": ["cat", "dog"]},
        "each class has folders of its own for train, test",
    ),
    "a split of each class": (
        ("cats_train/1.png", "cats_test/1.png", "dogs_train/1.png", "dogs_test/1.png"),
        {"train": ["cats", "dogs"], "test": ["cats", "dogs"]},
        "each folder is read as a split of a class",
    ),
    "a copy of itself": (
        ("sick/1.png", "well/1.png", "cells/sick/1.png", "cells/well/1.png"),
        {"train": ["sick", "well"]},
        "cells has the same folders in it and is left out",
    ),
    "the same parts in each class": (
        ("cat/day/1.png", "cat/night/1.png", "dog/day/1.png", "dog/night/1.png"),
        {"train": ["cat", "dog"]},
        "they have the same folders in them, day, night",
    ),
    "validation in three folders": (
        ("training/a/1.png", "training/b/1.png", "validation/a/1.png", "evaluation/b/1.png"),
        {"train": ["a", "b"], "val": ["a"], "test": ["b"]},
        "",
    ),
    "eval beside test": (
        ("train/a/1.png", "train/b/1.png", "eval/a/1.png", "test/b/1.png"),
        {"train": ["a", "b"], "val": ["a"], "test": ["b"]},
        "",
    ),
    "only a test set": (("test/a/1.png", "test/b/1.png"), {"test": ["a", "b"]}, ""),
    "files beside the classes": (
        ("cat/1.png", "dog/1.png", "labels.csv", "a.txt", "b.txt", ".hidden"),
        {"train": ["cat", "dog"]},
        "3 files (2 .txt, 1 .csv) left out beside the folders",
    ),
    "half a name with the classes in it": (
        ("pets_train/cat/1.png", "pets_train/dog/1.png", "my_own_test/images/cat/1.png"),
        {"train": ["cat", "dog"], "test": ["cat"]},
        "",
    ),
    "half a name beside the classes": (
        ("cat/1.png", "dog/1.png", "pets_test/dog/1.png", "pets_val/1.png"),
        {"train": ["cat", "dog"], "test": ["dog"]},
        "pets_val looks like a val set without class folders and is left out",
    ),
    "classes that are numbers": (
        ("train/0/1.png", "train/1/1.png", "test/1/1.png", "val/0/1.png", "val/1/1.png"),
        {"train": ["0", "1"], "test": ["1"], "val": ["0", "1"]},
        "",
    ),
    "classes that are numbers in half a split": (
        ("digits_train/0/1.png", "digits_train/1/1.png", "digits_test/1/1.png"),
        {"train": ["0", "1"], "test": ["1"]},
        "",
    ),
    "only a test set of numbers": (("test/0/1.png", "test/1/1.png"), {"test": ["0", "1"]}, ""),
    "half a name without class folders": (
        ("cat/1.png", "dog/1.png", "pets_test/1.png"),
        {"train": ["cat", "dog", "pets_test"]},
        'pets_test is used as a class; if it is a split: "dataset.classes=[cat,dog]"',
    ),
    "half a name with all its files one level deeper": (
        ("pets_train/cat/1.png", "pets_train/dog/1.png", "pets_val/pets_val/1.png"),
        {"train": ["cat", "dog"]},
        "pets_val looks like a val set without class folders",
    ),
    "half a name of a training set": (
        ("pets_train/cat/1.png", "pets_train/dog/1.png", "testing/1.png"),
        {"train": ["cat", "dog"]},
        "testing looks like a test set without class folders and is left out",
    ),
    "an archive's own folder that is called like a split": (
        (
            "Train/archive/Training/cat/1.png",
            "Train/archive/Training/dog/1.png",
            "Train/archive/valid/cat/1.png",
        ),
        {"train": ["cat", "dog"], "val": ["cat"]},
        "d: the data set is the folder d/Train/archive",
    ),
    "a test set with all its files two levels deeper": (
        ("cat/1.png", "dog/1.png", "test/images/test/1.png"),
        {"train": ["cat", "dog"]},
        "test looks like a test set without class folders",
    ),
    "what is no split beside splits": (
        ("train/a/1.png", "train/b/1.png", "Meta/1.png", "labels/x.csv"),
        {"train": ["a", "b"]},
        "Meta, labels left out beside train",
    ),
}


@pytest.mark.parametrize("kind", LAYOUTS)
def test_layouts(kind: str) -> None:
    """Splits are splits or left out with a line; what is decided is said; nothing is said where
    nothing is.
    """
    files, expected, says = LAYOUTS[kind]
    path = tree(*files)
    assert found(path) == expected
    notes = "\n".join(arrange(path).notes)
    assert says in notes
    if not says:
        assert not notes


@pytest.mark.parametrize(
    ("files", "says"),
    [
        (
            ("train/1.png", "test/1.png"),
            r'test, train look like splits .* "dataset.classes=\[test,train\]"',
        ),
        (("Training_Data/1.png", "seg-test/1.png", "dev/1.png"), "look like splits"),
        (("train/1.png",), "train looks like a split"),
        (("wrapped/train/1.png", "wrapped/val/1.png"), "look like splits"),
        (
            ("train/1.png", "test/1.png", "cat/1.png", "dog/1.png"),
            'without class folders beside cat, dog; .* "dataset.classes=.cat,dog."',
        ),
        (
            ("test/1.png", "exam/1.png"),
            r'test looks like a split .* "dataset.classes=\[exam,test\]"',
        ),
        (("train/a/1.png", "train/b/1.png", "training/a/1.png"), "both look like the train set"),
        (
            ("train/a/1.png", "train/b/1.png", "val/a/1.png", "Validation/b/1.png"),
            "both look like the val set",
        ),
        (
            ("test/a/1.png", "test/b/1.png", "cat/1.png", "dog/1.png"),
            "no training set with the classes in it",
        ),
        (
            ("x/train/a/1.png", "x/test/a/1.png", "y/train/a/1.png", "y/test/a/1.png"),
            "several data sets in it, x, y",
        ),
        (("cat/train/1.png", "dog/1.png"), "cat has a training set in it and dog has none"),
        (
            ("images/1.png", "masks/1.png"),
            r"images, masks look like images and their annotations, not like classes",
        ),
        (
            ("train/images/1.png", "train/labels/1.txt", "test/images/1.png"),
            r"d/train: images, labels look like images",
        ),
        (
            ("Images/cat/1.png", "Images/dog/1.png", "Annotations/cat/1.xml"),
            r"images alone: dataset.path=\S*d/Images",
        ),
        (("1.png", "2.png"), r"no folders in it, but 2 files \(2 .png\)"),
    ],
    ids=str,
)
def test_ambiguous_folders_are_refused(files: tuple[str, ...], says: str) -> None:
    with pytest.raises(InputError, match=says):
        arrange(tree(*files))


def test_the_user_says_which_folders_are_classes() -> None:
    """Whatever they are called; others are left out with a line; one that is absent is refused."""
    path = tree("train/1.png", "test/1.png", "cat/1.png")
    assert found(path, classes=["train", "test"]) == {"train": ["test", "train"]}
    assert "cat left out" in "\n".join(arrange(path, ["train", "test"]).notes)
    assert found(path, classes=["cat", "train"]) == {"train": ["cat", "train"]}
    with pytest.raises(InputError, match=r"no folders for dataset.classes=cow"):
        arrange(path, ["train", "cow"])
    Path("d").rename("e")
    nested = tree("w/train/a/1.png", "w/train/test/1.png", "w/train/b/1.png", "w/test/a/1.png")
    assert found(nested, classes=["a", "test"])["train"] == ["a", "test"]


def test_a_folder_of_one_class_of_a_run_is_that_class() -> None:
    """Also where other folders are in it: it is no archive's own folder."""
    path = tree("owl/young/1.png", "owl/old/1.png")
    assert found(path) == {"train": ["old", "young"]}
    assert found(path, known=["cat", "owl"]) == {"train": ["owl"]}


def test_no_folder_is_opened_twice_for_a_thousand_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the first few are looked into for splits."""
    path = tree(*(f"{k:04}/" for k in range(300)))
    opened = []
    scan = os.scandir
    monkeypatch.setattr(os, "scandir", lambda folder: opened.append(folder) or scan(folder))
    assert len(found(path)["train"]) == 300
    assert len(opened) < 150
