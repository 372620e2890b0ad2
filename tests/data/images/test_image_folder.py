"""Folders of images: layouts, runs on them, other folders of the same classes."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from small_pictures import COLORS, data, everything, lay, picture

from dltrain.data.images.decode import read_image
from dltrain.data.images.in_memory import InMemory
from dltrain.data.images.synthetic import Synthetic
from dltrain.errors import InputError
from dltrain.types import Spec

# Layouts ------------------------------------------------------------------------------------------


def test_a_folder_for_each_class() -> None:
    """Sorted names are classes.

    Stratified fractions are for testing and validation; each file is used once.
    """
    lay(Path("pets"), ("owl", "cat", "dog"), count=20)
    made = data("pets", test_fraction=0.2, val_fraction=0.25)
    assert made.spec.class_names == ("cat", "dog", "owl")
    assert (made.spec.input_shape, made.spec.train_samples, made.spec.test_samples) == (
        (3, 8, 12),
        48,
        12,
    )
    assert (made.train.samples, made.val.samples, made.test.samples) == (36, 12, 12)
    for split, count in ((made.train, 12), (made.val, 4), (made.test, 4)):
        assert torch.bincount(everything(split)[1]).tolist() == [count] * 3
    images = torch.cat([everything(split)[0] for split in (made.train, made.val, made.test)])
    assert len({tuple(x.flatten().tolist()) for x in images}) == 60


@pytest.mark.parametrize("val", ["val", "valid", "validation", "VAL"])
def test_folders_of_splits(val: str) -> None:
    """Each split has its own files, with class numbers of train/, even if it lacks a class."""
    for split, classes, count in (
        ("train", ("cat", "dog", "owl"), 6),
        (val, ("dog", "owl"), 3),
        ("test", ("owl",), 2),
    ):
        lay(Path("pets") / split, classes, count)
    made = data("pets")
    assert [
        everything(split)[1].bincount(minlength=3).tolist()
        for split in (made.train, made.val, made.test)
    ] == [
        [6, 6, 6],
        [0, 3, 3],
        [0, 0, 2],
    ]


def test_an_empty_class_folder_of_a_split_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """An empty class folder of the training set is refused."""
    lay(Path("pets/train"))
    lay(Path("pets/test"), ("cat",), count=2)
    Path("pets/test/dog").mkdir()
    assert data("pets").test.samples == 2
    assert "pets/test: there is no file in dog" in caplog.text
    Path("pets/train/eel").mkdir()
    with pytest.raises(InputError, match="pets/train: there is no file in eel"):
        _ = data("pets").train


def test_validation_and_test_sets_that_are_absent_come_from_train() -> None:
    lay(Path("a/train"))
    lay(Path("a/test"), count=3)
    assert [s.samples for s in (data("a").train, data("a").val, data("a").test)] == [18, 2, 6]
    lay(Path("b/train"))
    lay(Path("b/val"), count=3)
    assert [s.samples for s in (data("b").train, data("b").val, data("b").test)] == [16, 6, 4]


def test_classes_may_be_named_like_splits() -> None:
    """`train` beside classes is a class, which is logged; for `test` the user decides."""
    lay(Path("vehicles"), ("train", "bus"))
    assert data("vehicles").spec.class_names == ("bus", "train")
    lay(Path("tests/runs"), ("test", "exam"))
    with pytest.raises(InputError, match=r"dataset.classes=\[exam,test\]"):
        _ = data("tests/runs").spec
    assert data("tests/runs", classes=["exam", "test"]).spec.class_names == ("exam", "test")


def test_class_folders_named_by_numbers_can_be_chosen(dltrain: Callable[..., Any]) -> None:
    lay(Path("numbers"), ("1", "2", "10"))
    chosen = ("dataset=image_folder", "dataset.path=numbers", "dataset.classes=[1,10]", "model=mlp")
    checked = dltrain("check", "--data", *chosen, "--json")
    assert [row["class"] for row in checked.json["data"]["classes"]] == ["1", "10"]


@pytest.mark.parametrize("memory", ["true", "false"])
def test_split_folders_become_classes(memory: str, dltrain: Callable[..., Any]) -> None:
    """Beside train/<class>/ a flat test/ is left out with a warning; classes are those of train."""
    lay(Path("flat/train"), ("cat", "dog", "owl"))
    Path("flat/test").mkdir()
    for i in range(5):
        picture(seed=i).save(f"flat/test/{i}.png")
    chosen = ("dataset=image_folder", "dataset.path=flat", "model=mlp", f"dataset.memory={memory}")
    outcome = dltrain(*chosen, "trainer.epochs=1", "callbacks=quiet", "--json")
    manifest = json.loads((Path(outcome.json["run"]) / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["data"]["class_names"] == ["cat", "dog", "owl"]
    line = "test looks like a test set without class folders and is left out: 5 files (5 .png)"
    assert outcome.out.count(line) == 1
    assert line in dltrain("check", *chosen).out
    Path("flat/train").rename("flat/Training-Images")
    Path("flat").rename("outer")
    Path("flat").mkdir()
    Path("outer").rename("flat/inner")
    checked = dltrain("check", "--data", *chosen, "--json")
    assert [row["class"] for row in checked.json["data"]["classes"]] == ["cat", "dog", "owl"]
    assert [line in warning for warning in checked.json["data"]["warnings"][:2]] == [False, True]


def test_the_split_is_a_function_of_split_seed() -> None:
    lay(Path("pets"), count=30)
    first, again, other = (data("pets", split_seed=s, seed=k) for s, k in ((0, 1), (0, 2), (1, 1)))
    chosen = [made.folder.files["test"].paths for made in (first, again, other) if made.folder]
    assert chosen[0] == chosen[1] != chosen[2]


def test_the_path_is_relative_to_the_current_folder_or_the_data_root() -> None:
    lay(Path("data/pets"))
    assert data("pets").train.samples == 14
    lay(Path("pets"), ("eel", "cod"))
    assert data("pets").spec.class_names == ("cod", "eel")
    assert data(Path("data/pets").resolve()).spec.class_names == ("cat", "dog")


def test_nested_folders_and_hidden_files() -> None:
    """Any depth below the class; names that begin with a dot, and what macOS packs, do
    not count.
    """
    lay(Path("pets"), count=4)
    (Path("pets/cat/more/still")).mkdir(parents=True)
    picture().save("pets/cat/more/still/x.png")
    for hidden in (
        ".DS_Store",
        "cat/.x.png",
        "cat/.cache/x.png",
        "cat/__MACOSX/x.png",
        ".git/x.png",
        "__MACOSX/x.png",
    ):
        Path("pets", hidden).parent.mkdir(exist_ok=True)
        Path("pets", hidden).write_bytes(b"nothing")
    made = data("pets")
    assert made.spec.class_names == ("cat", "dog")
    assert made.spec.train_samples + made.spec.test_samples == 9


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ([], "has no folders in it"),
        (["x.png"], "has no folders in it"),
        (["cat/x.png"], "has one class, cat"),
        (["cat/x.png", "dog/"], "there is no file in dog"),
        (["cat/", "dog/"], "there is no file in cat, dog"),
        (["cat/x.png", "dog/x.png"], "no images for testing"),
        (
            ["train/cat/x.png", "train/dog/x.png", "test/eel/x.png"],
            r"test has the classes eel, which pets/train does not have",
        ),
        (["train/cat/x.png", "val/cat/x.png", "valid/cat/x.png"], "both look like the val set"),
    ],
    ids=str,
)
def test_folders_without_training_data_are_refused(
    files: list[str], says: str, dltrain: Callable[..., Any]
) -> None:
    """They end in exit 3 with what is missing, without a run folder."""
    Path("pets").mkdir()
    for name in files:
        (Path("pets") / name).parent.mkdir(parents=True, exist_ok=True)
        if name.endswith("/"):
            Path("pets", name).mkdir(exist_ok=True)
        else:
            picture().save(Path("pets") / name)
    with pytest.raises(InputError, match=says):
        _ = data("pets").spec, data("pets").train.samples
    outcome = dltrain("dataset=image_folder", "dataset.path=pets", "model=mlp")
    assert (outcome.code, Path("outputs").exists()) == (3, False)
    assert "pets" in outcome.err


def test_a_folder_must_be_named_and_exist(dltrain: Callable[..., Any]) -> None:
    """Exit 2 without a name, except for a smoke run.

    Exit 3 for an absent folder, with both places.
    """
    assert dltrain("dataset=image_folder", "model=mlp").code == 2
    outcome = dltrain(
        "dataset=image_folder", "model=mlp", "dataset.path=pets", "paths.data=somewhere"
    )
    assert outcome.code == 3
    assert str(Path("pets").absolute()) in outcome.err
    assert str(Path("somewhere/pets").absolute()) in outcome.err


def test_ten_thousand_classes() -> None:
    """Listed, split and read in seconds; a folder may be a link."""
    Path("one/image").mkdir(parents=True)
    picture(size=(2, 2)).save("one/image/x.jpg")
    for split, count in (("train", 10_000), ("test", 10)):
        (folder := Path("many", split)).mkdir(parents=True)
        for k in range(count):
            (folder / f"{k:05}").symlink_to(Path("one/image").absolute())
    start = time.perf_counter()
    made = data("many", val_fraction=0.5)
    assert made.spec.num_classes == 10_000
    assert (made.train.samples, made.test.samples) == (10_000, 10)
    assert everything(made.test)[1].tolist() == list(range(10))
    assert time.perf_counter() - start < 30


# Runs ---------------------------------------------------------------------------------------------

TRAIN = (
    "dataset=image_folder",
    "dataset.path=pets",
    "model=mlp",
    "dataset.batch_size=4",
    "callbacks=quiet",
    "--json",
)


@pytest.mark.parametrize("memory", ["true", "false"])
def test_training_on_a_folder(memory: str, dltrain: Callable[..., Any]) -> None:
    """Classes that differ in color are learned.

    Their names are in the manifest; streaming gives the same run.
    """
    lay(Path("pets"), ("cat", "dog", "owl"), count=20)
    outcome = dltrain(*TRAIN, "trainer.epochs=2", f"dataset.memory={memory}")
    assert outcome.code == 0, outcome.err
    assert outcome.json["metrics"]["test/accuracy"] == 1.0
    manifest = json.loads((Path(outcome.json["run"]) / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["data"]["class_names"] == ["cat", "dog", "owl"]
    assert manifest["effective"]["test_samples"] == 12


@pytest.mark.parametrize("memory", ["true", "false"])
def test_another_folder_is_read_as_the_run_was_trained(
    memory: str, dltrain: Callable[..., Any]
) -> None:
    """All its images are read with the size, statistics and class numbers of the run."""
    lay(Path("pets"), ("cat", "dog", "owl"), count=20)
    run = dltrain(*TRAIN, "trainer.epochs=2").json["run"]
    assert dltrain("evaluate", run, "--json").json["metrics"]["test/accuracy"] == 1.0
    lay(Path("others"), ("dog", "owl"), count=3, size=(30, 20))
    picture(COLORS["owl"], (7, 7)).save("others/owl/small.png")
    more = ("dataset.path=others", f"dataset.memory={memory}", "--json")
    outcome = dltrain("evaluate", run, *more)
    assert outcome.code == 0, outcome.err
    assert outcome.json["metrics"]["test/accuracy"] == 1.0
    Path("others/owl").rename("others/eel")
    outcome = dltrain("evaluate", run, *more)
    assert outcome.code == 3
    assert "knows no class eel" in outcome.err
    assert dltrain("evaluate", run, *more, "split=train").code in (2, 3)


@pytest.mark.parametrize("memory", ["true", "false"])
def test_evaluate_maps_classes_by_order(memory: str, dltrain: Callable[..., Any]) -> None:
    """Images of other classes than the run's are refused by evaluate, predict and resume, whatever
    data set they are of: their classes are not matched by the alphabet. The same classes in other
    words of their own are matched by name.
    """
    lay(Path("pets"), ("dog", "owl"), count=12)
    run = dltrain(*TRAIN, "trainer.epochs=2").json["run"]
    lay(Path("animaux"), ("chien", "hibou"), count=4)
    other = ("dataset.path=animaux", f"dataset.memory={memory}")
    says = "the run knows no class chien, hibou; its classes are dog, owl"
    for verb in (
        ("evaluate", run),
        ("predict", run, "split=test"),
        ("resume", run, "trainer.epochs=3"),
    ):
        outcome = dltrain(*verb, *other)
        assert (outcome.code, says in outcome.err) == (3, True), outcome.err
        assert "accuracy" not in outcome.out
    digits = dltrain("model=mlp", "trainer.epochs=1", "callbacks=quiet", "--json").json["run"]
    outcome = dltrain("evaluate", digits, "dataset=image_folder", *other)
    assert (outcome.code, "the run knows no class chien, hibou" in outcome.err) == (3, True)
    lay(Path("owls"), ("owl",), count=4)
    outcome = dltrain("evaluate", run, "dataset.path=owls", f"dataset.memory={memory}", "--json")
    assert outcome.json["metrics"]["test/accuracy"] == 1.0
    lay(Path("owls"), ("eel",), count=4)
    assert dltrain("evaluate", run, "dataset.path=owls", f"dataset.memory={memory}").code == 3


def test_named_image_sets_are_matched_by_the_names_of_their_classes() -> None:
    """A set with the same names in another order gets the run's numbers.

    Other names are refused.
    """
    first = InMemory(Synthetic.like(Spec((1, 4, 4), ("a", "b", "c"), 30, 9)))
    for names, numbers in ((("c", "a", "b"), {0: 2, 1: 0, 2: 1}), (("b",), {0: 1})):
        source = Synthetic.like(Spec((1, 4, 4), names, 30, 9))
        other = InMemory(source)
        other.restore(first.description())
        stored = source.read()["test"][1].tolist()
        assert everything(other.test)[1].tolist() == [numbers[k] for k in stored]
    for names in (("x", "y", "z"), ("x",), ("a", "x"), ("A", "B", "C")):
        other = InMemory(Synthetic.like(Spec((1, 4, 4), names, 30, 9)))
        other.restore(first.description())
        with pytest.raises(InputError, match="the run knows no class"):
            _ = other.test


def test_other_folders_are_for_testing_alone() -> None:
    """All their images are used, with the run's statistics; a test folder takes precedence."""
    lay(Path("pets"), ("cat", "dog", "owl"))
    first = data("pets")
    _ = first.train
    lay(Path("others"), ("owl",), count=5)
    for memory in (True, False):
        other = data("others", memory=memory)
        other.restore(json.loads(json.dumps(first.description())))
        inputs, targets = everything(other.test)
        assert targets.tolist() == [2] * 5
        pixels = torch.stack(
            [read_image(p, (3, 8, 12)) for p in sorted(Path("others").rglob("*.png"))]
        ).float()
        mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (first.spec.mean, first.spec.std))
        assert torch.allclose(inputs, (pixels - mean) / std, atol=1e-5)
    same = data("pets")
    same.restore(first.description())
    assert torch.equal(everything(same.test)[0], everything(first.test)[0])
    sample = next(iter(same.encode([Path("pets/dog/000.png")])))
    assert sample.inputs is not None
    assert sample.inputs.shape == (3, 8, 12)
    lay(Path("sorted/train"), count=3)
    lay(Path("sorted/test"), count=1)
    with_test = data("sorted")
    with_test.restore(first.description())
    assert with_test.test.samples == 2


def test_names_in_any_script(dltrain: Callable[..., Any]) -> None:
    """Names of classes and files in other alphabets, with spaces and signs, stay as they are."""
    names = ("猫 にゃん", "Übergröße", "emoji 🦉", "a=b,c")
    for k, name in enumerate(names):
        (folder := Path("pets") / name).mkdir(parents=True)
        for i in range(6):
            picture((60 * k, 200 - 50 * k, 30), seed=i).save(folder / f"{i} – ñ{name[:3]}.png")
    outcome = dltrain(*TRAIN, "trainer.epochs=1")
    assert outcome.code == 0, outcome.err
    manifest = json.loads((Path(outcome.json["run"]) / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["data"]["class_names"] == sorted(names)


def test_check_smoke_and_overfit(dltrain: Callable[..., Any]) -> None:
    """`check` opens only headers.

    A smoke run needs no folder, and keeps the shape of a named one.
    """
    lay(Path("pets"))
    for path in Path("pets/dog").iterdir():
        path.write_bytes(path.read_bytes()[:60])  # a header, and no image
    assert dltrain("check", *TRAIN[:3]).code == 0
    smoke = dltrain(*TRAIN, "debug=smoke")
    assert smoke.code == 0, smoke.err
    assert dltrain("evaluate", smoke.json["run"], "--json").code == 0
    assert dltrain(TRAIN[0], *TRAIN[2:], "debug=smoke").code == 0
    lay(Path("pets"))
    assert dltrain(*TRAIN, "debug=overfit", "trainer.steps=3").code == 0
