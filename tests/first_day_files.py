"""Writes what a newcomer brings along: photos, tables, letters and a model of their own.

Called by first_day.sh, in the folder in which the commands are typed.
"""

from __future__ import annotations

import csv
import math
import random
from pathlib import Path

from PIL import Image

SIZE = 24  # pixels
WORDS = {
    "praise": "fine warm clever lovely bright moving",
    "complaint": "dull slow clumsy broken noisy late",
}

MODEL = '''\
"""A model of one's own."""

from torch import Tensor, nn


class TwoLayers(nn.Module):
    def __init__(self, in_features: int, num_classes: int, width: int = 32) -> None:
        super().__init__()
        self.hidden, self.out = nn.Linear(in_features, width), nn.Linear(width, num_classes)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.out(self.hidden(inputs.flatten(1)).relu())
'''
OPTION = """\
# My two layers
_target_: mymodel.TwoLayers
width: 16
"""


def main() -> None:
    """Write everything into the current folder."""
    draw = random.Random(0)
    for name, color in (
        ("cat", (200, 120, 40)),
        ("dog", (60, 90, 160)),
        ("gray heron", (120,) * 3),
    ):
        for i in range(24):
            write_picture(Path("my photos", name, f"{i}.png"), color, draw)
    for i in range(3):
        write_picture(Path("new", f"{i}.png"), (200, 120, 40), draw)
    write_houses(Path("houses.csv"), 160, draw)
    write_houses(Path("new_houses.csv"), 5, draw)
    write_load(Path("load.csv"))
    for topic, words in WORDS.items():
        for i in range(30):
            path = Path("letters", topic, f"{i}.txt")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(" ".join(draw.choices([*words.split(), "the", "a"], k=12)) + "\n")
    Path("book.txt").write_text(" ".join(draw.choices(" ".join(WORDS.values()).split(), k=4000)))
    Path("mymodel.py").write_text(MODEL)
    Path("myconf/model").mkdir(parents=True, exist_ok=True)
    Path("myconf/model/two_layers.yaml").write_text(OPTION)


def write_picture(path: Path, color: tuple[int, ...], draw: random.Random) -> None:
    """Write a picture of one color with noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.new("RGB", (SIZE, SIZE))
    picture.putdata(
        [tuple(level + draw.randrange(40) for level in color) for _ in range(SIZE * SIZE)]
    )
    picture.save(path)


def write_houses(path: Path, count: int, draw: random.Random) -> None:
    """Write a table of houses with their price, some without their year."""
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["id", "area (m2)", "town", "year", "price"])
        for number in range(count):
            area = draw.randrange(40, 200)
            town = draw.choice(["Ulm", "Bern", "Graz"])
            price = 3000 * area + 20000 * len(town) + draw.randrange(10000)
            rows.writerow([number, area, town, draw.choice(["", 1950 + number % 60]), price])


def write_load(path: Path) -> None:
    """Write a series of hourly values."""
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["kW"])
        rows.writerows(
            [[round(5 + 3 * math.sin(2 * math.pi * hour / 24), 3)] for hour in range(400)]
        )


if __name__ == "__main__":
    main()
