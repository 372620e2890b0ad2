"""Data files that hang, vanish, shrink, or expand: a clean end, with the last state saved."""

from __future__ import annotations

import io
import json
import os
import resource
import socket
import struct
import threading
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fork_server import Server
from PIL import Image

from dltrain.data.images import decode, streamed
from dltrain.data.images.image_folder import ImageFolder
from dltrain.data.io.workers import Workers
from dltrain.errors import InputError

TRAIN = (
    "dataset=image_folder",
    "dataset.path=pets",
    "dataset.batch_size=4",
    "dataset.image_size=8",
    "model=mlp",
)
TRAIN += ("callbacks=quiet", "trainer.epochs=3", "--json")


def lay(folder: Path, count: int = 10) -> Path:
    """Two classes of `count` small images each; the first of them."""
    draw = np.random.default_rng(0)
    for k, name in enumerate(("cat", "dog")):
        (folder / name).mkdir(parents=True)
        for i in range(count):
            pixels = (draw.normal(60 + 130 * k, 20, (8, 8, 3))).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i:03}.png")
    return folder / "cat" / "000.png"


def data(**more: Any) -> ImageFolder:
    return ImageFolder(Path("data"), "pets", image_size=(8, 8), batch_size=4, timeout=2.0, **more)


# No regular files


def pipe(path: Path) -> None:
    os.mkfifo(path)


def listener(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        here = Path.cwd()
        os.chdir(path.parent)  # the name of a socket is short
        made.bind(path.name)
        os.chdir(here)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def pipe_behind_a_link(path: Path) -> None:
    os.mkfifo("pipe")
    path.symlink_to(Path("pipe").absolute())


def link_to_nowhere(path: Path) -> None:
    path.symlink_to("gone.png")


def link_to_itself(path: Path) -> None:
    path.symlink_to(path.name)


def large(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(2**36)  # without a block on the disk


ODD: list[Callable[[Path], None]] = [
    pipe,
    listener,
    device,
    pipe_behind_a_link,
    link_to_nowhere,
    link_to_itself,
]
ODD += [Path.mkdir, large]


@pytest.mark.parametrize("memory", [True, False])
@pytest.mark.parametrize("make", ODD, ids=lambda make: make.__name__)
def test_special_files_are_left_out_or_refused(
    make: Callable[[Path], None], memory: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """It is named and left out, or refused, without being read or waited for."""
    lay(Path("pets"))
    make(Path("pets/cat/x.png"))
    start = time.perf_counter()
    made = data(memory=memory)
    assert sum(len(y) for _, y in made.train.epoch(0)) == 14
    assert "1 file left out" in caplog.text
    assert "x.png cannot be read as an image" in caplog.text
    assert make is not large or "68,719,476,736 bytes; an image can have" in caplog.text
    with pytest.raises(InputError, match=r"1 file in pets cannot be used.*\n.*x\.png"):
        _ = data(memory=memory, odd_files="refuse").train
    assert ImageFolder(Path("data"), "pets", timeout=2.0).spec.input_shape == (3, 8, 8)
    assert time.perf_counter() - start < 2


# Bombs


def png_bomb(side: int = 50_000) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content))
            + kind
            + content
            + struct.pack(">I", zlib.crc32(kind + content))
        )

    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    lines = zlib.compress(bytes(10**6), 9)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", lines) + chunk(b"IEND", b"")
    )


def encoded(kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise((32, 32), 50).convert("RGB").save(buffer, kind)
    return buffer.getvalue()


def jpeg_bomb() -> bytes:
    """A small JPEG file whose frame header says 65,000 x 65,000."""
    content = bytearray(encoded("JPEG"))
    at = content.index(b"\xff\xc0")
    content[at + 5 : at + 9] = struct.pack(">HH", 65_000, 65_000)
    return bytes(content)


def gif_bomb() -> bytes:
    content = bytearray(encoded("GIF"))
    content[6:10] = struct.pack("<HH", 65_535, 65_535)
    return bytes(content)


def bmp_bomb() -> bytes:
    content = bytearray(encoded("BMP"))
    content[18:26] = struct.pack("<ii", 200_000, 200_000)
    return bytes(content)


def tiff_bomb() -> bytes:
    buffer = io.BytesIO()
    Image.new("1", (8, 8)).save(buffer, "TIFF")
    content = buffer.getvalue()
    for tag in (256, 257):  # width and height, a long each
        at = content.index(struct.pack("<H", tag), 8 if content[:2] == b"II" else 0)
        content = content[: at + 2] + struct.pack("<HII", 4, 1, 100_000) + content[at + 12 :]
    return content


BOMBS = {"png": png_bomb, "jpg": jpeg_bomb, "gif": gif_bomb, "bmp": bmp_bomb, "tif": tiff_bomb}


@pytest.mark.parametrize("memory", [True, False])
@pytest.mark.parametrize("kind", BOMBS)
def test_decompression_bombs_are_refused_before_they_are_decoded(
    kind: str, memory: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """A few kilobytes that say they are gigapixels: odd files that cost neither memory nor time."""
    lay(Path("pets"))
    Path(f"pets/cat/x.{kind}").write_bytes(BOMBS[kind]())
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    assert sum(len(y) for _, y in data(memory=memory).train.epoch(0)) == 14
    assert f"x.{kind} cannot be read as an image" in caplog.text
    assert time.perf_counter() - start < 2
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # KiB


def test_formats_that_start_programs_or_follow_paths_are_refused(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """PIL hands PostScript to another program, whatever the file is called."""
    lay(Path("pets"))
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "EPS")
    Path("pets/cat/x.png").write_bytes(buffer.getvalue())
    _ = data().train
    assert "x.png cannot be read as an image: it is of no format" in caplog.text


# While training


class Reading:
    """Wraps `read_image`: the `at`-th read in training is preceded by `act()`.

    `cat/000.png` is read by `instead` if that is set.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.plain, self.lock, self.count, self.at = decode.read_image, threading.Lock(), 0, 0
        self.act: Callable[[], Any] = lambda: None
        self.instead: Callable[[str], Any] | None = None
        self.training = False
        begin = streamed.Streamed.epoch

        def epoch(split: Any, *args: Any) -> Any:
            self.training = True
            return begin(split, *args)

        monkeypatch.setattr(streamed.Streamed, "epoch", epoch)
        monkeypatch.setattr(decode, "read_image", self.read)

    def read(self, path: str, *more: Any) -> Any:
        with self.lock:
            self.count += self.training
            if self.count == self.at:
                self.act()
        return (
            self.instead(path)
            if self.instead and path.endswith("cat/000.png")
            else self.plain(path, *more)
        )


@pytest.fixture
def reading(monkeypatch: pytest.MonkeyPatch) -> Reading:
    return Reading(monkeypatch)


def replaced(make: Callable[[Path], None]) -> Callable[[Path], None]:
    def act(path: Path) -> None:
        path.unlink()
        make(path)

    return act


def hangs(path: str) -> Any:
    """Block in the kernel, as a network mount that does not answer."""
    return os.read(os.pipe()[0], 1)


def fails(path: str) -> Any:
    """Fail as a disk with bad blocks."""
    raise InputError(f"{path} cannot be read as an image: [Errno 5] Input/output error")


MISHAPS: dict[str, Callable[[Path], None]] = {
    "vanishes": Path.unlink,
    "shrinks": lambda path: os.truncate(path, 60),
    "is emptied": lambda path: os.truncate(path, 0),
    "is overwritten": lambda path: path.write_bytes(b"<html>not found</html>") and None,
    "becomes a pipe": replaced(os.mkfifo),
    "becomes a folder": replaced(Path.mkdir),
    "becomes a bomb": lambda path: path.write_bytes(png_bomb()) and None,
}
INSTEAD: dict[str, Callable[[str], Any]] = {"hangs": hangs, "fails": fails}


@pytest.mark.parametrize("kind", [*MISHAPS, *INSTEAD])
def test_a_file_that_cannot_be_read_any_more_ends_the_run_cleanly(
    kind: str, reading: Reading, dltrain: Callable[..., Any]
) -> None:
    """Exit 3 with the file's name and row; the last state is saved, and a resume continues."""
    path = lay(Path("pets"))
    good = path.read_bytes()

    def act() -> None:
        reading.instead = INSTEAD.get(kind)
        if kind in MISHAPS:
            MISHAPS[kind](path)

    reading.at, reading.act = 33, act  # at the third epoch's first read
    start = time.perf_counter()
    outcome = dltrain(
        *TRAIN, "dataset.memory=false", "dataset.timeout=0.5", "dataset.val_fraction=0", "seed=3"
    )
    took = time.perf_counter() - start
    assert outcome.code == 3, outcome.err
    assert "cat/000.png" in outcome.err
    assert (
        "could not be read in 0.5 s" in outcome.err
        if kind == "hangs"
        else "(row 0 of the set)" in outcome.err
    )
    assert len(outcome.err.partition("dltrain: ")[2].splitlines()) <= 2
    assert took < 20
    run = Path(outcome.json["run"])
    results = json.loads((run / "results.json").read_text(encoding="utf-8"))
    assert results["status"] == "failed"
    assert results["steps"] >= 3
    newest = sorted((run / "checkpoints").glob("[0-9]*"))[-1].name
    assert int(newest.partition(".")[0]) == results["steps"]
    if not path.is_dir():
        path.unlink(missing_ok=True)
    else:
        path.rmdir()
    path.write_bytes(good)
    reading.instead, reading.at = None, 0
    resumed = dltrain("resume", str(run), "--json")
    assert resumed.code == 0, resumed.err
    assert resumed.json["steps"] == 12


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_thread_that_hangs_does_not_keep_the_process(server: Server, tmp_path: Path) -> None:
    """A read is given up after the set time; then the process ends."""
    lay(Path("pets"))
    argv = (*TRAIN, "dataset.memory=false", "dataset.timeout=1")
    code, output = server.run(tmp_path, *argv, aim="stuck_image", name="cat/000.png", after=60)
    assert code == 3, output
    assert "cat/000.png could not be read in 1 s" in output
    assert list(Path("outputs").glob("*/*/checkpoints/[0-9]*"))


def test_a_hang_while_the_images_are_loaded_leaves_no_run(
    dltrain: Callable[..., Any], reading: Reading
) -> None:
    """In memory, and in the look at all files before they are streamed."""
    lay(Path("pets"))
    reading.instead = hangs
    for memory in ("true", "false"):
        outcome = dltrain(*TRAIN, f"dataset.memory={memory}", "dataset.timeout=0.3")
        assert outcome.code == 3
        assert "cat/000.png could not be read in 0.3 s" in outcome.err
        assert not Path("outputs").exists()


# Threads


def test_the_time_limit_is_one_for_each_file() -> None:
    """A slow job that goes from file to file is not given up; what it raises is raised."""
    workers = Workers(1, timeout=0.2)

    def slow(job: Any) -> str:
        for i in range(5):
            job.at(str(i))
            time.sleep(0.1)
        return "done"

    def wrong(job: Any) -> None:
        raise KeyError("x")

    first, second = workers.submit(slow), workers.submit(wrong)
    assert first.result() == "done"
    with pytest.raises(KeyError):
        second.result()
    workers.close()


def test_closing_gives_up_what_is_queued() -> None:
    workers, begun = Workers(2, timeout=10), []

    def work(job: Any) -> None:
        for i in range(100):
            job.at(str(i))
            begun.append(i)
            time.sleep(0.01)

    for _ in range(100):
        workers.submit(work)
    time.sleep(0.05)
    start = time.perf_counter()
    workers.close()
    assert time.perf_counter() - start < 0.5
    assert not any(thread.is_alive() for thread in workers.threads)
    assert len(begun) < 100


@pytest.mark.parametrize(
    "content", [b"", b"\x93NUMPY", b"garbage" * 30, None], ids=["empty", "cut", "garbage", "other"]
)
def test_what_was_kept_of_a_folder_may_be_damaged(content: bytes | None) -> None:
    """It is found out again."""
    lay(Path("pets"))
    before = torch.cat([x for x, _ in data(memory=False).train.epoch(0)])
    (kept,) = Path("data/.dltrain").iterdir()
    if content is None:
        np.save(kept, np.zeros((3, 2, 3)))
    else:
        kept.write_bytes(content)
    assert torch.equal(torch.cat([x for x, _ in data(memory=False).train.epoch(0)]), before)
