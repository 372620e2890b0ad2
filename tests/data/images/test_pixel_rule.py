"""Images of any depth and mode: their values become bytes by one rule for the whole set, which
belongs to the run.
"""

from __future__ import annotations

import io
import json
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from small_pictures import data, everything

from dltrain.data.detection.dataset import DetectionDataset
from dltrain.data.detection.yolo import YOLO
from dltrain.data.images.decode import read_image
from dltrain.data.images.pixel_rule import usual_range
from dltrain.errors import InputError

GRAY = np.random.default_rng(0).integers(0, 256, (8, 12)).astype(np.uint8)
GRAY[0, :2] = 0, 255  # all levels: a range is known by its ends
COLOR = np.stack([GRAY, GRAY[::-1], GRAY[:, ::-1]], axis=2)


def encoded(image: Image.Image, kind: str, **more: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **more)
    return buffer.getvalue()


def tiff(values: np.ndarray, **more: Any) -> bytes:
    return encoded(Image.fromarray(values), "TIFF", **more)


def png16(values: np.ndarray, color_type: int) -> bytes:
    """A PNG file of 16 bits a channel: 2 is color, 4 gray with alpha, 6 color with alpha."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content))
            + name
            + content
            + struct.pack(">I", zlib.crc32(name + content))
        )

    height, width = values.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, 16, color_type, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def tiff_of(values: np.ndarray, sample_format: int, photometric: int = 1) -> bytes:
    """A TIFF file of whole numbers or floats as PIL does not write them: (H, W) or (H, W, C), of
    either byte order.
    """
    channels = values.shape[2] if values.ndim == 3 else 1
    order = ">" if values.dtype.byteorder == ">" else "<"
    bits, content = values.dtype.itemsize * 8, values.tobytes()
    offset = 8 + 2 + 12 * 10 + 4
    shared = struct.pack(f"{order}{2 * channels}H", *[bits] * channels, *[sample_format] * channels)
    short = {258: bits, 339: sample_format}
    entries = [(256, 4, 1, values.shape[1]), (257, 4, 1, values.shape[0])]
    for tag, start in (
        (258, offset),
        (259, 1),
        (262, photometric),
        (273, offset + len(shared)),
        (277, channels),
    ):
        entries.append((tag, 4 if tag == 273 else 3, channels if tag == 258 else 1, start))
    entries += [
        (278, 4, 1, values.shape[0]),
        (279, 4, 1, len(content)),
        (339, 3, channels, offset + 2 * channels),
    ]
    packed = b""
    for tag, kind, count, value in entries:
        own = short[tag] if tag in short and count == 1 else value
        packed += struct.pack(f"{order}HHI", tag, kind, count)
        inline = kind == 3 and count == 1
        packed += struct.pack(f"{order}HH", own, 0) if inline else struct.pack(f"{order}I", own)
    start = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8)
    return (
        start
        + struct.pack(f"{order}H", len(entries))
        + packed
        + struct.pack(f"{order}I", 0)
        + shared
        + content
    )


def wide(values: np.ndarray) -> np.ndarray:
    return values.astype(np.uint16) * 257


SOLID = np.full((8, 12, 1), 65535, dtype=np.uint16)
GRAYS: dict[str, bytes] = {
    "float 0..1": tiff((GRAY / 255).astype(np.float32)),
    "float 0..255": tiff(GRAY.astype(np.float32)),
    "float 0..65535": tiff((GRAY * 257.0).astype(np.float32)),
    "float -1..1": tiff((GRAY / 127.5 - 1).astype(np.float32)),
    "float 0..0.01": tiff((GRAY / 25500).astype(np.float32)),
    "float -1000..3000": tiff((GRAY * (4000 / 255) - 1000).astype(np.float32)),
    "float, packed": tiff((GRAY / 255).astype(np.float32), compression="tiff_deflate"),
    "float, big-endian": tiff_of((GRAY / 255).astype(">f4"), 3),
    "16 bits of small values": tiff(GRAY.astype(np.uint16)),
    "16 bits": tiff(wide(GRAY)),
    "16 bits, packed": tiff(wide(GRAY), compression="tiff_lzw"),
    "12 of 16 bits": tiff(GRAY.astype(np.uint16) << 4),
    "16 bits, big-endian": tiff_of(GRAY.astype(">u2"), 1),
    "16 bits, 0 is white": tiff_of((255 - GRAY).astype("<u2"), 1, 0),
    "16 bits, signed": tiff_of(GRAY.astype("<i2") - 128, 2),
    "8 bits, signed": tiff_of((GRAY.astype(np.int16) - 128).astype(np.int8), 2),
    "32 bits of small values": tiff(GRAY.astype(np.int32)),
    "32 bits": tiff(GRAY.astype(np.int32) * 1000),
    "32 bits, unsigned": tiff_of(GRAY.astype("<u4") * 0x1010101, 1),
    "16-bit png of small values": encoded(Image.fromarray(GRAY.astype(np.uint16)), "PNG"),
    "16-bit png": encoded(Image.fromarray(wide(GRAY)), "PNG"),
    "16-bit png with alpha": png16(np.dstack([GRAY.astype(np.uint16), SOLID]), 4),
    "16-bit pgm": b"P5 12 8 65535\n" + wide(GRAY).astype(">u2").tobytes(),
    "pgm of 300 levels": b"P5 12 8 255\n" + GRAY.tobytes(),
}
COLORS: dict[str, bytes] = {
    "16-bit color png of small values": png16(COLOR, 2),
    "16-bit color png": png16(wide(COLOR), 2),
    "16-bit color png with alpha": png16(np.dstack([wide(COLOR), SOLID]), 6),
    "16-bit color tiff": tiff_of(wide(COLOR).astype("<u2"), 1, 2),
    "16-bit color tiff of small values": tiff_of(COLOR.astype("<u2"), 1, 2),
    "16-bit color tiff, big-endian": tiff_of(COLOR.astype(">u2"), 1, 2),
    "YCbCr": encoded(Image.fromarray(COLOR).convert("YCbCr"), "TIFF"),
    "8 bits with alpha": encoded(
        Image.fromarray(np.dstack([COLOR, np.full_like(GRAY, 255)])), "PNG"
    ),
}


@pytest.mark.parametrize("kind", [*GRAYS, *COLORS])
def test_images_of_any_depth_are_those_of_8_bits(kind: str, tmp_path: Path) -> None:
    """The same picture in any sample type, byte order and container: the same bytes within
    rounding.
    """
    expected = COLOR if kind in COLORS else np.repeat(GRAY[..., None], 3, axis=2)
    (tmp_path / "x").write_bytes((GRAYS | COLORS)[kind])
    pixels = read_image(tmp_path / "x", (3, 8, 12)).permute(1, 2, 0).numpy().astype(int)
    assert np.abs(pixels - expected).max() <= (3 if kind == "YCbCr" else 1)
    gray = read_image(tmp_path / "x", (1, 8, 12)).numpy()[0]
    assert np.abs(gray - expected @ np.array([0.299, 0.587, 0.114])).max() <= 3


def test_other_color_modes_of_pillow(tmp_path: Path) -> None:
    """CMYK, L*a*b*, one bit, palettes with and without a transparent entry."""
    transparent = Image.new("P", (12, 8), 1)
    transparent.putpalette([0, 0, 0, 200, 100, 50])
    for image, expected, more in (
        (Image.new("CMYK", (12, 8), (0, 255, 255, 0)), (255, 0, 0), {}),
        (Image.new("LAB", (12, 8), (137, 128, 128)), (129, 129, 129), {}),
        (Image.new("1", (12, 8), 1), (255, 255, 255), {}),
        (transparent, (200, 100, 50), {}),
    ):
        image.save(tmp_path / "x.tif", "TIFF", **more)
        color = read_image(tmp_path / "x.tif", (3, 8, 12)).float().mean(dim=(1, 2))
        assert torch.allclose(color, torch.tensor(expected).float(), atol=3), image.mode
    transparent.save(tmp_path / "x.png", transparency=0)
    assert read_image(tmp_path / "x.png", (3, 8, 12))[:, 0, 0].tolist() == [200, 100, 50]


@pytest.mark.parametrize(
    ("low", "high", "kind", "expected"),
    [
        (0, 1, "float", (0, 1)),
        (0.1, 0.9, "float", (0, 1)),
        (-0.01, 1.02, "float", (0, 1)),
        (-0.4, 0.9, "float", (-1, 1)),
        (0, 30, "float", (0, 255)),
        (0, 0.001, "float", (0, 0.001)),
        (250, 310, "float", (250, 310)),
        (-1024, 3071, "32-bit", (-1024, 3071)),
        (0, 1, "16-bit", (0, 1)),
        (0, 9, "16-bit", (0, 9)),
        (3, 200, "16-bit", (0, 255)),
        (0, 900, "16-bit", (0, 1023)),
        (0, 4000, "16-bit", (0, 4095)),
        (0, 60000, "16-bit", (0, 65535)),
        (0, 70000, "32-bit", (0, 70000)),
        (5, 5, "16-bit", (5, 6)),
        (0, 0, "float", (0, 1)),
    ],
)
def test_ranges(low: float, high: float, kind: str, expected: tuple[float, float]) -> None:
    """The range is a usual one that the values fill, or their own, so that 16 levels remain."""
    assert usual_range(low, high, kind) == expected


def lay(
    root: str, make: Callable[[np.ndarray], bytes], count: int = 12, shift: float = 0.0
) -> Path:
    """Write `count` images of the classes left and right, bright on that side: `make` encodes
    values in 0..1.
    """
    draws = np.random.default_rng(3)
    for k, name in enumerate(("left", "right")):
        (folder := Path(root, name)).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            values = draws.random((8, 8)) * 0.2 + shift
            values[:, 4 * k : 4 * k + 4] += 0.5
            (folder / f"{i}.tif").write_bytes(make(values))
    return Path(root)


MAKERS: dict[str, Callable[[np.ndarray], bytes]] = {
    "float": lambda v: tiff(v.astype(np.float32)),
    "small float": lambda v: tiff((v / 500).astype(np.float32)),
    "16": lambda v: tiff((v * 300).astype(np.uint16)),
    "32": lambda v: tiff((v * 7).astype(np.int32)),
}
TRAIN = (
    "dataset=image_folder",
    "dataset.channels=1",
    "model=mlp",
    "dataset.batch_size=8",
    "callbacks=quiet",
    "--json",
)


@pytest.mark.parametrize("memory", ["true", "false"])
@pytest.mark.parametrize("kind", MAKERS)
def test_images_become_black(kind: str, memory: str, dltrain: Callable[..., Any]) -> None:
    """Float, 16-bit and 32-bit images are classified like those of 8 bits.

    The range is logged; evaluate and predict use it too.
    """
    path = lay("set", MAKERS[kind])
    outcome = dltrain(
        *TRAIN, "trainer.epochs=3", f"dataset.path={path}", f"dataset.memory={memory}"
    )
    assert outcome.code == 0, outcome.err
    assert outcome.json["metrics"]["test/accuracy"] == 1.0
    assert outcome.out.count("becomes 0..255 in every image") == 1
    run = outcome.json["run"]
    other = lay("other", MAKERS[kind], count=3)
    again = dltrain("evaluate", run, f"dataset.path={other}", f"dataset.memory={memory}", "--json")
    assert again.json["metrics"]["test/accuracy"] == 1.0
    rows = dltrain("predict", run, str(other / "right"), "--json").json["rows"]
    assert [row["class"] for row in rows] == ["right"] * 3


def test_the_range_is_one_for_the_set_and_belongs_to_the_run() -> None:
    """Dark images stay darker than bright ones; another folder and a file of its own are scaled as
    training was.
    """
    for memory in (True, False):
        lay("dark", MAKERS["16"], count=4)
        lay(
            "dark", lambda v: tiff((v * 900).astype(np.uint16)), count=2
        )  # the set's highest values
        made = data("dark", channels=1, memory=memory, scaling="unit")
        inputs = everything(made.train)[0]
        assert made.description()["pixels"]["ranges"] == {"16-bit": [0.0, 1023.0]}
        assert inputs.amax(dim=(1, 2, 3)).min() < 0.3 < inputs.amax(dim=(1, 2, 3)).max()
        other = data(lay("more", MAKERS["16"], count=2), channels=1, memory=memory, scaling="unit")
        other.restore(json.loads(json.dumps(made.description())))
        assert everything(other.test)[0].max() < 0.3
        sample = next(iter(other.encode([Path("more/left/0.tif")])))
        assert sample.inputs is not None
        assert sample.inputs.max() < 0.3


@pytest.mark.parametrize("memory", [True, False])
def test_images_of_fewer_bits_among_others_are_logged(
    memory: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """The warning counts those that are nearly black in the range of the set, or in other data of
    the
    run.
    """

    def sixteen(values: np.ndarray) -> bytes:
        return tiff((values * 65535 / values.max()).astype(np.uint16))

    def twelve(values: np.ndarray) -> bytes:
        return tiff((values * 4000 / values.max()).astype(np.uint16))

    made = data(lay("set", sixteen, count=4), channels=1, memory=memory)
    assert made.train.samples
    assert "nearly black" not in caplog.text
    other = data(lay("other", twelve, count=2), channels=1, memory=memory)
    other.restore(made.description())
    assert other.test.samples
    assert "16-bit values below 4095.94 alone, which are nearly black in 0..65535" in caplog.text
    caplog.clear()
    mixed = data(lay("set", twelve, count=3), channels=1, memory=memory)
    assert mixed.train.samples
    assert "6 of 8 images have 16-bit values below 4095.94 alone" in caplog.text
    assert caplog.text.count("nearly black") == 1


def test_images_that_would_be_clipped_or_black_are_named_or_refused(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Values that are not finite, far outside the run's range, or all in its lowest 256th; and how
    to say the range.
    """
    lay("set", MAKERS["float"])
    broken = np.full((8, 8), np.nan, dtype=np.float32)
    Path("set/left/nan.tif").write_bytes(tiff(broken))
    made = data("set", channels=1)
    assert made.train.samples
    assert "nan.tif cannot be read as an image: 64 of its values are not finite" in caplog.text
    with pytest.raises(InputError, match=r"nan\.tif"):
        _ = data("set", channels=1, odd_files="refuse").train
    for make, says in (
        (lambda v: tiff((v * 255).astype(np.float32)), "far outside 0..1"),
        (lambda v: tiff((v / 1000).astype(np.float32)), "would all be black in 0..1"),
    ):
        for memory in (True, False):
            other = data(lay("other", make, count=2), channels=1, memory=memory)
            other.restore(made.description())
            with pytest.raises(
                InputError,
                match=rf"(?s)no image is left of test.*{says}.*dataset.value_range=\[LOW,HIGH\]",
            ):
                _ = other.test
            problem = next(iter(other.encode([Path("other/left/0.tif")]))).problem
            assert says in problem
        for path in Path("other").rglob("*.tif"):
            path.unlink()
    told = data(
        lay("other", lambda v: tiff((v * 255).astype(np.float32)), count=2),
        channels=1,
        value_range=(0, 255),
    )
    told.restore(made.description())
    assert everything(told.test)[0].std() > 0.5
    with pytest.raises(ValueError, match="must be below"):
        data("set", value_range=(1, 1))


def drawing(ink: int) -> bytes:
    """Strokes of one color on a transparent background."""
    alpha = np.zeros((8, 8), dtype=np.uint8)
    alpha[2:6, 3] = 255
    return encoded(
        Image.fromarray(np.dstack([np.full((8, 8, 3), ink, dtype=np.uint8), alpha])), "PNG"
    )


@pytest.mark.parametrize("memory", [True, False])
@pytest.mark.parametrize(
    ("inks", "background"),
    [((0,), "white"), ((255,), "black"), ((0, 255), "gray"), ((90,), "black")],
)
def test_drawings_on_a_transparent_background_are_visible(
    inks: tuple[int, ...], background: str, memory: bool
) -> None:
    """One background for the whole set: black, unless black strokes would vanish; the run keeps it
    for other images.
    """
    for i, name in enumerate(("a", "b")):
        (folder := Path("set", name)).mkdir(parents=True)
        for k in range(6):
            (folder / f"{k}.png").write_bytes(drawing(inks[(k + i) % len(inks)]))
    made = data("set", channels=1, memory=memory)
    images = everything(made.train)[0]
    assert all(len(image.unique()) == 2 for image in images)
    assert made.description()["pixels"]["background"] == background
    other = data("set", channels=1, scaling="unit", background="auto")
    other.restore(made.description())
    sample = next(iter(other.encode([Path("set/a/0.png")])))
    assert sample.inputs is not None
    level = {"black": 0.0, "gray": 128 / 255, "white": 1.0}[background]
    assert sample.inputs[0, 0, 0] == pytest.approx(level)


def test_the_kept_survey_of_a_streamed_set_has_its_rule() -> None:
    lay("set", MAKERS["float"])
    first, again = (data("set", channels=1, memory=False) for _ in range(2))
    _ = first.train
    _ = again.train
    assert again.description() == first.description()
    assert torch.equal(everything(again.val)[0], everything(first.val)[0])


def test_images_with_boxes_of_any_depth_are_scaled_by_one_rule() -> None:
    """Images with boxes, too: float values are not black, the dark one stays dark, and the run
    keeps the range.
    """
    for kind, make in (
        ("bytes", lambda v: tiff((v * 255).astype(np.uint8))),
        ("floats", MAKERS["float"]),
    ):
        for i, brightness in enumerate((1.0, 0.3)):
            for folder, name, content in (
                ("images", f"{i}.tif", make(GRAY / 255 * brightness)),
                ("labels", f"{i}.txt", b"0 0.5 0.5 0.4 0.4\n"),
            ):
                Path(kind, folder, "train").mkdir(parents=True, exist_ok=True)
                Path(kind, folder, "train", name).write_bytes(content)
        Path(kind, "data.yaml").write_text("names: [cell]", encoding="utf-8")
    made = {
        kind: DetectionDataset(
            YOLO(Path("data"), kind, image_size=16), val_fraction=0, test_fraction=0
        )
        for kind in ("bytes", "floats")
    }
    images = {kind: one.stored["train"][0][:, :, :10].int() for kind, one in made.items()}
    assert (images["bytes"] - images["floats"]).abs().max() <= 1
    assert images["floats"][1].amax() < 100 < images["floats"][0].amax()
    reader = DetectionDataset(YOLO(Path("data"), "bytes", image_size=16))
    reader.restore(json.loads(json.dumps(made["floats"].description())))
    sample = next(iter(reader.encode([Path("floats/images/train/1.tif")])))
    assert sample.inputs is not None
    assert sample.inputs[:, :10].max() < 0


def test_runs_of_older_versions_read_images_as_they_did() -> None:
    """Without a rule in the manifest: 16 bits lose their lower half, and transparency is over
    black.
    """
    lay("set", MAKERS["16"])
    made = data("set", channels=1, scaling="unit")
    old = {name: value for name, value in made.description().items() if name != "pixels"}
    reader = data("set", channels=1, scaling="unit")
    reader.restore(old)
    values = wide(GRAY)
    Path("x.tif").write_bytes(tiff(values))
    sample = next(iter(reader.encode([Path("x.tif")])))
    assert sample.inputs is not None
    assert torch.equal(
        (sample.inputs[0] * 255).round(), torch.from_numpy(values[:, 2:10] >> 8).float()
    )
