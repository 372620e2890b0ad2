"""Malformed images through the commands: exit 3, a line each, no traceback, soon.

DLTRAIN_FAULTS=full draws more places to damage and prints the figures.
"""

from __future__ import annotations

import io
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from malformed import DRAWS, OTHER_KINDS, PLACES, SECONDS, count, flipped, png, zeroed
from PIL import Image

pytestmark = pytest.mark.usefixtures("figures")


def picture(kind: str, size: int = 64) -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise((size, size), 80).convert("RGB").save(buffer, kind)
    return buffer.getvalue()


def images() -> dict[str, bytes]:
    """Return files that no reader can take for an image, by name."""
    cases = {
        f"{kind}.{end}": c
        for kind, c in OTHER_KINDS.items()
        if kind != "png"
        for end in ("png", "jpg")
    }
    for kind in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"):
        for seed in range(2 * DRAWS):
            content = picture(kind)
            cases[f"cut {seed}.{kind.lower()}"] = content[
                : random.Random(f"{kind} {seed}").randrange(len(content) // 2)
            ]
    for seed in range(2 * DRAWS):
        content, draw = bytearray(picture("PNG")), random.Random(seed)
        for _ in range(3):  # hurt in the compressed part, whose sum then is wrong
            content[draw.randrange(60, len(content) - 20)] ^= 1 + draw.randrange(255)
        cases[f"damaged {seed}.png"] = bytes(content)
    return cases


def test_malformed_images_to_predict(trained: Path, refused: Callable[..., Any]) -> None:
    """A line for each, the good one answered, exit 3 at the end."""
    cases = images()
    Path("in").mkdir()
    for name, content in {**cases, "good.png": png()}.items():
        Path("in", name).write_bytes(content)
    for kind, place in PLACES.items():
        if kind != "gone":
            place(Path("in", f"{kind}.png"))
    names = sorted(str(path) for path in Path("in").iterdir())
    start = time.perf_counter()
    outcome = refused("images", "predict", str(trained), *names, "--json", lines=len(names) + 5)
    assert time.perf_counter() - start < SECONDS + 0.01 * len(names)
    assert outcome.json["predicted"] == 1, outcome.out
    assert all(any(name in problem for problem in outcome.json["problems"]) for name in cases)
    assert not Path("hit").exists()
    count("images", len(names) - 1)


def test_malformed_images_to_train_on(refused: Callable[..., Any]) -> None:
    """All named, or the first ones and how many more."""
    cases = images()
    for name in ("cat", "dog"):
        Path("pets", name).mkdir(parents=True)
        for i in range(10):
            Path("pets", name, f"{i}.png").write_bytes(picture("PNG", 8))
    for name, content in cases.items():
        Path("pets", "cat", name).write_bytes(content)
    argv = (
        "dataset=image_folder",
        "dataset.path=pets",
        "dataset.image_size=8",
        "model=mlp",
        "callbacks=quiet",
    )
    for memory in ("true", "false"):
        more = (f"dataset.memory={memory}", "dataset.odd_files=refuse")
        outcome = refused("images", *argv, *more, lines=12)
        assert f"{len(cases)} files in pets cannot be used" in outcome.err
        assert not Path("outputs").exists()
        count("images", len(cases))


def test_images_with_random_damage(trained: Path, dltrain: Callable[..., Any]) -> None:
    """An image with changed bits and bytes can be read, or a line names it; no crash."""
    Path("in").mkdir()
    number = 0
    for kind in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"):
        content = picture(kind)
        for seed in range(5 * DRAWS):
            damaged = (flipped, zeroed)[seed % 2](content, random.Random(f"{kind} {seed}"))
            Path("in", f"{seed}.{kind.lower()}").write_bytes(damaged)
            number += 1
    outcome = dltrain("predict", str(trained), "in", "--json")
    assert outcome.code in (0, 3), outcome.err
    assert outcome.json["predicted"] + len(outcome.json["problems"]) == number
    count("images with random damage", number)
