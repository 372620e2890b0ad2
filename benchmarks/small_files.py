"""Write small data sets of every kind that dltrain reads: images, tables, series, texts, boxes.

Everything is drawn from fixed seeds, so that two calls write the same bytes.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SHAPES = ("circle", "cross", "square")
WORDS = [
    "the",
    "a",
    "small",
    "large",
    "red",
    "green",
    "old",
    "new",
    "cat",
    "dog",
    "bird",
    "horse",
    "house",
    "tree",
    "river",
    "road",
    "sees",
    "finds",
    "likes",
    "leaves",
    "near",
    "under",
    "behind",
    "above",
    "good",
    "bad",
    "warm",
    "cold",
    "slowly",
    "quickly",
    "and",
    "or",
    "but",
    "then",
]
TRANSLATED = {word: word[::-1] for word in WORDS}
Pixels = NDArray[np.uint8]
Box = tuple[int, int, int, int]  # left, top, right, bottom


def write_all(folder: Path) -> None:
    """Write every data set below `folder`, which may be absent."""
    write_image_folder(folder / "pictures", ".png", count=24)
    write_image_folder(folder / "photos", ".jpg", count=16)
    write_tables(folder)
    write_series(folder / "series.csv")
    write_labeled_texts(folder / "reviews.csv")
    write_text_folder(folder / "letters")
    write_sentences(folder / "book.txt", count=120)
    write_parallel_texts(folder / "english.txt", folder / "backward.txt")
    write_boxes(folder, count=12)


def draw_shape(shape: str, size: int, rng: np.random.Generator) -> Pixels:
    """Return an image (size, size, 3) of one shape with noise around it."""
    image = rng.integers(0, 60, (size, size, 3))
    left, top = rng.integers(1, size // 3, 2)
    side = size // 2
    rows, columns = np.mgrid[0:size, 0:size]
    rows, columns = rows - top, columns - left
    inside = (rows >= 0) & (rows < side) & (columns >= 0) & (columns < side)
    if shape == "circle":
        inside &= (rows - side / 2) ** 2 + (columns - side / 2) ** 2 <= (side / 2) ** 2
    if shape == "cross":
        inside &= (abs(rows - side // 2) <= 1) | (abs(columns - side // 2) <= 1)
    image[inside] += rng.integers(90, 190, 3)
    return image.astype(np.uint8)


def write_image_folder(folder: Path, suffix: str, count: int, size: int = 20) -> None:
    """Write `count` images of each shape, a folder for each."""
    rng = np.random.default_rng(1)
    for shape in SHAPES:
        (folder / shape).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            image = Image.fromarray(draw_shape(shape, size, rng))
            image.save(folder / shape / f"{number:02}{suffix}")


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a table with a header line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def write_tables(folder: Path, count: int = 200) -> None:
    """Write houses.csv, with numbers, categories, dates and missing values, and new_houses.csv."""
    rng = np.random.default_rng(2)
    header = ("area", "rooms", "town", "built", "sold", "price")
    rows: list[Sequence[object]] = []
    for _ in range(count):
        area = round(float(rng.uniform(30, 200)), 1)
        rooms = int(rng.integers(1, 8))
        town = ("North", "South", "East")[int(rng.integers(3))]
        built = "" if rng.random() < 0.1 else int(rng.integers(1900, 2020))
        price = round(area * 2 + rooms * 5 + float(rng.normal(0, 5)), 2)
        sold = "yes" if area + float(rng.normal(0, 20)) < 110 else "no"
        rows.append((area, rooms, town, built, sold, price))
    write_csv(folder / "houses.csv", header, rows)
    write_csv(folder / "new_houses.csv", header, rows[:12])


def write_series(path: Path, count: int = 300) -> None:
    """Write hourly values that rise and fall every day."""
    rng = np.random.default_rng(3)
    hours = np.arange(count)
    values = 10 + np.sin(hours * 2 * np.pi / 24) + rng.normal(0, 0.1, count)
    times = np.datetime64("2024-01-01T00:00") + hours.astype("timedelta64[h]")
    write_csv(
        path, ("time", "kW"), [(str(t), f"{v:.4f}") for t, v in zip(times, values, strict=True)]
    )


def sentences(count: int, seed: int) -> Iterator[str]:
    """Yield sentences of the words above."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        yield " ".join(rng.choice(WORDS, int(rng.integers(4, 12))))


def label_of(sentence: str) -> str:
    """Return the class of a text, which some of its words decide."""
    words = sentence.split()
    score = words.count("good") + words.count("warm") - words.count("bad") - words.count("cold")
    return "positive" if score > 0 else "negative"


def write_labeled_texts(path: Path, count: int = 160) -> None:
    """Write a table of texts with a label each."""
    rows = [(text, label_of(text)) for text in sentences(count, seed=4)]
    write_csv(path, ("text", "label"), rows)


def write_text_folder(folder: Path, count: int = 80) -> None:
    """Write a text file each, in a folder for each class."""
    for number, text in enumerate(sentences(count, seed=5)):
        path = folder / label_of(text) / f"{number:03}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n", encoding="utf-8")


def write_sentences(path: Path, count: int) -> None:
    """Write running text, a sentence a line."""
    lines = [f"{sentence.capitalize()}.\n" for sentence in sentences(count, seed=6)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(lines), encoding="utf-8")


def write_parallel_texts(source: Path, target: Path, count: int = 160) -> None:
    """Write two aligned files; `target` has the words of `source`, each spelled backward."""
    texts = list(sentences(count, seed=7))
    source.parent.mkdir(parents=True, exist_ok=True)
    source.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
    turned = [" ".join(TRANSLATED[word] for word in text.split()) for text in texts]
    target.write_text("".join(f"{text}\n" for text in turned), encoding="utf-8")


def scenes(count: int, size: int) -> Iterator[tuple[Pixels, list[tuple[int, Box]]]]:
    """Yield images (size, size, 3) with one or two filled boxes of class 0 or 1, and those."""
    rng = np.random.default_rng(8)
    for _ in range(count):
        image = rng.integers(0, 50, (size, size, 3)).astype(np.uint8)
        objects: list[tuple[int, Box]] = []
        for half in range(int(rng.integers(1, 3))):
            kind = int(rng.integers(2))
            side = int(rng.integers(size // 4, size // 2 - 2))
            left = half * (size // 2) + 1
            top = int(rng.integers(0, size - side))
            image[top : top + side, left : left + side] = (220, 60, 60) if kind else (60, 220, 60)
            objects.append((kind, (left, top, left + side, top + side)))
        yield image, objects


def write_boxes(folder: Path, count: int, size: int = 48) -> None:
    """Write the same images with boxes as COCO (`coco`), YOLO (`yolo`) and Pascal VOC (`voc`)."""
    names = ("green", "red")
    for part in (
        "coco/images",
        "yolo/images/train",
        "yolo/labels/train",
        "voc/JPEGImages",
        "voc/Annotations",
    ):
        (folder / part).mkdir(parents=True, exist_ok=True)
    images: list[dict[str, object]] = []
    annotations: list[dict[str, object]] = []
    for number, (pixels, objects) in enumerate(scenes(count, size)):
        picture = Image.fromarray(pixels)
        picture.save(folder / "coco" / "images" / f"{number}.png")
        picture.save(folder / "yolo" / "images" / "train" / f"{number}.png")
        picture.save(folder / "voc" / "JPEGImages" / f"{number}.png")
        images.append({"id": number, "file_name": f"{number}.png", "width": size, "height": size})
        yolo_lines: list[str] = []
        voc = ElementTree.Element("annotation")
        ElementTree.SubElement(voc, "filename").text = f"{number}.png"
        voc_size = ElementTree.SubElement(voc, "size")
        for dimension, value in (("width", size), ("height", size), ("depth", 3)):
            ElementTree.SubElement(voc_size, dimension).text = str(value)
        for kind, (left, top, right, bottom) in objects:
            width, height = right - left, bottom - top
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": kind + 1,
                    "bbox": [left, top, width, height],
                    "area": width * height,
                    "iscrowd": 0,
                }
            )
            center_x, center_y = (left + right) / 2 / size, (top + bottom) / 2 / size
            yolo_lines.append(f"{kind} {center_x} {center_y} {width / size} {height / size}\n")
            voc_object = ElementTree.SubElement(voc, "object")
            ElementTree.SubElement(voc_object, "name").text = names[kind]
            voc_box = ElementTree.SubElement(voc_object, "bndbox")
            for side, value in (
                ("xmin", left + 1),
                ("ymin", top + 1),
                ("xmax", right),
                ("ymax", bottom),
            ):
                ElementTree.SubElement(voc_box, side).text = str(value)
        yolo_labels = folder / "yolo" / "labels" / "train" / f"{number}.txt"
        yolo_labels.write_text("".join(yolo_lines), encoding="utf-8")
        voc_path = folder / "voc" / "Annotations" / f"{number}.xml"
        voc_path.write_text(ElementTree.tostring(voc, encoding="unicode"), encoding="utf-8")
    categories = [{"id": 1, "name": names[0]}, {"id": 2, "name": names[1]}]
    coco = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "coco" / "boxes.json").write_text(json.dumps(coco), encoding="utf-8")
    (folder / "yolo" / "data.yaml").write_text("names: [green, red]\n", encoding="utf-8")
