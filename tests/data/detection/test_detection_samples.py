"""Detection samples: three formats, digit scenes, invalid boxes, random changes, descriptions."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detection_sets import dataset
from PIL import Image
from torch import Tensor

from dltrain.data.detection.coco import COCO
from dltrain.data.detection.dataset import DetectionDataset
from dltrain.data.detection.digit_scenes import DigitScenes
from dltrain.data.detection.transforms import Flip, Jitter
from dltrain.data.detection.voc import VOC
from dltrain.data.detection.yolo import YOLO
from dltrain.errors import ConfigError, InputError
from dltrain.preprocessing.flip import Flip as FlipImages
from dltrain.preprocessing.random_erasing import RandomErasing
from dltrain.rng import keyed
from dltrain.types.boxes import is_counted

# Of each image: width, height, and boxes x1, y1, x2, y2 in its pixels with a class.
SCENES: dict[str, tuple[int, int, list[tuple[float, float, float, float, str]]]] = {
    "a": (40, 20, [(4, 2, 24, 12, "cup"), (30, 10, 40, 20, "ant")]),
    "b": (20, 40, [(0, 0, 10, 30, "ant")]),
    "c": (80, 80, []),
}
NAMES = ("ant", "cup")


def paint(path: Path, size: tuple[int, int]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((size[1], size[0], 3), 200, dtype=np.uint8)).save(path)


def as_coco(**more: Any) -> DetectionDataset:
    images, boxes = [], []
    for i, (name, (width, height, found)) in enumerate(SCENES.items()):
        paint(Path(f"coco/{name}.png"), (width, height))
        images.append({"id": 10 + i, "file_name": f"{name}.png", "width": width, "height": height})
        for x1, y1, x2, y2, label in found:
            box = {"bbox": [x1, y1, x2 - x1, y2 - y1], "category_id": 5 + 2 * NAMES.index(label)}
            boxes.append({"id": 100 + len(boxes), "image_id": 10 + i, **box})
    categories = [{"id": 7, "name": "cup"}, {"id": 5, "name": "ant"}]
    content = {"images": images, "annotations": boxes, "categories": categories}
    Path("coco.json").write_text(json.dumps(content, indent=1), encoding="utf-8")
    return dataset(COCO, "coco", "coco.json", image_size=40, **SETTINGS | more)


def as_yolo(**more: Any) -> DetectionDataset:
    for name, (width, height, found) in SCENES.items():
        paint(Path(f"yolo/images/train2017/{name}.png"), (width, height))
        lines = [
            f"{NAMES.index(c)} {(x1 + x2) / 2 / width} {(y1 + y2) / 2 / height} "
            f"{(x2 - x1) / width} {(y2 - y1) / height}"
            for x1, y1, x2, y2, c in found
        ]
        if lines:
            text = Path(f"yolo/labels/train2017/{name}.txt")
            text.parent.mkdir(parents=True, exist_ok=True)
            text.write_text("\n".join(lines), encoding="utf-8")
    Path("yolo/data.yaml").write_text("names: {0: ant, 1: cup}", encoding="utf-8")
    return dataset(YOLO, "yolo", image_size=40, **SETTINGS | more)


def as_voc(**more: Any) -> DetectionDataset:
    for name, (width, height, found) in SCENES.items():
        paint(Path(f"voc/JPEGImages/{name}.png"), (width, height))
        objects = "\n".join(
            f"<object><name>{c}</name>\n<bndbox><xmin>{x1 + 1}</xmin><ymin>{y1 + 1}</ymin>"
            f"<xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>"
            for x1, y1, x2, y2, c in found
        )
        text = f"<annotation>\n<filename>{name}.png</filename>\n{objects}</annotation>"
        Path("voc/Annotations").mkdir(parents=True, exist_ok=True)
        Path(f"voc/Annotations/{name}.xml").write_text(text, encoding="utf-8")
    return dataset(VOC, "voc", image_size=40, **SETTINGS | more)


SETTINGS: dict[str, Any] = {"val_fraction": 0.0, "test_fraction": 0.0, "batch_size": 3, "flip": 0.0}
FORMATS: dict[str, Callable[..., DetectionDataset]] = {
    "coco": as_coco,
    "yolo": as_yolo,
    "voc": as_voc,
}


def stored(data: DetectionDataset, part: str = "train") -> tuple[Tensor, Tensor]:
    images, targets = data.stored[part]
    return images, targets


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_same_letterboxed_images(name: str) -> None:
    """a is scaled by 1, b by 1, c by a half.

    The rest of the square is the mean color; boxes follow.
    """
    data = FORMATS[name]()
    assert data.spec.class_names == NAMES
    assert (data.spec.input_shape, data.spec.boxes, data.spec.train_samples) == ((3, 40, 40), 2, 3)
    images, targets = stored(data)
    by_area = {
        float(t[t[:, 4] >= 0, :4].sum()): (i, t) for i, t in zip(images, targets, strict=True)
    }
    assert sorted(by_area) == [0, 40, 142]
    picture, boxes = by_area[142]
    assert boxes.tolist() == [[4, 2, 24, 12, 1], [30, 10, 40, 20, 0]]
    assert (picture[:, :20] == 200).all()
    assert picture[:, 20:].unique(dim=2).flatten(0).unique().tolist() == [104, 116, 124]
    assert by_area[40][1].tolist() == [[0, 0, 10, 30, 0], [0, 0, 0, 0, -1]]
    assert (by_area[0][0] == 200).all()
    assert data.class_counts == (2, 1)


def test_a_box_is_scaled_with_its_image_and_cut_off_at_its_edge() -> None:
    paint(Path("yolo/images/train/x.jpg"), (80, 40))
    Path("yolo/labels/train").mkdir(parents=True)
    Path("yolo/labels/train/x.txt").write_text("0 0.9 0.5 0.4 0.5\n", encoding="utf-8")
    targets = stored(dataset(YOLO, "yolo", image_size=(20, 40), **SETTINGS))[1]
    assert targets.flatten().tolist() == pytest.approx([28, 5, 40, 15, 0])


BAD = {  # a line of YOLO's, and what is said of it
    "0 0.5 0.5 0 0.2": "no area",
    "0 0.5 0.5 0.2 -0.2": "no area",
    "1 3 3 0.1 0.1": "outside the image of 40x20",
    "0 nan 0.5 0.1 0.1": "a corner is not a finite number",
    "0 inf 0.5 0.1 0.1": "a corner is not a finite number",
    "2 0.5 0.5 0.1 0.1": "there is no class 2",
    "-1 0.5 0.5 0.1 0.1": "there is no class -1",
    "cup 0.5 0.5 0.1 0.1": "expected a class number",
    "0 0.5 0.5 0.1": "expected a class number",
}


@pytest.mark.parametrize("line", BAD)
def test_an_invalid_box_is_refused_with_file_and_line_or_dropped(
    line: str, caplog: pytest.LogCaptureFixture
) -> None:
    as_yolo()
    path = Path("yolo/labels/train2017/a.txt")
    path.write_text(f"0 0.5 0.5 0.5 0.5\n\n{line}\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"1 box cannot be used; dataset.bad_boxes=drop") as e:
        stored(as_yolo_again())
    assert "a.txt:3: " in str(e.value)
    assert BAD[line] in str(e.value)
    targets = stored(as_yolo_again(bad_boxes="drop"))[1]
    assert (targets[..., 4] >= 0).sum() == 2
    assert targets.isfinite().all()
    assert "a.txt:3: " in caplog.text


def as_yolo_again(**more: Any) -> DetectionDataset:
    return dataset(YOLO, "yolo", image_size=40, **SETTINGS | more)


def test_a_split_without_objects_is_named(caplog: pytest.LogCaptureFixture) -> None:
    """Its precision is 0 whatever the model finds."""
    told = set()
    for split_seed in range(8):
        caplog.clear()
        data = as_yolo(test_fraction=0.34, split_seed=split_seed)
        found = bool((next(data.test.epoch(0))[1][..., 4] >= 0).any())
        assert ("no image of the test split has an object" in caplog.text) == (not found)
        assert "of the train split has" not in caplog.text
        told.add(found)
    assert told == {True, False}


def test_each_image_is_in_one_fold() -> None:
    sets = [as_yolo(folds=3, fold=fold, repeats=2) for fold in range(3)]
    held = torch.cat([data.rows[1] for data in sets])
    assert sorted(held.tolist()) == [0, 1, 2]
    for data in sets:
        assert sorted([*data.rows[0].tolist(), *data.rows[1].tolist()]) == [0, 1, 2]
    with pytest.raises(ValueError, match="needs the fold to validate on"):
        as_yolo(folds=3)


def test_an_invalid_annotation_of_coco_is_named_by_its_id() -> None:
    as_coco()
    content = json.loads(Path("coco.json").read_text(encoding="utf-8"))
    bad = [
        {"bbox": [1, 1, 0, 5]},
        {"bbox": [1, 2, 3]},
        {"category_id": 9},
        {"bbox": [None, 1, 2, 3]},
        {"iscrowd": 1},
    ]
    for k, change in enumerate(bad):
        content["annotations"].append(
            {"id": 900 + k, "image_id": 10, "category_id": 5, "bbox": [1, 1, 5, 5], **change}
        )
    Path("coco.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(InputError, match="4 boxes cannot be used") as e:
        stored(dataset(COCO, "coco", "coco.json", **SETTINGS))
    assert all(f"annotation {900 + k}: " in str(e.value) for k in range(4))
    dropped = stored(dataset(COCO, "coco", "coco.json", bad_boxes="drop", **SETTINGS))[1]
    assert (dropped[..., 4] >= 0).sum() == 4
    assert is_counted(dropped).sum() == 3  # the crowd is no object either


def test_an_invalid_object_of_voc_is_named_by_its_line() -> None:
    data = as_voc(classes=("ant",))
    with pytest.raises(InputError, match=r"a\.xml:3: there is no class 'cup'"):
        stored(data)


def test_broken_descriptions_and_missing_images_are_named() -> None:
    as_coco()
    lines = Path("coco.json").read_text(encoding="utf-8").splitlines()
    Path("cut.json").write_text("\n".join([*lines[:4], "oops"]), encoding="utf-8")
    with pytest.raises(InputError, match=r"cut\.json:5: this is no JSON"):
        _ = dataset(COCO, "coco", "cut.json").spec
    Path("list.json").write_text("[]", encoding="utf-8")
    with pytest.raises(InputError, match=r"list\.json is not of COCO's format"):
        _ = dataset(COCO, "coco", "list.json").spec
    Path("coco/b.png").unlink()
    with pytest.raises(
        InputError, match=r"coco\.json: image 11: its image is not there: coco.b\.png"
    ):
        _ = dataset(COCO, "coco", "coco.json").spec
    as_voc()
    Path("voc/JPEGImages/a.png").unlink()
    with pytest.raises(InputError, match=r"a\.xml:2: its image is not there"):
        _ = dataset(VOC, "voc").spec
    Path("voc/Annotations/a.xml").write_text("<annotation>\n<object>\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"a\.xml:3: this is no XML: no element found"):
        _ = dataset(VOC, "voc").spec
    as_yolo()
    Path("yolo/images/train2017/a.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"a\.png cannot be read as an image"):
        stored(as_yolo_again())


def test_yolo_splits_are_folders_that_can_be_chosen(caplog: pytest.LogCaptureFixture) -> None:
    """The beginnings of names decide.

    One folder may be for training and testing; unused labels are logged.
    """
    as_yolo()
    paint(Path("yolo/images/val2017/v.png"), (40, 40))
    Path("yolo/labels/train2017/z.txt").write_text("0 0.5 0.5 0.1 0.1", encoding="utf-8")
    data = as_yolo_again(test="train2017", repeats=4)
    assert (data.train.samples, data.val.samples, data.test.samples) == (12, 1, 3)
    assert torch.equal(stored(data)[1], stored(data, "test")[1])
    assert "1 label file has no image: labels/train2017/z.txt" in caplog.text
    with pytest.raises(InputError, match=r"dataset.train=nope: .* has train2017, val2017"):
        _ = as_yolo_again(train="nope").spec
    Path("yolo/data.yaml").unlink()
    assert as_yolo_again().spec.class_names == ("0", "1")
    Path("yolo/classes.txt").write_text("ant\ncup\n", encoding="utf-8")
    assert as_yolo_again().spec.class_names == ("ant", "cup")


def test_voc_splits_are_lists() -> None:
    as_voc()
    Path("voc/ImageSets/Main").mkdir(parents=True)
    for part, names in {"train": "a\n", "val": "b 1\n", "test": "c\n"}.items():
        Path(f"voc/ImageSets/Main/{part}.txt").write_text(names, encoding="utf-8")
    data = dataset(VOC, "voc", image_size=40)
    assert (data.train.samples, data.val.samples, data.test.samples) == (1, 1, 1)
    assert stored(data, "val")[1].tolist() == [[[0, 0, 10, 30, 0]]]


def test_images_that_do_not_fit_in_memory_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "dltrain.data.detection.annotated_files.free_memory", lambda: 2 * 3 * 3 * 40 * 40 - 1
    )
    with pytest.raises(InputError, match=r"3 images of 40x40 take .* a smaller dataset.image_size"):
        stored(as_yolo())


def test_a_set_that_is_unnamed_or_absent_is_an_error_when_it_is_used(dltrain) -> None:
    """Exit 2 without a name, 3 for an absent set; fake data of both needs no file."""
    for data in (dataset(YOLO), dataset(YOLO, "nowhere")):
        images, targets = next(data.fake().train.epoch(0))
        assert images.shape[1:] == (3, 128, 128)
        assert targets.shape[2] == 5
    with pytest.raises(ConfigError, match=r"dataset.path=DIR"):
        _ = dataset(YOLO).train
    outcome = dltrain("dataset=yolo", "dataset.path=nowhere", "callbacks=quiet")
    assert (outcome.code, "nowhere" in outcome.err) == (3, True)
    assert not Path("outputs").exists()


def test_flipping_twice_restores_the_image() -> None:
    images = torch.rand(4, 3, 6, 10)
    targets = torch.tensor([[[1.0, 2, 4, 5, 0], [0, 0, 0, 0, -1]]]).repeat(4, 1, 1)
    flipped, boxes = Flip(1.0)(images, targets, keyed(0))
    assert torch.equal(flipped, images.flip(3))
    assert boxes[0, 0].tolist() == [6, 2, 9, 5, 0]
    assert boxes[0, 1, 4] == -1
    again, back = Flip(1.0)(flipped, boxes, keyed(0))
    assert torch.equal(again, images)
    assert torch.equal(back[:, 0], targets[:, 0])
    some = Flip(0.5)(torch.arange(2.0).repeat(200, 1, 1, 1), targets.repeat(50, 1, 1), keyed(1))
    flipped = some[0][:, 0, 0, 0] == 1
    assert 60 < int(flipped.sum()) < 140
    assert torch.equal(some[1][:, 0, 0] != 1, flipped)


def test_a_change_of_scale_moves_boxes_with_their_content() -> None:
    """A bright rectangle is where its box is, to a pixel.

    A box that has left the image is dropped.
    """
    count = 64
    images, targets = (
        torch.zeros(count, 1, 60, 80),
        torch.tensor([[[50.0, 20, 70, 50, 3]]]).repeat(count, 1, 1),
    )
    images[:, :, 20:50, 50:70] = 1
    changed, boxes = Jitter(0.5)(images, targets, keyed(0))
    sizes = set()
    for image, (x1, y1, x2, y2, label) in zip(changed[:, 0], boxes[:, 0].tolist(), strict=True):
        if label < 0:
            continue
        rows, columns = (image > 0.5).any(1).nonzero(), (image > 0.5).any(0).nonzero()
        seen = [int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1]
        assert seen == pytest.approx([x1, y1, x2, y2], abs=1)
        sizes.add(round(x2 - x1))
    assert (boxes[..., 4] >= 0).sum() > count // 2
    assert min(sizes) < 13
    assert max(sizes) > 26
    away = Jitter(0.9)(
        images, torch.tensor([[[79.0, 59, 80, 60, 3]]]).repeat(count, 1, 1), keyed(0)
    )[1]
    assert ((away[..., 4] == -1) | ((away[..., 2] <= 80) & (away[..., 3] <= 60))).all()
    assert (away[..., 4] == -1).any()


def test_batches_are_a_function_of_seed_epoch_and_position() -> None:
    few = {"train_scenes": 12, "val_scenes": 4, "test_scenes": 4, "batch_size": 4}
    made = [dataset(DigitScenes, "bundled", 48, jitter=0.3, seed=seed, **few) for seed in (0, 0, 1)]
    one, same, other = (list(data.train.epoch(3)) for data in made)
    assert all(
        torch.equal(a, b) for x, y in zip(one, same, strict=True) for a, b in zip(x, y, strict=True)
    )
    assert not torch.equal(one[0][0], other[0][0])
    late = next(made[0].train.epoch(3, start=2))
    assert torch.equal(late[0], one[2][0])
    assert torch.equal(late[1], one[2][1])


def test_preprocessing_that_would_leave_the_boxes_behind_is_refused() -> None:
    """A transform says itself whether it moves pixels, whatever it is called."""

    class ColorJitter(FlipImages):
        """Flips images, under the name of a transform that leaves objects where they are."""

    class Slide(RandomErasing):
        """A transform of the user's own that leaves objects where they are."""

    for moving in (FlipImages(), ColorJitter()):
        with pytest.raises(
            ValueError,
            match=rf"{type(moving).__name__}\) would leave the boxes where they were",
        ):
            dataset(DigitScenes, "bundled", transforms=(moving,))
    for still in (RandomErasing(), Slide()):
        dataset(DigitScenes, "bundled", transforms=(still,))


def test_digit_scenes_have_tight_boxes_and_separate_digits_for_each_split() -> None:
    data = dataset(
        DigitScenes,
        "bundled",
        96,
        most=5,
        clutter=0,
        train_scenes=30,
        val_scenes=10,
        test_scenes=10,
    )
    images, targets = stored(data)
    assert images.dtype == torch.uint8
    assert images.shape == (30, 1, 96, 96)
    known = targets[..., 4] >= 0
    assert known.any(1).all()
    assert set(targets[known][:, 4].tolist()) <= set(map(float, range(10)))
    for image, boxes in zip(images[:, 0], targets, strict=True):
        covered = torch.zeros(96, 96, dtype=torch.bool)
        for x1, y1, x2, y2, label in boxes.int().tolist():
            if label >= 0:
                assert 0 <= x1 < x2 <= 96
                assert 0 <= y1 < y2 <= 96
                assert 18 <= max(x2 - x1, y2 - y1) <= 44
                ink = image[y1:y2, x1:x2] >= 40
                assert ink[0].any() or ink[1].any()
                assert ink[:, 0].any() or ink[:, 1].any()
                covered[y1:y2, x1:x2] = True
        assert not image[~covered].any()
    again = dataset(
        DigitScenes,
        "bundled",
        96,
        most=5,
        clutter=0,
        train_scenes=30,
        val_scenes=10,
        test_scenes=10,
    )
    assert torch.equal(images, stored(again)[0])
    cluttered = dataset(
        DigitScenes,
        "bundled",
        96,
        most=5,
        clutter=5,
        train_scenes=30,
        val_scenes=10,
        test_scenes=10,
    )
    assert stored(cluttered)[0].count_nonzero() > images.count_nonzero()
    parts = data.source.digits  # type: ignore[union-attr]
    seen = {
        name: {tuple(x.flatten().tolist()) for x in digits} for name, (digits, _) in parts.items()
    }
    assert not seen["train"] & seen["val"]
    assert not seen["train"] & seen["test"]
    with pytest.raises(ValueError, match="should rise in this order"):
        dataset(DigitScenes, "bundled", image_size=40)


def test_a_description_is_enough_to_read_an_image_and_other_files() -> None:
    """Classes of other files are matched by name.

    Unknown classes and malformed descriptions are refused.
    """
    data = as_yolo()
    described = json.loads(json.dumps(data.description()))
    reader = dataset(YOLO)
    reader.restore(described)
    assert reader.spec.class_names == NAMES
    paint(Path("new.png"), (80, 20))
    Path("bad.png").write_bytes(b"")
    good, bad = reader.encode([Path("new.png"), Path("bad.png")])
    assert good.inputs is not None
    assert good.inputs.shape == (3, 40, 40)
    assert good.about == {"width": 80, "height": 20}
    assert good.inputs[:, :10].mean() > 1
    assert good.inputs[:, 10:].abs().max() < 0.01
    assert (bad.inputs, "bad.png" in bad.problem) == (None, True)
    Path("yolo/data.yaml").write_text("names: [cup, ant]", encoding="utf-8")
    other = as_yolo_again()
    other.restore(described)
    assert other.inspect()[0].rows == [
        ("ant", 0, 0, 1),
        ("cup", 0, 0, 2),
    ]  # all are for testing, as they are other data
    Path("yolo/data.yaml").write_text("names: [cup, bee]", encoding="utf-8")
    unknown = as_yolo_again()
    unknown.restore(described)
    with pytest.raises(InputError, match="the run knows no class bee"):
        stored(unknown)
    for nonsense in (
        {},
        {**described, "boxes": 0},
        {**described, "std": [0, 1, 1]},
        {**described, "input_shape": [3]},
    ):
        with pytest.raises(InputError, match=r"manifest.json"):
            dataset(YOLO).restore(nonsense)
