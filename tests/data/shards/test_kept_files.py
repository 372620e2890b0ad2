"""Indexes and statistics that are kept: complete ones alone, used without a lock, swept."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from PIL import Image
from shard_files import foreign_members, pack_folder, packed, shards, write_tar

from dltrain.data.images.pixel_rule import PixelRule
from dltrain.data.io.workers import Workers
from dltrain.data.shards import moments, scan
from dltrain.data.shards.index import INDEX, MOMENTS, SAMPLES
from dltrain.data.shards.opened import OpenShards
from dltrain.data.shards.storage import LocalFolder
from dltrain.errors import InputError

URL = "memory://bucket/set"
CACHE = Path("data/.dltrain")


@pytest.fixture
def bucket() -> Iterator[Any]:
    """A file system in memory with a packed set at URL."""
    system = fsspec.filesystem("memory")
    packed()
    system.put("packed", URL, recursive=True)
    yield system
    system.rm("/", recursive=True)


@pytest.mark.parametrize("name", [SAMPLES, MOMENTS])
@pytest.mark.parametrize("size", [0, 1000, None])
def test_an_index_is_kept_when_all_of_it_is_there(name: str, size: int | None, bucket: Any) -> None:
    """During an upload a file is missing or short; once it is there, the index is read again."""
    content = Path("packed", name).read_bytes()
    bucket.rm(f"/bucket/set/{name}")
    if size is not None:
        bucket.pipe(f"/bucket/set/{name}", content[:size])
    with pytest.raises(InputError, match=rf"{name} (is missing|is damaged)|is not a valid index"):
        _ = shards(URL).index
    assert not list(CACHE.glob("shards-*"))
    bucket.pipe(f"/bucket/set/{name}", content)
    assert len(shards(URL).index.samples) == len(shards().index.samples)


def refuse(*words: Any) -> Any:
    raise AssertionError("nothing is made, so nothing is locked")


@pytest.mark.parametrize("path", ["others", URL])
def test_what_is_complete_needs_no_lock(
    path: str, bucket: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that cannot be written, with a complete index and statistics, is enough."""
    write_tar(Path("others/0.tar"), foreign_members(10))
    _ = shards(path).train
    monkeypatch.setattr(scan, "only_one", refuse)
    monkeypatch.setattr(moments, "only_one", refuse)
    _ = shards(path).train


KILLED = """
import os, signal, sys
from pathlib import Path
from dltrain.data.shards import {module}
{module}.{name} = lambda *words, **more: os.kill(os.getpid(), signal.SIGKILL)
from dltrain.data.shards.shards import Shards
Shards(Path("data"), "others").train
"""


@pytest.mark.parametrize(
    ("module", "name"), [("scan", "opened_shard"), ("moments", "moments_of_images")]
)
def test_what_a_killed_process_left_is_removed(module: str, name: str) -> None:
    write_tar(Path("others/0.tar"), foreign_members(10))
    code = KILLED.format(module=module, name=name)
    subprocess.run([sys.executable, "-c", code], check=False, capture_output=True)
    assert len(list(CACHE.glob(".tmp-*"))) == 1
    (CACHE / f".tmp-live-{socket.gethostname()}-{os.getppid()}").touch()
    (CACHE / f".tmp-own-{socket.gethostname()}-{os.getpid()}").touch()
    _ = shards("others").train
    left = sorted(path.name.split("-")[1] for path in CACHE.glob(".tmp-*"))
    assert left == ["live", "own"]


def transparent(folder: str) -> None:
    for name in "ab":
        Path(folder, name).mkdir(parents=True)
        for i in range(12):
            values = np.random.default_rng(i + ord(name)).integers(0, 255, (8, 8, 4))
            Image.fromarray(values.astype(np.uint8), "RGBA").save(f"{folder}/{name}/{i}.png")


def count_surveys(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    surveys: list[int] = []
    measured = moments.measured
    monkeypatch.setattr(moments, "measured", lambda *a: surveys.append(1) or measured(*a))
    return surveys


def test_a_packed_set_is_not_decoded_for_a_rule_that_it_was_packed_with(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    transparent("clear")
    pack_folder("clear")
    surveys = count_surveys(monkeypatch)
    data = shards()
    _ = data.train
    assert data.index.pixels["background"] == "black"
    assert data.description()["pixels"]["background"] == "black"
    _ = shards(background="black").train
    assert not surveys
    white = shards(background="white")
    _ = white.train
    assert len(surveys) == 1
    assert white.description()["mean"] != data.description()["mean"]
    assert white.description()["pixels"]["background"] == "white"


def test_images_of_others_are_decoded_once_for_all_uses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also for those of the trained run, whose rule is settled."""
    transparent("clear")
    pack_folder("clear", to="others")
    for path in Path("others").glob("shards.*"):
        path.unlink()
    surveys = count_surveys(monkeypatch)
    first = shards("others")
    description = first.description()
    later = shards("others")
    later.restore(description)
    _ = later.test
    assert later.rule == first.rule == PixelRule({}, "black")
    assert description["mean"] == shards("others").description()["mean"]
    assert len(surveys) == 1


class SlowOpener:
    """Notes which shards it opens, the first of them when `begin` is set."""

    def __init__(self) -> None:
        self.begin = threading.Event()
        self.numbers: list[int] = []

    def open(self, number: int, job: Any) -> int:
        self.numbers.append(number)
        self.begin.wait(10)
        return number


def test_shards_that_are_needed_are_opened_before_the_next_window() -> None:
    opener: Any = SlowOpener()
    opened = OpenShards(opener, 6, 10.0)
    workers = Workers(1, 10.0)
    needed = opened.begin([0], workers, [5, 6, 7])
    needed |= opened.begin([1], workers, [5, 6, 7])
    needed |= opened.begin([6], workers)
    assert list(opened.jobs) == [0, 5, 7, 1, 6]
    opener.begin.set()
    assert [needed[number].result() for number in (0, 1, 6)] == [0, 1, 6]
    for number in (5, 7):
        assert opened.jobs[number].result() == number
    workers.close()
    assert opener.numbers == [0, 1, 6, 5, 7], "and none twice"


def test_shards_of_the_next_window_are_forgotten_before_those_in_use() -> None:
    opener: Any = SlowOpener()
    opener.begin.set()
    opened = OpenShards(opener, 3, 10.0)
    workers = Workers(1, 10.0)
    opened.begin([0, 1], workers, [5])
    opened.begin([2], workers)
    assert list(opened.jobs) == [0, 1, 2]
    workers.close()


@pytest.mark.parametrize("step", ["index", "sizes", "files"])
def test_a_disk_that_does_not_answer_ends_every_step(
    step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tar(Path("others/0.tar"), foreign_members(10))
    known = shards("others", timeout=0.2)
    if step != "index":
        _ = known.index
    hang = threading.Event()
    opened = LocalFolder.open

    def dead(self: LocalFolder, name: str) -> Any:
        hang.wait(20)
        return opened(self, name)

    monkeypatch.setattr(LocalFolder, "open", dead)
    steps = {
        "index": lambda: known.index,
        "sizes": lambda: known.stored_shape,
        "files": known.find_files,
    }
    with pytest.raises(InputError, match=r"others/0\.tar could not be read in 0\.2 s: its disk"):
        steps[step]()
    hang.set()


def test_check_says_that_an_index_was_written(dltrain: Any) -> None:
    write_tar(Path("others/0.tar"), foreign_members(40))
    words = ("check", "model=mlp", "dataset=shards", "dataset.path=others", "paths.data=data")
    first, second = dltrain(*words), dltrain(*words)
    folder = next(CACHE.glob("shards-*"))
    assert (folder / INDEX).exists()
    line = f"no problems; nothing but an index of the data, {folder}, was written"
    assert line in first.out + first.err
    assert "no problems; nothing was written, the data was not read" in second.out + second.err
