"""Image files: the pixels of every kind and size.

Files that are not images are left out or refused.
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from small_pictures import data, everything, lay, picture

from dltrain.data.images.decode import MODES, read_image
from dltrain.data.images.folder import Folder
from dltrain.data.images.jpeg import MAX_BYTES, torchvision_decoder
from dltrain.data.images.listed.listing import FolderListing
from dltrain.data.images.opening import FORMATS
from dltrain.data.io.layout.folders import IMAGE_ENDINGS
from dltrain.errors import ConfigError, InputError
from dltrain.runs.inputs import find_inputs

# Pixels -------------------------------------------------------------------------------------------


def encoded(image: Image.Image, kind: str, **more: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **more)
    return buffer.getvalue()


RED = (255, 0, 0)
GRAY16 = Image.fromarray((np.arange(96).reshape(8, 12) * 680).astype(np.uint16))
HALF = Image.new("RGBA", (12, 8), (200, 100, 50, 128))
PALETTE = picture().quantize(16)
ROTATED = Image.Exif()
ROTATED[0x0112] = 6  # to be turned clockwise by 90 degrees


def as_bytes(image: Image.Image) -> np.ndarray:
    return np.array(image.convert("RGB")).transpose(2, 0, 1)


KINDS: dict[str, tuple[bytes, np.ndarray]] = {
    "plain png": (encoded(picture(), "PNG"), as_bytes(picture())),
    "gray png": (encoded(picture().convert("L"), "PNG"), as_bytes(picture().convert("L"))),
    "bmp": (encoded(picture(), "BMP"), as_bytes(picture())),
    "16-bit png": (encoded(GRAY16, "PNG"), np.repeat(np.asarray(GRAY16)[None] >> 8, 3, axis=0)),
    "alpha over black": (
        encoded(HALF, "PNG"),
        np.array([100, 50, 25])[:, None, None].repeat(8, 1).repeat(12, 2),
    ),
    "palette": (encoded(PALETTE, "PNG"), as_bytes(PALETTE)),
    "1-bit png": (encoded(picture().convert("1"), "PNG"), as_bytes(picture().convert("1"))),
    "gif": (encoded(PALETTE, "GIF"), as_bytes(PALETTE)),
    "cmyk jpeg": (
        encoded(Image.new("CMYK", (12, 8), (0, 255, 255, 0)), "JPEG", quality=100),
        np.array([255, 0, 0])[:, None, None].repeat(8, 1).repeat(12, 2),
    ),
    "turned png": (
        encoded(picture(size=(8, 12)).transpose(Image.Transpose.ROTATE_90), "PNG", exif=ROTATED),
        as_bytes(picture(size=(8, 12))),
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_image(kind: str, tmp_path: Path) -> None:
    """The right pixels in color, and their gray levels with one channel."""
    content, expected = KINDS[kind]
    path = tmp_path / "x"
    path.write_bytes(content)
    pixels = read_image(path, expected.shape)
    assert (pixels.dtype, tuple(pixels.shape)) == (torch.uint8, expected.shape)
    assert np.abs(pixels.numpy().astype(int) - expected).max() <= 2
    gray = np.array([0.299, 0.587, 0.114]) @ expected.reshape(3, -1)
    assert np.abs(read_image(path, (1, *expected.shape[1:])).numpy().reshape(-1) - gray).max() <= 2


@pytest.mark.parametrize("orientation", range(1, 9))
def test_jpegs_are_rotated_as_their_exif_says(orientation: int, tmp_path: Path) -> None:
    """Pixels and the header's size are rotated as PIL rotates them."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.new("RGB", (40, 24), RED)
    image.paste((0, 0, 255), (0, 0, 16, 8))
    (tmp_path / "a").mkdir()
    image.save(tmp_path / "a" / "x.jpg", exif=exif, quality=95)
    turned = Image.open(tmp_path / "a" / "x.jpg")
    from PIL import ImageOps

    expected = as_bytes(ImageOps.exif_transpose(turned))
    assert (
        np.abs(
            read_image(tmp_path / "a" / "x.jpg", expected.shape).numpy().astype(int) - expected
        ).max()
        <= 2
    )
    assert Folder(FolderListing([tmp_path]), None, 3, "skip", 0.5, 0, 1).size == expected.shape[1:]


def test_torchvision_decodes_small_jpegs_as_pillow_does(tmp_path: Path) -> None:
    """They agree within rounding, at the images' own size and at another, in color and gray."""
    decoder = torchvision_decoder()
    assert decoder is not None, "this torchvision has a decoder"
    path = tmp_path / "x"
    for mode, channels, size in itertools.product(("RGB", "L"), (1, 3), ((24, 32), (16, 16))):
        content = encoded(picture(size=(32, 24)).convert(mode), "JPEG")
        path.write_bytes(content)
        fast = read_image(path, (channels, *size), jpeg_decoder=decoder)
        assert (decoder(content, channels) is None) == ((mode, channels) == ("RGB", 1))
        assert (fast.int() - read_image(path, (channels, *size)).int()).abs().max() <= 2


def test_torchvision_decodes_the_small_jpegs_of_a_large_folder_only(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    lay(Path("pets"), count=4)
    for path in list(Path("pets").rglob("*.png")):
        Image.open(path).save(path.with_suffix(".jpg"))
        path.unlink()
    few = data("pets").stored["train"][0]
    assert "JPEG files" not in caplog.text
    monkeypatch.setattr("dltrain.data.images.folder.MIN_FILES", 8)
    with caplog.at_level("INFO"):
        many = data("pets").stored["train"][0]
    assert "torchvision decodes the small ones of 8 JPEG files" in caplog.text
    assert (many.int() - few.int()).abs().max() <= 2


def test_small_jpegs_are_decoded_in_full(tmp_path: Path) -> None:
    """A large one of far more detail than is needed is decoded at a fraction of its size
    instead.
    """
    path = tmp_path / "x"
    for mode, channels in itertools.product(("RGB", "L"), (1, 3)):
        if (mode, channels) == ("RGB", 1):
            continue  # gray of a color file comes from its brightness alone
        content = encoded(picture(size=(64, 64)).convert(mode), "JPEG")
        path.write_bytes(content)
        with Image.open(io.BytesIO(content)) as file:
            whole = ImageOps.fit(file.convert(MODES[channels]), (8, 8), Image.Resampling.BILINEAR)
        pixels = read_image(path, (channels, 8, 8)).permute(1, 2, 0).squeeze(2)
        assert pixels.tolist() == np.asarray(whole).tolist()


def test_images_of_another_size_cover_and_are_cropped(tmp_path: Path) -> None:
    """The shorter side is fitted, the longer one cut at both ends; a large JPEG keeps what it shows
    at a small size.
    """
    wide = Image.new("RGB", (30, 10), "black")
    wide.paste((255, 255, 255), (10, 0, 20, 10))
    path = tmp_path / "x"
    path.write_bytes(encoded(wide, "PNG"))
    assert int(read_image(path, (3, 10, 10)).min()) == 255
    assert read_image(path, (3, 10, 30)).float().mean() == 85
    photo = picture((120, 60, 30), (1600, 1200))
    path.write_bytes(encoded(photo, "JPEG", quality=95))
    assert path.stat().st_size > MAX_BYTES
    means = read_image(path, (3, 24, 32)).float().mean(dim=(1, 2))
    assert torch.allclose(means, torch.tensor([120.0, 60, 30]), atol=2)


def test_the_default_size_is_that_of_the_images(dltrain: Callable[..., Any]) -> None:
    """Images of several sizes need image_size (exit 2): one number, or height and width."""
    lay(Path("pets"))
    picture(size=(6, 6)).save("pets/dog/odd.png")
    with pytest.raises(ConfigError, match=r"dataset\.image_size=64"):
        _ = data("pets").spec
    outcome = dltrain("check", "dataset=image_folder", "dataset.path=pets", "model=mlp")
    assert outcome.code == 2
    assert all(part in outcome.err for part in ("8x12", "6x6", "dog/odd.png"))
    for size, channels, shape in ((5, 3, (3, 5, 5)), ((4, 7), 1, (1, 4, 7))):
        made = data("pets", image_size=size, channels=channels)
        assert made.spec.input_shape == shape
        assert next(made.train.epoch(0))[0].shape[1:] == shape


# Odd files ----------------------------------------------------------------------------------------

ODD = {
    "zero bytes": b"",
    "text": b"not an image at all\n",
    "html": b"<html>404</html>" * 100,
    "truncated jpeg": encoded(picture(size=(64, 64)), "JPEG")[:700],
    "truncated png": encoded(picture(size=(64, 64)), "PNG")[:-300],
    "truncated large jpeg": encoded(picture(size=(900, 900)), "JPEG", quality=95)[
        : MAX_BYTES + 5000
    ],
    "header only": encoded(picture(), "JPEG")[:20],
    "damaged png": encoded(picture(), "PNG")[:60] + b"\0" * 40 + encoded(picture(), "PNG")[100:],
}


@pytest.mark.parametrize("memory", [True, False])
@pytest.mark.parametrize("kind", ODD)
def test_odd_files_are_named(kind: str, memory: bool, caplog: pytest.LogCaptureFixture) -> None:
    """They are skipped with a warning that names them, or refused by name; the others are read."""
    lay(Path("pets/train"))
    lay(Path("pets/test"), count=2)
    plain = everything(data("pets", memory=memory, image_size=(8, 12)).train)
    Path("pets/train/cat/005x.jpg").write_bytes(ODD[kind])
    made = data("pets", memory=memory, image_size=(8, 12))
    inputs, targets = everything(made.train)
    assert torch.equal(inputs, plain[0])
    assert torch.equal(targets, plain[1])
    said = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(said) == 1
    assert "1 file left out" in said[0]
    assert "005x.jpg cannot be read as an image" in said[0]
    with pytest.raises(InputError, match=r"005x\.jpg cannot be read as an image"):
        _ = data("pets", memory=memory, image_size=(8, 12), odd_files="refuse").train


def test_many_odd_files_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    lay(Path("pets"), count=12)
    for i in range(13):
        Path(f"pets/cat/odd{i:02}.txt").write_text("notes")
    Path("pets/dog/nowhere.png").symlink_to("gone.png")
    assert data("pets", image_size=8).test.samples
    text = caplog.text
    assert "14 files left out" in text
    assert "and 4 more" in text
    assert text.count("cannot be read as an image") == 10


@pytest.mark.parametrize("memory", [True, False])
def test_a_class_or_a_set_without_an_image_is_refused(memory: bool) -> None:
    lay(Path("pets"), count=6)
    for path in Path("pets/dog").iterdir():
        path.write_bytes(b"")
    with pytest.raises(InputError, match=r"no image is left of dog"):
        _ = data("pets", image_size=8, memory=memory).train
    lay(Path("more/train"), count=4)
    lay(Path("more/test"), count=1)
    for path in Path("more/test").rglob("*.png"):
        path.write_bytes(b"")
    with pytest.raises(InputError, match=r"no image is left of test"):
        _ = data("more", memory=memory).train


def test_odd_files_through_the_command_line(dltrain: Callable[..., Any]) -> None:
    """The run logs what it left out, and trains.

    With refuse it ends in exit 3 without a run folder.
    """
    lay(Path("pets"))
    Path("pets/cat/notes.jpg").write_text("remember the milk")
    refused = dltrain(
        "dataset=image_folder", "dataset.path=pets", "model=mlp", "dataset.odd_files=refuse"
    )
    assert (refused.code, Path("outputs").exists()) == (3, False)
    assert "notes.jpg" in refused.err
    trained = dltrain(
        "dataset=image_folder",
        "dataset.path=pets",
        "model=mlp",
        "trainer.epochs=1",
        "callbacks=quiet",
    )
    assert trained.code == 0
    assert "1 file left out" in trained.out + trained.err
    assert "notes.jpg" in trained.out + trained.err


def test_predict_takes_every_kind_of_image_that_training_reads() -> None:
    """Files of a folder are chosen by the usual endings of the formats, in any case."""
    endings = {ending for ending, kind in Image.registered_extensions().items() if kind in FORMATS}
    assert set(IMAGE_ENDINGS) == endings
    Path("d/a").mkdir(parents=True)
    for i, ending in enumerate([*sorted(endings), ".txt"]):
        Path(f"d/a/{i}{ending.upper()}").touch()
    problems: list[str] = []
    assert len(find_inputs(["d"], problems.append)) == len(endings)
    assert not problems
