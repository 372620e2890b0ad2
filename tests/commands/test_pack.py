"""`dltrain pack`: what it writes and refuses, a kill in its middle, and runs on its shards."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from small_pictures import lay, picture

from dltrain.data.shards.index import KINDS

PLUGIN = "plugins=[own_interruption]"
INTERRUPTION = (PLUGIN, "callbacks.own={_target_: own_interruption.InterruptAt}")
QUICK = ("model=perceptron", "trainer.epochs=2", "callbacks=quiet")


def metrics(run: str) -> dict[str, float]:
    values: dict[str, float] = json.loads(Path(run, "results.json").read_text())["metrics"]
    return values


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_on_shards_is_the_run_on_the_set(kind: str, dltrain) -> None:
    """The same losses, bit for bit, since all shards are shuffled together."""
    packing = dltrain(
        *("pack", "digits", "--out", "packed", "--format", kind, "--shard-size", "200KB", "--json")
    )
    assert packing.code == 0, packing.err
    assert packing.json["samples"] == {"train": 1438, "test": 359}
    assert len(packing.json["shards"]) > 1
    logs = []
    for dataset in (("dataset=digits",), ("dataset=shards", "dataset.path=packed")):
        same = ("dataset.batch_size=16", "dataset.val_fraction=0", "trainer.epochs=2")
        run = dltrain(*dataset, *QUICK, *same, "--json")
        assert run.code == 0, run.err
        lines = Path(run.json["run"], "metrics.jsonl").read_text().splitlines()
        logs.append([json.loads(line) for line in lines])
    assert logs[0] == logs[1]


def test_packing_twice_gives_the_same_bytes(dltrain) -> None:
    lay(Path("pets"), count=12)
    words = ("pack", "dataset=image_folder", "dataset.path=pets", "--shard-size", "10KB", "--out")
    assert dltrain(*words, "one").code == dltrain(*words, "two").code == 0
    assert content(Path("one")) == content(Path("two"))
    assert len(list(Path("one").glob("train-*.tar"))) > 2
    assert not list(Path().glob(".tmp-*"))


def test_the_files_of_a_folder_are_packed_byte_for_byte(dltrain) -> None:
    import tarfile

    lay(Path("pets/train"), count=6)
    picture(seed=9).save("pets/train/cat/photo.v2.JPG", "JPEG")
    lay(Path("pets/val"), count=3)
    Path("pets/train/dog/notes.txt").write_text("no image")
    outcome = dltrain("pack", "dataset=image_folder", "dataset.path=pets", "--out", "packed")
    assert outcome.code == 0, outcome.err
    assert "packed: 13 for train, 6 for val, in 2 shards of" in outcome.out
    assert "notes.txt" in outcome.out + outcome.err, "what is left out is named"
    contents = set()
    for path in Path("packed").glob("*.tar"):
        with tarfile.open(path) as archive:
            for member in archive:
                file = archive.extractfile(member)
                assert file is not None
                contents.add(file.read())
    files = [*Path("pets").rglob("*.png"), *Path("pets").rglob("*.JPG")]
    assert {path.read_bytes() for path in files} == contents - {b"0", b"1"}
    with tarfile.open("packed/train-000000.tar") as archive:
        assert any(name.endswith("train_cat_photo_v2.jpg") for name in archive.getnames())


def test_a_run_on_shards_is_evaluated_predicted_and_resumed(
    dltrain, monkeypatch: pytest.MonkeyPatch
) -> None:
    lay(Path("pets/train"), count=30)
    lay(Path("pets/test"), count=4)
    folder = ("dataset=image_folder", "dataset.path=pets")
    assert dltrain("pack", *folder, "--out", "packed", "--shard-size", "20KB").code == 0
    shards = ("dataset=shards", "dataset.path=packed", "dataset.batch_size=5")
    words = (*shards, "dataset.shuffle_shards=2", *QUICK, *INTERRUPTION, "--json")
    whole = dltrain(*words)
    assert whole.code == 0, whole.err
    run = whole.json["run"]
    monkeypatch.setenv("INTERRUPT_AT", "15")
    part = dltrain(*words)
    assert part.code == 143, part.err
    monkeypatch.delenv("INTERRUPT_AT")
    resumed = dltrain("resume", part.json["run"], PLUGIN, "--json")
    assert resumed.code == 0, resumed.err
    assert metrics(resumed.json["run"]) == metrics(run)
    assert dltrain("evaluate", run, PLUGIN, "--out", "scores.csv").code == 0
    with Path("scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 8
    assert {next(iter(row.values())).split("/")[0] for row in rows} == {"test-000000.tar"}
    predicted = dltrain("predict", run, PLUGIN, "pets/test/cat/000.png", "--json")
    assert predicted.code == 0, predicted.err
    assert dltrain("pack", *folder, "--out", "others", "--shard-size", "90KB").code == 0
    other = dltrain("evaluate", run, PLUGIN, "dataset.path=others", "--json")
    assert other.code == 0, other.err


def test_check_and_smoke_read_no_shard(dltrain, monkeypatch: pytest.MonkeyPatch) -> None:
    lay(Path("pets"), count=12)
    packing = dltrain("pack", "dataset=image_folder", "dataset.path=pets", "--out", "packed")
    assert packing.code == 0
    for path in Path("packed").glob("*.tar"):
        path.write_bytes(bytes(path.stat().st_size))  # as large as before, and empty
    shards = ("dataset=shards", "dataset.path=packed", *QUICK[:1])
    checked = dltrain("check", *shards)
    assert checked.code == 0, checked.err
    assert "(1, 3, 8, 12)" in checked.out or "288" in checked.out
    assert dltrain(*shards, "debug=smoke").code == 0
    assert dltrain("dataset=shards", "debug=smoke", *QUICK[:1]).code == 0
    trained = dltrain(*shards)
    assert trained.code == 3
    assert "train-000000.tar/" in trained.err
    next(Path("packed").glob("*.tar")).unlink()
    missing = dltrain("check", *shards)
    assert missing.code == 3
    assert "train-000000.tar is missing: put the shard back" in missing.err


REFUSED: dict[str, tuple[tuple[str, ...], int, str]] = {
    "no folder": (("digits",), 2, "pack needs a folder for the shards: --out FOLDER"),
    "a file": (("digits", "--out", "file"), 2, "--out file: is a file; name a new folder"),
    "not empty": (("digits", "--out", "full"), 2, "--out full: is not empty; name a new folder"),
    "no parent": (("digits", "--out", "a/b"), 2, "--out a/b: there is no folder a"),
    "format": (
        ("digits", "--out", "x", "--format", "zip"),
        2,
        "--format=zip: expected one of webdataset, parquet",
    ),
    "size": (("digits", "--out", "x", "--shard-size", "big"), 2, "--shard-size big: expected"),
    "no size": (("digits", "--out", "x", "--shard-size", "0MB"), 2, "--shard-size 0MB: expected"),
    "unknown set": (("pets", "--out", "x"), 2, "pets is not a data set: dltrain list dataset"),
    "no images": (
        ("dataset=wine", "--out", "x"),
        2,
        "this data set cannot be packed: shards hold images of classes",
    ),
    "absent": (
        ("dataset=image_folder", "dataset.path=nowhere", "--out", "x"),
        3,
        "dataset.path=nowhere",
    ),
    "no such key": (("digits", "dataset.nope=1", "--out", "x"), 2, "dataset.nope"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_pack_refuses(case: str, dltrain) -> None:
    Path("file").touch()
    Path("full/x").mkdir(parents=True)
    words, code, message = REFUSED[case]
    outcome = dltrain("pack", *words)
    assert (outcome.code, message in outcome.err) == (code, True), outcome.err
    assert sorted(path.name for path in Path().iterdir() if path.name != "no-data") == [
        "file",
        "full",
    ]


def test_an_empty_folder_is_filled(dltrain) -> None:
    Path("packed").mkdir()
    assert dltrain("pack", "digits", "--out", "packed").code == 0
    assert Path("packed/shards.json").is_file()


SLOW_PACK = """
import sys, time
from dltrain.data.shards import pack
add = pack.Pack.log_progress
pack.Pack.log_progress = lambda self, name: time.sleep(0.01)
from dltrain.cli import entry
entry()
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_killed_pack_leaves_no_folder_and_is_started_again(number: Any, dltrain) -> None:
    words = ("pack", "digits", "--out", "packed", "--shard-size", "50KB")
    process = subprocess.Popen([sys.executable, "-c", SLOW_PACK, *words])
    deadline = time.monotonic() + 60
    while not list(Path().glob(".tmp-*/train-000001.tar")):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.01)
    os.kill(process.pid, number)
    assert process.wait(60) != 0
    assert not Path("packed").exists()
    assert bool(list(Path().glob(".tmp-*"))) == (number == signal.SIGKILL)
    outcome = dltrain(*words)
    assert outcome.code == 0, outcome.err
    assert not list(Path().glob(".tmp-*"))
    assert dltrain("check", "dataset=shards", "dataset.path=packed", *QUICK[:1]).code == 0
