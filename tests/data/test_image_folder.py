"""Folders of images: layouts, odd files, images in memory and streamed, other folders of the same classes."""

from __future__ import annotations

import io
import itertools
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from dltrain.data.decode import SMALL, read_image
from dltrain.data.folder import Folder
from dltrain.data.image_folder import ImageFolder
from dltrain.errors import ConfigError, InputError
from dltrain.preprocessing.color_jitter import ColorJitter
from dltrain.preprocessing.cutout import Cutout
from dltrain.preprocessing.flip import Flip
from dltrain.preprocessing.rand_augment import RandAugment
from dltrain.preprocessing.random_resized_crop import RandomResizedCrop
from dltrain.preprocessing.trivial_augment import TrivialAugment
from dltrain.regularization.mixup import Mixup

AUGMENTED = (RandomResizedCrop(), ColorJitter(), RandAugment(), TrivialAugment(), Cutout(4), Mixup())
COLOURS = {"cat": (200, 40, 10), "dog": (10, 60, 220), "owl": (30, 200, 60)}


def picture(colour: tuple[int, int, int] = (9, 99, 199), size: tuple[int, int] = (12, 8), seed: int = 0) -> Image.Image:
    """An image (width, height) of a colour under noise."""
    noise = np.random.default_rng(seed).normal(0, 8, (size[1], size[0], 3))
    return Image.fromarray((np.array(colour) + noise).clip(0, 255).astype(np.uint8))


def lay(folder: Path, classes: tuple[str, ...] = ("cat", "dog"), count: int = 10, **more: Any) -> Path:
    """Write `count` images of each class into `folder`/<class>/."""
    for k, name in enumerate(classes):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            colour = COLOURS.get(name, (k, 255 - k, 100))
            picture(colour, seed=100 * k + i, **more).save(folder / name / f"{i:03}.png")
    return folder


def data(path: Path | str, **more: Any) -> ImageFolder:
    return ImageFolder(Path("data"), str(path), **more)


def everything(split: Any, epoch: int = 0) -> tuple[Tensor, Tensor]:
    inputs, targets = zip(*split.epoch(epoch), strict=True)
    return torch.cat(inputs), torch.cat(targets)


# Layouts ----------------------------------------------------------------------------------------------------------


def test_a_folder_a_class() -> None:
    """Sorted names are classes; a stratified share is for testing, of the rest one for validation; each file once."""
    lay(Path("pets"), ("owl", "cat", "dog"), count=20)
    made = data("pets", test_fraction=0.2, val_fraction=0.25)
    assert made.spec.class_names == ("cat", "dog", "owl")
    assert (made.spec.input_shape, made.spec.train_samples, made.spec.test_samples) == ((3, 8, 12), 48, 12)
    assert (made.train.samples, made.val.samples, made.test.samples) == (36, 12, 12)
    for split, count in ((made.train, 12), (made.val, 4), (made.test, 4)):
        assert torch.bincount(everything(split)[1]).tolist() == [count] * 3
    images = torch.cat([everything(split)[0] for split in (made.train, made.val, made.test)])
    assert len({tuple(x.flatten().tolist()) for x in images}) == 60


@pytest.mark.parametrize("val", ["val", "valid", "validation", "VAL"])
def test_folders_of_splits(val: str) -> None:
    """Their own files, numbered by the classes of train/, also where one is absent from another split."""
    for split, classes, count in (("train", ("cat", "dog", "owl"), 6), (val, ("dog", "owl"), 3), ("test", ("owl",), 2)):
        lay(Path("pets") / split, classes, count)
    made = data("pets")
    assert [everything(split)[1].bincount(minlength=3).tolist() for split in (made.train, made.val, made.test)] == [
        [6, 6, 6],
        [0, 3, 3],
        [0, 0, 2],
    ]


def test_validation_and_test_sets_that_are_absent_come_from_train() -> None:
    lay(Path("a/train"))
    lay(Path("a/test"), count=3)
    assert [s.samples for s in (data("a").train, data("a").val, data("a").test)] == [18, 2, 6]
    lay(Path("b/train"))
    lay(Path("b/val"), count=3)
    assert [s.samples for s in (data("b").train, data("b").val, data("b").test)] == [16, 6, 4]


def test_classes_may_be_called_like_splits() -> None:
    """`train` with images in it is a class; beside a real train/, what is no split is named and not read."""
    lay(Path("vehicles"), ("train", "bus"))
    assert data("vehicles").spec.class_names == ("bus", "train")
    lay(Path("tests/runs"), ("test", "exam"))
    assert data("tests/runs").spec.class_names == ("exam", "test")


def test_the_split_is_a_function_of_split_seed() -> None:
    lay(Path("pets"), count=30)
    first, again, other = (data("pets", split_seed=s, seed=k) for s, k in ((0, 1), (0, 2), (1, 1)))
    chosen = [made.folder.files["test"].paths for made in (first, again, other) if made.folder]
    assert chosen[0] == chosen[1] != chosen[2]


def test_the_path_is_from_here_or_from_the_data_root() -> None:
    lay(Path("data/pets"))
    assert data("pets").train.samples == 14
    lay(Path("pets"), ("eel", "cod"))
    assert data("pets").spec.class_names == ("cod", "eel")
    assert data(Path("data/pets").resolve()).spec.class_names == ("cat", "dog")


def test_nested_folders_and_hidden_files() -> None:
    """Any depth below the class; names that begin with a dot, and what macOS packs, do not count."""
    lay(Path("pets"), count=4)
    (Path("pets/cat/more/still")).mkdir(parents=True)
    picture().save("pets/cat/more/still/x.png")
    for hidden in (".DS_Store", "cat/.x.png", "cat/.cache/x.png", "cat/__MACOSX/x.png", ".git/x.png", "__MACOSX/x.png"):
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
        (["train/cat/x.png", "train/dog/x.png", "test/eel/x.png"], r"test has the classes eel, and pets/train has not"),
        (["train/cat/x.png", "val/cat/x.png", "valid/cat/x.png"], "both look like the val set"),
    ],
    ids=str,
)
def test_folders_that_cannot_be_trained_on(files: list[str], says: str, dltrain: Callable[..., Any]) -> None:
    """Exit 3, saying what is missing where; no run folder."""
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


def test_a_folder_must_be_named_and_be_there(dltrain: Callable[..., Any]) -> None:
    """Exit 2 where none is named, but for a smoke run, which needs none; exit 3 where there is none, with both places."""
    assert dltrain("dataset=image_folder", "model=mlp").code == 2
    outcome = dltrain("dataset=image_folder", "model=mlp", "dataset.path=pets", "paths.data=somewhere")
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


# Pixels -----------------------------------------------------------------------------------------------------------


def encoded(image: Image.Image, kind: str, **more: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **more)
    return buffer.getvalue()


RED = (255, 0, 0)
GREY16 = Image.fromarray((np.arange(96).reshape(8, 12) * 680).astype(np.uint16))
HALF = Image.new("RGBA", (12, 8), (200, 100, 50, 128))
PALETTE = picture().quantize(16)
ROTATED = Image.Exif()
ROTATED[0x0112] = 6  # to be turned clockwise by 90 degrees


def as_bytes(image: Image.Image) -> np.ndarray:
    return np.array(image.convert("RGB")).transpose(2, 0, 1)


KINDS: dict[str, tuple[bytes, np.ndarray]] = {
    "plain png": (encoded(picture(), "PNG"), as_bytes(picture())),
    "grey png": (encoded(picture().convert("L"), "PNG"), as_bytes(picture().convert("L"))),
    "bmp": (encoded(picture(), "BMP"), as_bytes(picture())),
    "16-bit png": (encoded(GREY16, "PNG"), np.repeat(np.asarray(GREY16)[None] >> 8, 3, axis=0)),
    "alpha over black": (encoded(HALF, "PNG"), np.array([100, 50, 25])[:, None, None].repeat(8, 1).repeat(12, 2)),
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
    """The right pixels in colour, and their grey levels with one channel."""
    content, expected = KINDS[kind]
    path = tmp_path / "x"
    path.write_bytes(content)
    pixels = read_image(path, expected.shape)
    assert (pixels.dtype, tuple(pixels.shape)) == (torch.uint8, expected.shape)
    assert np.abs(pixels.numpy().astype(int) - expected).max() <= 2
    grey = np.array([0.299, 0.587, 0.114]) @ expected.reshape(3, -1)
    assert np.abs(read_image(path, (1, *expected.shape[1:])).numpy().reshape(-1) - grey).max() <= 2


@pytest.mark.parametrize("orientation", range(1, 9))
def test_jpegs_are_turned_as_their_exif_says(orientation: int, tmp_path: Path) -> None:
    """As PIL turns them, in pixels and in the size by the header."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.new("RGB", (40, 24), RED)
    image.paste((0, 0, 255), (0, 0, 16, 8))
    (tmp_path / "a").mkdir()
    image.save(tmp_path / "a" / "x.jpg", exif=exif, quality=95)
    turned = Image.open(tmp_path / "a" / "x.jpg")
    from PIL import ImageOps

    expected = as_bytes(ImageOps.exif_transpose(turned))
    assert np.abs(read_image(tmp_path / "a" / "x.jpg", expected.shape).numpy().astype(int) - expected).max() <= 2
    assert Folder([tmp_path], None, 3, "skip", 0.5, 0, 1).size == expected.shape[1:]


def test_small_jpegs_are_decoded_as_pil_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fast way and PIL's agree within rounding, at the images' own size and at another, in colour and grey."""
    from dltrain.data import decode

    path = tmp_path / "x"
    for mode, channels, size in itertools.product(("RGB", "L"), (1, 3), ((24, 32), (16, 16))):
        path.write_bytes(encoded(picture(size=(32, 24)).convert(mode), "JPEG"))
        fast = read_image(path, (channels, *size))
        with monkeypatch.context() as patched:
            patched.setattr(decode, "_small_jpeg", lambda content, channels: None)
            slow = read_image(path, (channels, *size))
        assert (fast.int() - slow.int()).abs().max() <= 2
    assert decode._small_jpeg(encoded(picture(), "JPEG"), 3) is not None, (
        "this torchvision has a decoder, and it is used"
    )


def test_images_of_another_size_cover_and_are_cropped(tmp_path: Path) -> None:
    """The shorter side is fitted, the longer one cut at both ends; a large JPEG keeps what it shows at a small size."""
    wide = Image.new("RGB", (30, 10), "black")
    wide.paste((255, 255, 255), (10, 0, 20, 10))
    path = tmp_path / "x"
    path.write_bytes(encoded(wide, "PNG"))
    assert int(read_image(path, (3, 10, 10)).min()) == 255
    assert read_image(path, (3, 10, 30)).float().mean() == 85
    photo = picture((120, 60, 30), (1600, 1200))
    path.write_bytes(encoded(photo, "JPEG", quality=95))
    assert path.stat().st_size > SMALL
    means = read_image(path, (3, 24, 32)).float().mean(dim=(1, 2))
    assert torch.allclose(means, torch.tensor([120.0, 60, 30]), atol=2)


def test_the_size_is_that_of_the_images_if_they_agree(dltrain: Callable[..., Any]) -> None:
    """Otherwise it has to be said (exit 2); a number is square, a pair height and width; one channel is grey."""
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


# Odd files --------------------------------------------------------------------------------------------------------

ODD = {
    "zero bytes": b"",
    "text": b"not an image at all\n",
    "html": b"<html>404</html>" * 100,
    "truncated jpeg": encoded(picture(size=(64, 64)), "JPEG")[:700],
    "truncated png": encoded(picture(size=(64, 64)), "PNG")[:-300],
    "truncated large jpeg": encoded(picture(size=(900, 900)), "JPEG", quality=95)[: SMALL + 5000],
    "header only": encoded(picture(), "JPEG")[:20],
    "damaged png": encoded(picture(), "PNG")[:60] + b"\0" * 40 + encoded(picture(), "PNG")[100:],
}


@pytest.mark.parametrize("memory", [True, False])
@pytest.mark.parametrize("kind", ODD)
def test_odd_files_are_named(kind: str, memory: bool, caplog: pytest.LogCaptureFixture) -> None:
    """Skipped with a warning that names them, the rest as if they were not there; or refused by name."""
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
    """The run says what it left out, and trains; asked to refuse, it ends in exit 3 with the name and no run folder."""
    lay(Path("pets"))
    Path("pets/cat/notes.jpg").write_text("remember the milk")
    refused = dltrain("dataset=image_folder", "dataset.path=pets", "model=mlp", "dataset.odd_files=refuse")
    assert (refused.code, Path("outputs").exists()) == (3, False)
    assert "notes.jpg" in refused.err
    trained = dltrain("dataset=image_folder", "dataset.path=pets", "model=mlp", "trainer.epochs=1", "callbacks=quiet")
    assert trained.code == 0
    assert "1 file left out" in trained.out + trained.err
    assert "notes.jpg" in trained.out + trained.err


# In memory and streamed -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scaling", ["standardize", "unit"])
@pytest.mark.parametrize("transforms", [(), (Flip(),), AUGMENTED], ids=["plain", "flip", "augmented"])
@pytest.mark.parametrize("val", [True, False])
def test_streamed_batches_are_those_of_memory(scaling: Any, transforms: tuple[Any, ...], val: bool) -> None:
    """Bit for bit, in every split and epoch, from any start, for any number of workers; and the same description."""
    lay(Path("pets/train"), count=30)
    if val:
        lay(Path("pets/val"), count=4)
    more: dict[str, Any] = {
        "batch_size": 7,
        "scaling": scaling,
        "transforms": transforms,
        "seed": 3,
        "eval_batch_size": 5,
        "balance": "sampler" if val else "none",
    }
    held = data("pets", memory=True, **more)
    parts = [(split, *part) for split in ("train", "val", "test") for part in ((0, 0), (1, 0), (1, 2))]
    expected = {part: list(getattr(held, part[0]).epoch(*part[1:])) for part in parts}
    for workers in (0, 3):
        streamed = data("pets", memory=False, workers=workers, **more)
        for split in ("train", "val", "test"):
            ours, theirs = getattr(streamed, split), getattr(held, split)
            assert (ours.samples, len(ours), ours.batch_size) == (theirs.samples, len(theirs), theirs.batch_size)
        for split, epoch, start in parts:
            pairs = list(zip(getattr(streamed, split).epoch(epoch, start), expected[split, epoch, start], strict=True))
            assert len(pairs) == max(0, len(getattr(streamed, split)) - start)
            for (x, y), (a, b) in pairs:
                assert torch.allclose(x, a, rtol=0, atol=1e-6)
                assert torch.equal(y, b)
        assert streamed.description()["mean"] == pytest.approx(held.description()["mean"], abs=1e-9)
        assert streamed.description()["std"] == pytest.approx(held.description()["std"], abs=1e-9)


def test_statistics_are_of_the_training_samples_alone() -> None:
    """A validation or test set of another brightness does not change them."""
    lay(Path("pets/train"))
    for split in ("val", "test"):
        for name in ("cat", "dog"):
            (folder := Path("pets", split, name)).mkdir(parents=True)
            Image.new("RGB", (12, 8), "white").save(folder / "x.png")
    expected = torch.stack([read_image(p, (3, 8, 12)) for p in sorted(Path("pets/train").rglob("*.png"))]).double()
    for memory in (True, False):
        made = data("pets", memory=memory)
        inputs, _ = everything(made.train)
        assert made.spec.mean == pytest.approx(expected.mean(dim=(0, 2, 3)).tolist())
        assert made.spec.std == pytest.approx(expected.std(dim=(0, 2, 3), unbiased=False).tolist())
        assert torch.allclose(inputs.mean(dim=(0, 2, 3)), torch.zeros(3), atol=1e-4)


def test_what_was_found_out_is_kept_until_a_file_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second run reads the training images once less; another content, size or time is looked at anew."""
    from dltrain.data import streamed

    lay(Path("pets"), count=6)
    looked = []
    measured = streamed.measured
    monkeypatch.setattr(streamed, "measured", lambda *a: looked.append(1) or measured(*a))
    first = data("pets", memory=False).train
    again = data("pets", memory=False).train
    assert len(looked) == 1
    assert torch.equal(everything(first)[0], everything(again)[0])
    assert [path.suffix for path in Path("data/.dltrain").iterdir()] == [".npy"]
    _ = data("pets", memory=False, image_size=4).train
    assert len(looked) == 2
    picture(seed=77).save("pets/cat/000.png")
    _ = data("pets", memory=False).train
    assert len(looked) == 3


def test_a_data_root_that_cannot_be_written_does_no_harm() -> None:
    lay(Path("pets"))
    Path("data").write_text("in the way")
    assert len(everything(data(Path("pets").resolve(), memory=False).train)[0]) == 14


def test_memory_auto_asks_what_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of the free memory may be taken."""
    from dltrain.data import image_folder

    lay(Path("pets"))
    assert image_folder.free_memory() > 2**20
    needed = 20 * (3 * 8 * 12 + 8)
    for free, kept in ((2 * needed, True), (2 * needed - 2, False)):
        monkeypatch.setattr(image_folder, "free_memory", lambda free=free: free)
        made = data("pets")
        assert (made.splits is made.inner) == kept
        assert made.size_in_bytes() == (needed if kept else 5 * 64 * (3 * 8 * 12 + 8))


def test_an_epoch_that_is_left_early_leaves_no_thread() -> None:
    import threading

    lay(Path("pets"), count=40)
    split = data("pets", memory=False, batch_size=2).train
    before = threading.active_count()
    batches = split.epoch(0)
    next(batches)
    assert threading.active_count() > before
    batches.close()
    assert threading.active_count() == before


def test_a_file_that_vanishes_is_named() -> None:
    lay(Path("pets"))
    split = data("pets", memory=False).train
    Path("pets/cat/000.png").unlink(), Path("pets/cat/001.png").unlink(), Path("pets/cat/002.png").unlink()
    with pytest.raises(InputError, match=r"00\d.png cannot be read as an image: .*could be read before"):
        everything(split)


# Runs -------------------------------------------------------------------------------------------------------------

TRAIN = ("dataset=image_folder", "dataset.path=pets", "model=mlp", "dataset.batch_size=4", "callbacks=quiet", "--json")


@pytest.mark.parametrize("memory", ["true", "false"])
def test_training_on_a_folder(memory: str, dltrain: Callable[..., Any]) -> None:
    """The classes can be told apart by colour, and are; their names are in the manifest; memory or not, the same run."""
    lay(Path("pets"), ("cat", "dog", "owl"), count=20)
    outcome = dltrain(*TRAIN, "trainer.epochs=2", f"dataset.memory={memory}")
    assert outcome.code == 0, outcome.err
    assert outcome.json["metrics"]["test/accuracy"] == 1.0
    manifest = json.loads((Path(outcome.json["run"]) / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["data"]["class_names"] == ["cat", "dog", "owl"]
    assert manifest["effective"]["test_samples"] == 12


@pytest.mark.parametrize("memory", ["true", "false"])
def test_another_folder_is_read_as_the_run_was_trained(memory: str, dltrain: Callable[..., Any]) -> None:
    """Every image of it, at the run's size, by its statistics and its numbers of the classes, fewer or not."""
    lay(Path("pets"), ("cat", "dog", "owl"), count=20)
    run = dltrain(*TRAIN, "trainer.epochs=2").json["run"]
    assert dltrain("evaluate", run, "--json").json["metrics"]["test/accuracy"] == 1.0
    lay(Path("others"), ("dog", "owl"), count=3, size=(30, 20))
    picture(COLOURS["owl"], (7, 7)).save("others/owl/small.png")
    more = ("dataset.path=others", f"dataset.memory={memory}", "--json")
    outcome = dltrain("evaluate", run, *more)
    assert outcome.code == 0, outcome.err
    assert outcome.json["metrics"]["test/accuracy"] == 1.0
    Path("others/owl").rename("others/eel")
    outcome = dltrain("evaluate", run, *more)
    assert outcome.code == 3
    assert "knows no class eel" in outcome.err
    assert dltrain("evaluate", run, *more, "split=train").code in (2, 3)


def test_other_folders_are_for_testing_alone() -> None:
    """All their images, by the run's mean and deviation; a test folder of theirs goes first."""
    lay(Path("pets"), ("cat", "dog", "owl"))
    first = data("pets")
    _ = first.train
    lay(Path("others"), ("owl",), count=5)
    for memory in (True, False):
        other = data("others", memory=memory)
        other.restore(json.loads(json.dumps(first.description())))
        inputs, targets = everything(other.test)
        assert targets.tolist() == [2] * 5
        pixels = torch.stack([read_image(p, (3, 8, 12)) for p in sorted(Path("others").rglob("*.png"))]).float()
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
    """Classes and files of other alphabets, with spaces and signs, come out as they went in."""
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
    """`check` opens headers alone; a smoke run needs no folder, and keeps the shape of one that is named."""
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
