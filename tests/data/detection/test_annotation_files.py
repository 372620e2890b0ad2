"""Label files, annotations and class names as real programs write them.

They are read, or refused with file and line.
"""

from __future__ import annotations

import codecs
import json
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
from dltrain.data.detection.transforms import Flip, Jitter
from dltrain.data.detection.voc import VOC
from dltrain.data.detection.yolo import YOLO
from dltrain.errors import InputError
from dltrain.rng import keyed
from dltrain.types.boxes import COUNTED, CROWD, DIFFICULT, is_counted, is_trained

SETTINGS: dict[str, Any] = {
    "val_fraction": 0.0,
    "test_fraction": 0.0,
    "batch_size": 3,
    "flip": 0.0,
    "image_size": 40,
}
BOX = "0.5 0.5 0.5 0.25"  # in an image of 40x40: 10, 15, 30, 25


def paint(path: str, size: tuple[int, int] = (40, 40)) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((size[1], size[0], 3), 200, dtype=np.uint8)).save(path)


def write(path: str, content: str | bytes) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_bytes(content.encode() if isinstance(content, str) else content)


def targets_of(data: DetectionDataset, part: str = "train") -> Tensor:
    targets: Tensor = data.stored[part][1]
    return targets


def yolo(
    labels: str | bytes = f"0 {BOX}\n", names: str | bytes = "names: [thing, other]\n", **more: Any
) -> DetectionDataset:
    """One image of 40x40 with these labels."""
    paint("y/images/train/0.png")
    write("y/labels/train/0.txt", labels)
    write("y/data.yaml", names)
    return dataset(YOLO, "y", **SETTINGS | more)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("names: [yes, no]\nnc: 2\n", ("yes", "no")),
        ("names: {0: yes, 1: no}", ("yes", "no")),
        ("names:\n  1: off\n  0: on\n", ("on", "off")),
        ("names:\n- null\n- ~\n- True\n", ("null", "~", "True")),
        ("names: [1.0, 007, 0x1F, 1e3]", ("1.0", "007", "0x1F", "1e3")),
        ("names: [2024-01-01, 12:30:00]", ("2024-01-01", "12:30:00")),
        ("names: ['yes', \"no\"] # a comment", ("yes", "no")),
        ('names:\n  "0": y\n  "1": n\n', ("y", "n")),
        ("base: &b [y, n]\nnames: *b\n", ("y", "n")),
        ("\ufeffnames: [yes, no]\r\nnc: 2\r\n", ("yes", "no")),
        ("nc: 3\n", ("0", "1", "2")),
        ("names:\nnc: 3\n", ("0", "1", "2")),
    ],
)
def test_json_names_and_labels_names_are_the_text_as_it_is_written(
    text: str, names: tuple[str, ...]
) -> None:
    """YAML names [yes, no] are yes and no, not True and False."""
    assert yolo(names=text).spec.class_names == names


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nc: 3\nnames: [a, b]\n", r"data\.yaml:1: nc is 3, but names has 2"),
        ("names:\n- a\n- b\n- a\n", r"data\.yaml:4: classes 0 and 2 are both called a"),
        ("names: {0: a, 2: b}", r"data\.yaml:1: names are numbered .* class 1 has none"),
        ("names: {999999999: a}", r"class 0 has none"),
        ("path: .\nnames: {yes: a}", r"data\.yaml:2: expected the number of a class, got 'yes'"),
        ("names:\n- a\n-\n", r"data\.yaml:3: class 1 has no name"),
        ("names: [a, [b]]", r"data\.yaml:1: expected the name of a class, got a list"),
        ("names: a b c", r"data\.yaml:1: names is 'a b c'; expected a list"),
        ("names: [a]\nnames: [b]", r"data\.yaml:2: names is there twice"),
        ("? [x]\n: 1\nnames: {[x]: a}", r"data\.yaml:3: expected the number of a class"),
        ("names: {0: a, 0: b}", r"data\.yaml:1: class 0 has two names"),
        ("names: [a\nb: {", r"data\.yaml:\d: this is not YAML"),
        (b"names: [caf\xe9]", r"data\.yaml:1: this is not UTF-8"),
    ],
)
def test_names_that_cannot_be_used_are_refused_by_file_and_line(
    text: str | bytes, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        _ = yolo(names=text).spec


def test_names_of_several_files(caplog: pytest.LogCaptureFixture) -> None:
    """Two .yaml files must agree; a .yaml file goes before classes.txt; LabelImg's classes.txt lies
    with the labels.
    """
    yolo(names="names: [a, b]")
    write("y/more.yaml", "names: [b, a]")
    with pytest.raises(InputError, match=r"data\.yaml and .*more\.yaml have different names"):
        _ = dataset(YOLO, "y", **SETTINGS).spec
    write("y/more.yaml", "train: images/train\n")
    write("y/classes.txt", "c\r\nd\r\n")
    assert dataset(YOLO, "y", **SETTINGS).spec.class_names == ("a", "b")
    assert "classes.txt has other names" in caplog.text
    Path("y/data.yaml").unlink()
    assert dataset(YOLO, "y", **SETTINGS).spec.class_names == ("c", "d")
    Path("y/classes.txt").unlink()
    write("y/labels/train/classes.txt", codecs.BOM_UTF8 + b"e \nf\n\n")
    assert dataset(YOLO, "y", **SETTINGS).spec.class_names == ("e", "f")
    write("y/classes.txt", "e\n\nf\n")
    with pytest.raises(InputError, match=r"classes\.txt:2: class 1 has no name"):
        _ = dataset(YOLO, "y", **SETTINGS).spec


@pytest.mark.parametrize(
    "line",
    [
        f"1 {BOX}",
        f"1.0 {BOX}",
        f"1.000e+00 {BOX}",
        "1\t0.5\t0.5\t0.5\t0.25  ",
        "  1   5.0e-1 .5 0.50 2.5E-1",
        "1,0.5,0.5,0.5,0.25",
        "1, 0.5, 0.5, 0.5, 0.25",
        "1;0.5;0.5;0.5;0.25",
        "1 0,5 0,5 0,5 0,25",
        "1;0,5;0,5;0,5;0,25",
        "1 0.25 0.375 0.75 0.375 0.75 0.625 0.25 0.625",
        "1 0.25,0.375 0.75,0.375 0.75,0.625 0.25,0.625",
        "1 0.25 0.5 0.5 0.375 0.75 0.5 0.5 0.625 0.25 0.5",
    ],
)
@pytest.mark.parametrize("end", ["", "\n", "\r\n", "\r\n\r\n"])
@pytest.mark.parametrize("start", [b"", codecs.BOM_UTF8])
def test_json_names_and_labels_a_line_is_read_however_it_is_written(
    line: str, end: str, start: bytes
) -> None:
    """A BOM in label files, class numbers such as 1.000e+00, tabs, CRLF, commas, and polygons
    around the object.
    """
    targets = targets_of(yolo(start + (line + end).encode()))
    assert targets.tolist() == [[[10, 15, 30, 25, 1]]]


def test_labels_in_utf_16_are_read() -> None:
    assert targets_of(yolo(f"1 {BOX}\n".encode("utf-16"))).tolist() == [[[10, 15, 30, 25, 1]]]


BAD_LINES = {
    "1.5 0.5 0.5 0.5 0.25": "expected a class number",
    "nan 0.5 0.5 0.5 0.25": "expected a class number",
    "1e400 0.5 0.5 0.5 0.25": "expected a class number",
    "class x y w h": "expected a class number",
    "0 0.5 0.5 0.5 0.25 0.93": "expected a class number",
    "0 0.5 0.5 0.5 0.25 0.1 0.1 0.1": "expected a class number",
    "2.0 0.5 0.5 0.5 0.25": "there is no class 2: they are 0 to 1",
    "0 20 20 20 10": "outside the image of 40x40: .* fractions of the image, not pixels",
    "0 0.5 0.5 20 10": "expected fractions of the image's width and height, not pixels",
    "0 1 1 2 2": "expected fractions of the image's width and height, not pixels",
}


@pytest.mark.parametrize("line", BAD_LINES)
def test_a_line_without_a_box_is_refused_with_file_and_line(line: str) -> None:
    with pytest.raises(InputError, match=rf"0\.txt:2: .*{BAD_LINES[line]}"):
        targets_of(yolo(f"0 {BOX}\n{line}\n"))


def test_keypoints_after_a_box_are_left_out_if_kpt_shape_counts_them() -> None:
    """Without kpt_shape these numbers are the corners of a polygon."""
    line = f"0 {BOX} 0.1 0.1 0.2 0.2"
    assert targets_of(yolo(line, "names: [a]\nkpt_shape: [2, 2]")).tolist() == [
        [[10, 15, 30, 25, 0]]
    ]
    assert targets_of(yolo(line, "names: [a]")).tolist() != [[[10, 15, 30, 25, 0]]]


def test_label_files_match_images_in_another_case(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """IMG.JPG with img.TXT; a file that fits no image is named, and a set without any is
    refused.
    """
    paint("y/images/train/IMG.JPG")
    paint("y/images/train/b.png")
    write("y/labels/train/img.TXT", f"0 {BOX}")
    write("y/labels/train/c.txt", f"0 {BOX}")
    data = dataset(YOLO, "y", **SETTINGS)
    assert is_counted(targets_of(data)).sum(1).tolist() == [1, 0]
    assert "1 label file has no image: labels/train/c.txt" in caplog.text
    Path("y/labels/train/img.TXT").unlink()
    with pytest.raises(InputError, match=r"no image in .*train has a label file in .*labels"):
        targets_of(dataset(YOLO, "y", **SETTINGS))


def test_splits_may_contain_the_folders_images_and_labels(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """train/images and valid/images, as downloads often have them.

    An image without a label file is logged.
    """
    caplog.set_level("INFO")
    for name in ("train/images/0", "train/images/1", "valid/images/2", "more/images/3"):
        paint(f"y/{name}.png")
        write(f"y/{name}.txt".replace("images", "labels"), f"1 {BOX}")
    Path("y/train/labels/1.txt").unlink()
    write("y/data.yaml", "names: [a, b]")
    data = dataset(YOLO, "y", **SETTINGS)
    assert targets_of(data).tolist() == [[[10, 15, 30, 25, 1]], [[0, 0, 0, 0, -1]]]
    assert targets_of(data, "val").tolist() == [[[10, 15, 30, 25, 1]]]
    assert "1 of 2 images in y/train/images has no label file, so no objects" in caplog.text
    assert "y: not read, because they belong to no split: more" in caplog.text


def test_a_huge_class_number_without_names_is_refused() -> None:
    paint("y/images/train/0.png")
    write("y/labels/train/0.txt", f"0 {BOX}\n999999999 {BOX}\n")
    with pytest.raises(InputError, match=r"0\.txt:2: class 999999999, and neither"):
        _ = dataset(YOLO, "y", **SETTINGS).spec


def test_a_box_that_reaches_out_of_its_image_is_cut_off_with_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert targets_of(yolo("0 0.9 0.5 0.4 0.5")).tolist() == [[[28, 10, 40, 30, 0]]]
    assert (
        "1 box reaches out of the image and is cut off at its edge\n  y/labels/train/0.txt:1: "
        in caplog.text
    )
    caplog.clear()
    targets_of(yolo("0 0.8 0.5 0.41 0.5"))  # rounding
    assert not caplog.text


def voc(*objects: str, filename: str = "0.png", size: str = "", **more: Any) -> DetectionDataset:
    """One annotation, 0.xml, with these objects."""
    inner = "\n".join(f"<object>{o}</object>" for o in objects)
    text = f"<annotation>\n<filename>{filename}</filename>\n{size}\n{inner}\n</annotation>"
    write("v/Annotations/0.xml", text)
    return dataset(VOC, "v", **SETTINGS | more)


def thing(
    more: str = "", name: str = "thing", corners: tuple[float, ...] = (11, 16, 30, 25)
) -> str:
    x1, y1, x2, y2 = corners
    box = f"<bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox>"
    return f"<name>{name}</name>{more}{box}"


@pytest.mark.parametrize(
    ("filename", "image"),
    [
        ("0", "0.jpg"),
        ("0.png", "0.jpg"),
        ("0.jpg", "0.JPG"),
        ("0.JPG", "0.jpg"),
        ("elsewhere/0.jpg", "0.jpg"),
        ("C:\\pictures\\0.jpg", "0.jpg"),
        ("..\\0", "0.JPEG"),
        ("", "0.jpg"),
        ("old name.jpg", "0.jpg"),
        ("a.b", "a.b.jpg"),
        ("A.B.png", "a.b.jpg"),
    ],
)
def test_json_names_and_labels_a_voc_filename_is_found_however_it_is_written(
    filename: str, image: str
) -> None:
    """A filename without ending though JPEGImages/<stem>.jpg is there, with another ending or case,
    in a wrong folder, with backslashes, or of an image that is not there.
    """
    paint(f"v/JPEGImages/{image}")
    assert targets_of(voc(thing(), filename=filename)).tolist() == [[[10, 15, 30, 25, 0]]]


def test_a_copied_filename_of_another_annotation(caplog: pytest.LogCaptureFixture) -> None:
    """Copied annotations keep the filename: the image of their own name is right.

    A single one contradicts itself.
    """
    paint("v/JPEGImages/0.png")
    paint("v/JPEGImages/1.png")
    with pytest.raises(
        InputError, match=r"0\.xml:2: its filename is 1\.png, but 0\.png in JPEGImages"
    ):
        _ = voc(thing(), filename="1.png").spec
    write("v/Annotations/1.xml", "<annotation><filename>1.png</filename></annotation>")
    data = voc(thing(), filename="1.png")
    assert is_counted(targets_of(data)).any(1).tolist() == [True, False]
    assert [Path(image.path).name for image in data.source.annotated.parts["train"]] == [
        "0.png",
        "1.png",
    ]  # type: ignore
    assert "0.xml:2: 1.png" in caplog.text
    Path("v/JPEGImages/1.png").unlink()
    write("v/Annotations/1.xml", "<annotation>\n\n<filename>7.png</filename></annotation>")
    with pytest.raises(InputError, match=r"1\.xml:3: its image is not there: .*7\.png"):
        _ = voc(thing()).spec


@pytest.mark.parametrize("mark", ["1", " 1 ", "true", "Yes"])
def test_voc_difficult_counted(mark: str, caplog: pytest.LogCaptureFixture) -> None:
    """Difficult objects are not scored; training leaves them out, or uses them if it is set to."""
    caplog.set_level("INFO")
    paint("v/JPEGImages/0.png")
    objects = (thing(), thing(f"<difficult>{mark}</difficult>"), thing("<difficult>0</difficult>"))
    targets = targets_of(voc(*objects))
    assert targets[0, :, 5].tolist() == [COUNTED, DIFFICULT, COUNTED]
    assert (
        "1 difficult object is not scored, and neither objects nor background in training"
        in caplog.text
    )
    data, trained = voc(*objects), voc(*objects, difficult="train")
    assert (data.class_counts, trained.class_counts) == ((2,), (3,))
    (_, batch), (_, trained_batch) = next(data.train.epoch(0)), next(trained.train.epoch(0))
    assert is_trained(batch).tolist() == [[True, False, True]]
    assert is_trained(trained_batch).tolist() == [[True, True, True]]
    assert is_counted(trained_batch).tolist() == [[True, False, True]]  # scored as before
    assert "1 difficult object is not scored, and trained on as others" in caplog.text
    assert data.inspect()[0].rows == [("thing", 2, 0, 0)]
    assert data.inspect()[1].rows == [("train", 1), ("val", 0), ("test", 0)]


def test_without_difficult_objects_targets_have_no_flag() -> None:
    paint("v/JPEGImages/0.png")
    data = voc(
        thing("<difficult>0</difficult>"), thing("<difficult>Unspecified</difficult>"), thing()
    )
    assert targets_of(data).shape == (1, 3, 5)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            thing("\n<difficult>maybe</difficult>"),
            r"0\.xml:5: difficult is 'maybe'; expected 0 or 1",
        ),
        (
            thing(corners=(0.1, 0.2, 0.5, 0.6)),
            r"0\.xml:4: .* within one pixel; expected corners in pixels",
        ),
        (thing(name=""), r"0\.xml:4: there is no class ''"),
    ],
)
def test_an_object_of_voc_that_cannot_be_read_is_refused_by_file_and_line(
    content: str, message: str
) -> None:
    paint("v/JPEGImages/0.png")
    with pytest.raises(InputError, match=message):
        targets_of(voc(content, classes=("thing",)))


def test_an_image_of_another_size_than_its_annotation_says_is_refused() -> None:
    """Boxes in a larger image would be elsewhere in a smaller one."""
    paint("v/JPEGImages/0.png")
    size = "<size><width>80</width><height>80</height></size>"
    with pytest.raises(
        InputError, match=r"0\.xml:4: its annotation says 80x80 pixels, and .*0\.png has 40x40"
    ):
        targets_of(voc(thing(), size=size))
    for unknown in (
        "<size><width>0</width><height>0</height></size>",
        "<size><width>?</width></size>",
        "<size/>",
    ):
        assert targets_of(voc(thing(), size=unknown)).tolist() == [[[10, 15, 30, 25, 0]]]


def test_lists_of_voc_may_have_a_byte_order_mark_and_endings() -> None:
    for name in ("0", "1"):
        paint(f"v/JPEGImages/{name}.jpg")
        write(f"v/Annotations/{name}.xml", "<annotation/>")
    voc(thing(), filename="0")
    write("v/ImageSets/Main/train.txt", codecs.BOM_UTF8 + b"0.jpg\r\n")
    write("v/ImageSets/Main/test.txt", "JPEGImages/1.jpg\n")
    data = dataset(VOC, "v", **SETTINGS)
    assert (data.train.samples, data.test.samples) == (1, 1)
    write("v/ImageSets/Main/test.txt", "1\n\n2\n")
    with pytest.raises(InputError, match=r"test\.txt:3: there is no Annotations/2\.xml"):
        _ = dataset(VOC, "v", **SETTINGS).spec


def coco(*annotations: dict[str, Any], **content: Any) -> DetectionDataset:
    """One image, of the id 3, and the categories 2, ant, and 9, cup; boxes are by default 10, 15,
    30, 25 of cup.
    """
    paint("c/0.png")
    whole: dict[str, Any] = {
        "images": [{"id": 3, "file_name": "0.png"}],
        "categories": [{"id": 9, "name": "cup"}, {"id": 2, "name": "ant"}],
    }
    default = {"image_id": 3, "category_id": 9, "bbox": [10, 15, 20, 10]}
    whole["annotations"] = [{"id": k, **default, **a} for k, a in enumerate(annotations)]
    write("c.json", codecs.BOM_UTF8 + json.dumps(whole | content).encode())
    return dataset(COCO, "c", "c.json", **SETTINGS)


def test_ids_of_coco_may_have_gaps_and_be_text() -> None:
    """Also behind a byte order mark."""
    data = coco({}, {"image_id": "3", "category_id": 2.0})
    assert data.spec.class_names == ("ant", "cup")
    assert targets_of(data)[0, :, 4].tolist() == [1, 0]


def test_crowds_and_ignored_objects_of_coco_are_not_counted() -> None:
    targets = targets_of(coco({}, {"iscrowd": 1}, {"ignore": 1}, {"iscrowd": 0, "ignore": "0"}))
    assert targets[0, :, 5].tolist() == [COUNTED, CROWD, DIFFICULT, COUNTED]


def test_categories_of_coco_with_the_same_name() -> None:
    """One of them is used: exports often have an unused one, of the id 0, which is called as the
    whole set.
    """
    names = [{"id": 0, "name": "cup"}, {"id": 9, "name": "cup"}, {"id": 2, "name": "ant"}]
    data = coco({}, {"category_id": 2}, categories=names)
    assert data.spec.class_names == ("ant", "cup")
    assert targets_of(data)[0, :, 4].tolist() == [1, 0]
    with pytest.raises(
        InputError, match=r"c\.json: the categories with the ids 0, 9 are all called cup"
    ):
        _ = coco({}, {"category_id": 0}, categories=names).spec


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            {"categories": [{"id": 9, "name": "a"}, {"id": 9, "name": "b"}]},
            r"two categories have the id 9",
        ),
        (
            {"images": [{"id": 3, "file_name": "0.png"}, {"id": 3, "file_name": "1.png"}]},
            r"two images have the id 3",
        ),
        (
            {"images": [{"id": 3, "file_name": "0.png"}, {"id": 4, "file_name": "0"}]},
            r"ids 3 and 4 are both .*0\.png",
        ),
        ({"categories": [{"id": 9, "name": None}]}, r"category 9: expected a name, got null"),
    ],
)
def test_ambiguous_ids_and_names_of_coco_are_refused(content: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        _ = coco({}, **content).spec


def test_names_of_coco_are_those_of_the_file() -> None:
    data = coco({}, categories=[{"id": 9, "name": True}, {"id": 10, "name": 1.5}])
    assert data.spec.class_names == ("true", "1.5")


@pytest.mark.parametrize("name", ["0", "0.jpg", "0.PNG", "train\\0.png", "train/0.png"])
def test_coco_file_names_in_many_notations_are_found(name: str) -> None:
    data = coco({}, images=[{"id": 3, "file_name": name, "width": 40, "height": 40}])
    assert targets_of(data).tolist() == [[[10, 15, 30, 25, 1]]]


def test_images_of_the_same_name_in_two_folders() -> None:
    """Their folder distinguishes them, also with backslashes; without it no file is chosen."""
    images = [{"id": 3, "file_name": "a\\1.png"}, {"id": 4, "file_name": "b\\1.png"}]
    for folder in ("a", "b"):
        paint(f"c/{folder}/1.png")
    data = coco({}, {"image_id": 4}, images=images)
    places = [Path(image.path).as_posix() for image in data.source.annotated.parts["train"]]
    assert places == ["c/a/1.png", "c/b/1.png"]
    with pytest.raises(
        InputError, match=r"c\.json: image 3: its image may be any of c/a/1\.png, c/b/1\.png"
    ):
        _ = coco({}, images=[{"id": 3, "file_name": "1"}]).spec


def test_coco_boxes_in_fractions_and_images_of_another_size_are_refused() -> None:
    with pytest.raises(InputError, match=r"annotation 0: the box lies within one pixel"):
        targets_of(coco({"bbox": [0.25, 0.25, 0.5, 0.5]}))
    with pytest.raises(
        InputError, match=r"annotation 0: its annotation says 80x40 pixels, and .* has 40x40"
    ):
        targets_of(coco({}, images=[{"id": 3, "file_name": "0.png", "width": 80, "height": 40}]))
    with pytest.raises(InputError, match=r"annotation 0: expected iscrowd and ignore to be 0 or 1"):
        targets_of(coco({"iscrowd": "perhaps"}))


def test_augmentation_keeps_the_flags_of_boxes() -> None:
    images = torch.rand(8, 3, 20, 20)
    rows = torch.tensor(
        [[2.0, 2, 9, 9, 0, DIFFICULT], [4, 4, 12, 12, 1, COUNTED], [0, 0, 0, 0, -1, 0]]
    )
    targets = rows.repeat(8, 1, 1)
    for change in (Flip(0.5), Jitter(0.4)):
        _, changed = change(images, targets, keyed(1))
        assert torch.equal(changed[..., 5], targets[..., 5])
        plain = change(images, targets[..., :5], keyed(1))[1]
        assert torch.equal(changed[..., :5], plain)


def test_every_ignored_file_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Folders and images of no split, images without an annotation, annotations in folders below.

    .XML is read.
    """
    paint("y/images/extra/1.png")
    paint("y/images/2.png")
    _ = yolo().spec
    assert "not read, because they belong to no split: extra, 2.png" in caplog.text
    paint("v/JPEGImages/0.png")
    paint("v/JPEGImages/1.png")
    write("v/Annotations/more/1.xml", "<annotation/>")
    _ = voc(thing()).spec
    assert "1 image in v/JPEGImages without an annotation: not used, such as 1.png" in caplog.text
    assert "files in folders below it are not read: more/1.xml" in caplog.text
    write("v/Annotations/1.XML", f"<annotation><object>{thing()}</object></annotation>")
    assert targets_of(dataset(VOC, "v", **SETTINGS)).shape == (2, 1, 5)


def test_a_category_without_training_annotations_is_named() -> None:
    coco({})
    content = json.loads(Path("c.json").read_bytes())
    content["categories"].append({"id": 11, "name": "bee"})
    content["annotations"][0]["category_id"] = 11
    write("d.json", json.dumps(content))
    data = dataset(COCO, "c", "c.json", test_annotations="d.json", **SETTINGS)
    with pytest.raises(
        InputError,
        match=r"d\.json: annotation 0: there is no category 11 \(bee\) in the training file",
    ):
        targets_of(data)
