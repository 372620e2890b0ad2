"""Small data of every kind that a user may have, and how a run is trained on it."""

from __future__ import annotations

import csv
import json
import math
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from small_pictures import lay, picture

from dltrain.data.images.image_folder import ImageFolder
from dltrain.data.shards.pack import Packing, pack

SENTENCES = ("a fine film , fine and warm", "a dull film that never ends")
NUM_ROWS = 60
BOX = (4, 3, 12, 9)  # left, top, width, height in pixels
PICTURE = (24, 16)  # width, height


@dataclass(frozen=True)
class OwnData:
    """Data of a kind: `write` makes it in a folder, `overrides` name it, relative to that folder.

    `inputs` are files or texts to predict, which the folder does not hold before; `write_inputs`
    makes them in another folder.
    """

    dataset: str
    overrides: tuple[str, ...]
    write: Callable[[Path], None]
    write_inputs: Callable[[Path], list[str]]


def write_pictures(folder: Path) -> None:
    lay(folder / "pets")


def picture_input(folder: Path) -> list[str]:
    picture(size=(30, 20)).save(folder / "new.png")
    return ["new.png"]


def write_shards(folder: Path) -> None:
    """Pack the pictures, and leave only the shards."""
    with tempfile.TemporaryDirectory() as name:
        lay(Path(name, "pets"))
        (folder / "packed").mkdir()
        source = ImageFolder(Path(name), str(Path(name, "pets")))
        pack(source, folder / "packed", Packing("webdataset", 10_000))


def write_listed_pictures(folder: Path) -> None:
    """Write pictures and a table that names them."""
    lay(folder / "pets")
    with (folder / "labels.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "kind"])
        for path in sorted((folder / "pets").rglob("*.png")):
            writer.writerow([path.relative_to(folder).as_posix(), path.parent.name])


def write_table(folder: Path, rows: int = NUM_ROWS) -> None:
    with (folder / "flats.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["area", "city", "rent", "dear"])
        for i in range(rows):
            city = ("Rome", "Oslo", "Lima")[i % 3]
            writer.writerow([20 + i, city, 300.5 + 7 * i, "yes" if i > rows / 2 else "no"])


def table_input(folder: Path) -> list[str]:
    (folder / "new.csv").write_text("area,city,rent,dear\n33,Oslo,400.5,no\n71,Rome,700.5,yes\n")
    return ["new.csv"]


def write_series(folder: Path) -> None:
    lines = ["day,sold", *(f"{i},{10 + math.sin(i / 3):.3f}" for i in range(200))]
    (folder / "sales.csv").write_text("\n".join(lines) + "\n")


def series_input(folder: Path) -> list[str]:
    lines = ["day,sold", *(f"{i},{10 + math.cos(i / 3):.3f}" for i in range(30))]
    (folder / "new.csv").write_text("\n".join(lines) + "\n")
    return ["new.csv"]


def write_texts(folder: Path) -> None:
    for name, text in zip(("good", "bad"), SENTENCES, strict=True):
        (folder / "reviews" / name).mkdir(parents=True)
        for i in range(20):
            (folder / "reviews" / name / f"{i}.txt").write_text(f"{text} {'very ' * (i % 4)}")


def write_text_table(folder: Path) -> None:
    with (folder / "reviews.jsonl").open("w") as file:
        for i in range(40):
            row = {"text": SENTENCES[i % 2] + " very" * (i % 5), "label": f"c{i % 2}"}
            file.write(json.dumps(row) + "\n")


def text_input(folder: Path) -> list[str]:
    (folder / "new.txt").write_text("a film that ends warm")
    return ["new.txt", "a dull film"]


def write_prose(folder: Path) -> None:
    (folder / "book.txt").write_text("\n".join(SENTENCES * 80))


def write_pairs(folder: Path) -> None:
    texts = [f"{SENTENCES[i % 2]} {i}" for i in range(60)]
    (folder / "train.en").write_text("\n".join(texts) + "\n")
    (folder / "train.xx").write_text("\n".join(text[::-1] for text in texts) + "\n")


def write_coco(folder: Path) -> None:
    (folder / "shots").mkdir()
    images = []
    boxes = []
    for i in range(20):
        picture(size=PICTURE, seed=i).save(folder / "shots" / f"{i}.png")
        size = {"width": PICTURE[0], "height": PICTURE[1]}
        images.append({"id": i, "file_name": f"{i}.png", **size})
        boxes.append({"id": i, "image_id": i, "category_id": 1 + i % 2, "bbox": list(BOX)})
        boxes[-1] |= {"area": BOX[2] * BOX[3], "iscrowd": 0}
    categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    content = {"images": images, "annotations": boxes, "categories": categories}
    (folder / "boxes.json").write_text(json.dumps(content))


def write_yolo(folder: Path) -> None:
    for part in ("images", "labels"):
        (folder / "shots" / part / "train").mkdir(parents=True)
    (folder / "shots" / "classes.txt").write_text("cat\ndog\n")
    for i in range(20):
        picture(size=PICTURE, seed=i).save(folder / "shots" / "images" / "train" / f"{i}.png")
        label = folder / "shots" / "labels" / "train" / f"{i}.txt"
        label.write_text(f"{i % 2} 0.4 0.5 0.5 0.5\n")


def write_voc(folder: Path) -> None:
    left, top, width, height = BOX
    for part in ("Annotations", "JPEGImages"):
        (folder / "shots" / part).mkdir(parents=True)
    for i in range(20):
        picture(size=PICTURE, seed=i).save(folder / "shots" / "JPEGImages" / f"{i}.png")
        (folder / "shots" / "Annotations" / f"{i}.xml").write_text(
            f"<annotation><filename>{i}.png</filename>"
            f"<size><width>{PICTURE[0]}</width><height>{PICTURE[1]}</height><depth>3</depth></size>"
            f"<object><name>{('cat', 'dog')[i % 2]}</name><bndbox>"
            f"<xmin>{left}</xmin><ymin>{top}</ymin>"
            f"<xmax>{left + width}</xmax><ymax>{top + height}</ymax></bndbox></object></annotation>"
        )


SMALL_DETECTOR = ("dataset.image_size=64", "dataset.batch_size=2", "dataset.eval_batch_size=4")
SMALL_NET = ("model.embedding_dim=8", "model.hidden_size=8")
SMALL_WORDS = ("dataset.min_count=1", "model.embedding_dim=8")
PICTURES = ("dataset.path=pets", "dataset.image_size=16")


def of_pictures(*overrides: str) -> OwnData:
    return OwnData("image_folder", (*PICTURES, *overrides), write_pictures, picture_input)


def of_table(*overrides: str) -> OwnData:
    return OwnData("tabular", ("dataset.path=flats.csv", *overrides), write_table, table_input)


def of_texts(*overrides: str) -> OwnData:
    return OwnData("text_files", overrides, write_texts, text_input)


def of_prose(*overrides: str) -> OwnData:
    return OwnData(
        "language_modeling",
        ("dataset.path=book.txt", "dataset.length=16", *overrides),
        write_prose,
        text_input,
    )


def of_words(*overrides: str) -> OwnData:
    return OwnData(
        "words", ("dataset.path=book.txt", *SMALL_WORDS, *overrides), write_prose, text_input
    )


def of_pairs(*overrides: str) -> OwnData:
    files = ("dataset.pairs.source=train.en", "dataset.pairs.target=train.xx")
    return OwnData("translation", (*files, *overrides), write_pairs, text_input)


COCO_FILES = ("dataset.images=shots", "dataset.annotations=boxes.json")
OWN_DATA: dict[str, OwnData] = {
    "image_folder": of_pictures("model=lenet5"),
    "image_folder streamed": of_pictures("model=mlp", "dataset.memory=false"),
    "image_folder autoencoder": of_pictures("model=autoencoder", "dataset.scaling=unit"),
    "image_folder vae": of_pictures("model=vae", "dataset.scaling=unit"),
    "image_folder dcgan": of_pictures("model=dcgan", "model.channels=[8,4]"),
    "image_folder dbn": of_pictures(
        "model=deep_belief_net",
        "dataset.scaling=unit",
        "dataset.channels=1",
        "model.hidden_sizes=[16,8]",
    ),
    "image_table": OwnData(
        "image_table",
        (
            *("dataset.path=labels.csv", "dataset.image=file", "dataset.target=kind"),
            *("dataset.image_size=16", "model=mlp"),
        ),
        write_listed_pictures,
        picture_input,
    ),
    "shards": OwnData(
        "shards",
        ("dataset.path=packed", "dataset.image_size=16", "dataset.shuffle_shards=2", "model=mlp"),
        write_shards,
        picture_input,
    ),
    "tabular": of_table("dataset.target=dear"),
    "tabular embed": of_table("dataset.target=dear", "dataset.categories=embed"),
    "tabular regression": of_table("dataset.target=rent", "task=regression"),
    "timeseries": OwnData(
        "timeseries",
        ("dataset.path=sales.csv", "dataset.column=sold", "dataset.window=12"),
        write_series,
        series_input,
    ),
    "text_files": of_texts("dataset.path=reviews", *SMALL_NET),
    "text_files transformer": of_texts("dataset.path=reviews", "model=transformer"),
    "text_files fasttext": of_texts("dataset.path=reviews", "model=fasttext", "model.buckets=100"),
    "text_files jsonl": OwnData(
        "text_files", ("dataset.path=reviews.jsonl", *SMALL_NET), write_text_table, text_input
    ),
    "language_modeling": of_prose("task.sample_tokens=4"),
    "language_modeling streamed": of_prose(
        "model=lstm_lm", "dataset.stream=true", "dataset.batch_size=4", "task.sample_tokens=4"
    ),
    "words": of_words("model=word2vec"),
    "words fasttext": of_words("model=fasttext_vectors", "model.buckets=100"),
    "translation": of_pairs("dataset.tokenizer=word", *SMALL_NET),
    "translation bpe": of_pairs("dataset.vocab_size=300", "dataset.target_vocab_size=300"),
    "coco": OwnData("coco", (*COCO_FILES, *SMALL_DETECTOR), write_coco, picture_input),
    "yolo": OwnData("yolo", ("dataset.path=shots", *SMALL_DETECTOR), write_yolo, picture_input),
    "voc": OwnData("voc", ("dataset.path=shots", *SMALL_DETECTOR), write_voc, picture_input),
}
