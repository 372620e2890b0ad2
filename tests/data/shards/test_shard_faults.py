"""Faults of shards: each ends with the shard, the sample, and what to do."""

from __future__ import annotations

import gzip
import io
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet
from shard_files import foreign_members, packed, png, shards, write_tar
from small_pictures import everything, picture

from dltrain.data.shards.index import INDEX, KEYS, MOMENTS, SAMPLES
from dltrain.errors import ConfigError, InputError

SHARD = "train-000000.tar"
BLOCK = 512


def read_all(path: str = "packed", **more: Any) -> None:
    """Read everything as training and its evaluations do."""
    data = shards(path, **more)
    data.find_files()
    for split in (data.train, data.val, data.test):
        if split.samples:
            everything(split)


def changed(path: Path, change: Callable[[bytearray], Any]) -> None:
    content = bytearray(path.read_bytes())
    change(content)
    path.write_bytes(content)


def flip(content: bytearray) -> None:
    content[BLOCK + 40] ^= 255  # in the first image


def truncate(content: bytearray) -> None:
    del content[len(content) // 2 :]


def header(**values: Any) -> Callable[[], None]:
    def change() -> None:
        path = Path("packed", INDEX)
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    return change


def samples(change: Callable[[Any], None]) -> Callable[[], None]:
    """A change of the samples that the hashes of the index do not notice."""

    def do() -> None:
        rows = np.load(f"packed/{SAMPLES}")
        change(rows)
        np.save(f"packed/{SAMPLES}", rows)
        header(files={})()

    return do


def set_column(column: str, value: int) -> Callable[[Any], None]:
    def change(rows: Any) -> None:
        rows[column][0] = value

    return change


def keep_few(rows: Any) -> None:
    rows["key_end"][-1] += 1


PACKED_FAULTS: dict[str, tuple[Callable[[], Any], str]] = {
    "missing shard": (
        lambda: Path("packed", SHARD).unlink(),
        rf"{SHARD} is missing: put the shard back",
    ),
    "shard cut short": (
        lambda: changed(Path("packed", SHARD), truncate),
        rf"{SHARD} has [\d,]+ bytes, but [\d,]+ when the index was made.*put the old file back",
    ),
    "changed content": (
        lambda: changed(Path("packed", SHARD), flip),
        rf"{SHARD}/\d+_train_\w+\.png: the content is not the one .*CRC-32.*put the old shard",
    ),
    "folder in place of a shard": (
        lambda: (Path("packed", SHARD).unlink(), Path("packed", SHARD).mkdir()),
        rf"{SHARD} cannot be read \(Is a directory\)",
    ),
    "pipe in place of a shard": (
        lambda: (Path("packed", SHARD).unlink(), os.mkfifo(f"packed/{SHARD}")),
        rf"{SHARD} is not a regular file",
    ),
    "no JSON": (
        lambda: Path("packed", INDEX).write_text("{"),
        rf"packed/{INDEX} is not a valid index of shards .* `dltrain pack`, or delete {INDEX}",
    ),
    "no shards in the index": (lambda: header(shards=[])(), "contradicts .* there are no samples"),
    "unknown format": (header(format="other"), "is not a valid index .*its format is other 1"),
    "key missing": (header(shards=[{"name": "x"}]), "is not a valid index of shards"),
    "class missing": (header(class_names=["cat"]), "class number is not one of the 1 of the index"),
    "counts wrong": (header(samples={"train": 1}), "1 samples are announced"),
    "samples damaged": (
        lambda: changed(Path("packed", SAMPLES), lambda c: c.__setitem__(-1, c[-1] ^ 1)),
        rf"packed/{SAMPLES} is damaged \(its SHA-256 is another\)",
    ),
    "samples missing": (
        lambda: Path("packed", SAMPLES).unlink(),
        rf"packed/{SAMPLES} cannot be read",
    ),
    "samples of another kind": (
        lambda: Path("packed", SAMPLES).write_bytes(b"x"),
        "is not a valid index of shards",
    ),
    "names missing": (lambda: Path("packed", KEYS).unlink(), rf"packed/{KEYS} cannot be read"),
    "moments damaged": (
        lambda: changed(Path("packed", MOMENTS), lambda c: c.__setitem__(-1, c[-1] ^ 1)),
        rf"packed/{MOMENTS} is damaged",
    ),
    "moments missing": (lambda: Path("packed", MOMENTS).unlink(), rf"{MOMENTS} is missing"),
    "shard number": (samples(set_column("shard", 99)), "in a shard that is not listed"),
    "offset": (samples(set_column("offset", 10**9)), "ends after the end of its shard"),
    "names overlap": (samples(set_column("key_end", 10**6)), "names of samples overlap"),
    "names too few": (samples(keep_few), "names of samples are too many or too few"),
    "other set": (samples(set_column("shard", 8)), "samples of the train set are in test-"),
}


@pytest.mark.parametrize("fault", PACKED_FAULTS)
def test_faults_of_packed_shards(fault: str) -> None:
    packed()
    read_all()
    make, message = PACKED_FAULTS[fault]
    make()
    with pytest.raises(InputError, match=message):
        read_all()


def test_a_shard_that_changes_during_a_run_ends_it() -> None:
    packed()
    data = shards(shuffle_shards=1, batch_size=4)
    batches = data.train.epoch(0)
    next(batches)
    for shard in Path("packed").glob("train-*.tar"):
        changed(shard, truncate)
    with pytest.raises(InputError, match=r"ends in the middle of this sample|when the index was"):
        list(batches)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_shard_without_permission_is_named() -> None:
    packed()
    Path("packed", SHARD).chmod(0)
    with pytest.raises(InputError, match=rf"{SHARD} cannot be read \(Permission denied\)"):
        read_all()


def tar_with(name: str = SHARD, **members: bytes) -> None:
    write_tar(Path("others", name), foreign_members() | members)


def add(extra: dict[str, bytes]) -> Callable[[], None]:
    return lambda: write_tar(Path("others", SHARD), foreign_members() | extra)


def cut(at: int) -> Callable[[], None]:
    def make() -> None:
        write_tar(Path("others", SHARD), foreign_members())
        path = Path("others", SHARD)
        path.write_bytes(path.read_bytes()[:at])

    return make


def damage_header() -> None:
    write_tar(Path("others", SHARD), foreign_members())
    # the header of the second sample's image: each member before has a header and a block
    changed(
        Path("others", SHARD), lambda c: c.__setitem__(slice(BLOCK * 6, BLOCK * 6 + 9), b"x" * 9)
    )


def again() -> None:
    members = foreign_members()
    write_tar(Path("others", SHARD), members | {"b/0.png": png(9), "b/0.cls": b"0"})
    with tarfile.open(f"others/{SHARD}", "a") as archive:
        path = Path("again")
        path.write_bytes(b"1")
        archive.add(path, "a/0000.cls")


def twice() -> None:
    write_tar(Path("others", SHARD), {"a/1.png": png(1), "a/1.cls": b"0", "a/1.PNG": png(2)})


FOREIGN_FAULTS: dict[str, tuple[Callable[[], Any], str]] = {
    "no shards": (lambda: Path("others").mkdir(), "others has no shards; expected shards such as"),
    "not a tar": (
        lambda: (Path("others").mkdir(), Path("others", SHARD).write_bytes(b"x" * 5000)),
        rf"{SHARD} is not a tar file",
    ),
    "empty file": (
        lambda: (Path("others").mkdir(), Path("others", SHARD).touch()),
        rf"{SHARD} is not a tar file",
    ),
    "compressed": (
        lambda: (
            tar_with(),
            Path("others", SHARD).write_bytes(gzip.compress(Path("others", SHARD).read_bytes())),
        ),
        rf"{SHARD} is not a tar file .* has to be decompressed first",
    ),
    "empty tar": (lambda: write_tar(Path("others", SHARD), {}), rf"{SHARD} has no samples"),
    "cut in an image": (cut(BLOCK + 200), rf"{SHARD}.* is cut short"),
    "cut in a header": (cut(BLOCK * 6 + 100), rf"{SHARD}.* is cut short"),
    "cut after a member": (cut(BLOCK * 6), rf"{SHARD}.* is cut short"),
    "damaged header": (damage_header, rf"{SHARD}, byte 3,072, is cut short or damaged"),
    "no class": (
        add({"z.png": png(1)}),
        rf"{SHARD}: the sample z has no class; expected a member z.cls",
    ),
    "no image": (add({"z.cls": b"1"}), rf"{SHARD}: the sample z has no image, only .cls"),
    "empty class": (
        add({"z.png": png(1), "z.cls": b" "}),
        rf"{SHARD}: the member z.cls is empty",
    ),
    "class that is no text": (
        add({"z.png": png(1), "z.cls": b"\xff\xfe"}),
        rf"{SHARD}: the member z.cls cannot be read as the class",
    ),
    "broken JSON": (
        add({"z.png": png(1), "z.json": b"{"}),
        rf"{SHARD}: the member z.json cannot be read as the class",
    ),
    "JSON without a class": (add({"z.png": png(1), "z.json": b"{}"}), "the sample z has no class"),
    "names and numbers": (
        add({"z.png": png(1), "z.cls": b"cat"}),
        "some classes are numbers, such as 0, and some are names, such as cat",
    ),
    "negative class": (
        add({"z.png": png(1), "z.json": b'{"label": -1}'}),
        rf"{SHARD}/z.png: its class is -1",
    ),
    "key twice": (again, rf"{SHARD}: the key a/0000 comes twice"),
    "two images": (twice, rf"{SHARD}: the member a/1.PNG comes twice"),
    "other images": (
        add({"z.png": png(1), "z.jpg": png(1), "z.cls": b"0"}),
        rf"{SHARD}: the sample z has two images, .jpg is the second",
    ),
    "corrupt image": (
        add({"z.png": png(1)[:60], "z.cls": b"0"}),
        rf"{SHARD}/z.png cannot be read as an image",
    ),
    "no image at all": (
        add({"z.png": b"text", "z.cls": b"0"}),
        rf"{SHARD}/z.png cannot be read as an image",
    ),
    "only test shards": (
        lambda: tar_with("test-0.tar"),
        "others has no training shards, only test",
    ),
    "both kinds": (
        lambda: (tar_with(), Path("others", "x.parquet").touch()),
        "others has tar and Parquet files, such as train-000000.tar and x.parquet",
    ),
    "one class": (
        lambda: write_tar(Path("others", SHARD), {"1.png": png(1), "1.cls": b"0"}),
        "others has one class, 0",
    ),
}


@pytest.mark.parametrize("fault", FOREIGN_FAULTS)
def test_faults_of_shards_of_others(fault: str) -> None:
    make, message = FOREIGN_FAULTS[fault]
    make()
    with pytest.raises(InputError, match=message):
        read_all("others")
    left = [path for path in Path("data").glob(".dltrain/.*") if path.suffix != ".lock"]
    assert not left, "nothing half made is left"


def table(**columns: Any) -> pa.Table:
    values: dict[str, Any] = {
        "image": [{"bytes": png(i), "path": None} for i in range(8)],
        "label": [i % 2 for i in range(8)],
    }
    return pa.table({k: v for k, v in (values | columns).items() if v is not None})


def write_table(name: str = "train-0.parquet", **columns: Any) -> None:
    Path("others").mkdir(exist_ok=True)
    parquet.write_table(table(**columns), f"others/{name}")


def cut_table() -> None:
    write_table()
    changed(Path("others/train-0.parquet"), truncate)


def replaced_table() -> None:
    """Another file of the same size than when the index was made."""
    write_table()
    read_all("others")
    path = Path("others/train-0.parquet")
    times = path.stat()
    changed(path, flip)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


PARQUET_FAULTS: dict[str, tuple[Callable[[], Any], str]] = {
    "not Parquet": (
        lambda: (write_table(), Path("others/train-0.parquet").write_bytes(b"x" * 99)),
        r"train-0.parquet is not a Parquet file, is cut short or damaged",
    ),
    "cut short": (cut_table, r"train-0.parquet is not a Parquet file, is cut short or damaged"),
    "no image column": (
        lambda: write_table(image=None, x=list(range(8))),
        r"train-0.parquet has no column image \(it has label, x\)",
    ),
    "no class column": (
        lambda: write_table(label=None),
        r"train-0.parquet has no column label \(it has image\)",
    ),
    "images of another type": (
        lambda: write_table(image=["x"] * 8),
        "the column image is of the type string; expected bytes",
    ),
    "classes of another type": (
        lambda: write_table(label=[0.5] * 8),
        "the column label is of the type double; expected whole numbers or names",
    ),
    "no image": (
        lambda: write_table(image=[*table()["image"].to_pylist()[:-1], None]),
        "train-0.parquet, row 7: there is no image in the column image",
    ),
    "image by its path alone": (
        lambda: write_table(
            image=[*table()["image"].to_pylist()[:-1], {"bytes": None, "path": "a.png"}]
        ),
        "train-0.parquet, row 7: there is no image in the column image",
    ),
    "no class": (
        lambda: write_table(label=[0, 1, 0, None, 0, 1, 0, 1]),
        "train-0.parquet, row 3: there is no class in the column label",
    ),
    "negative class": (
        lambda: write_table(label=[0, 1, 0, -1, 0, 1, 0, 1]),
        "train-0.parquet/3: its class is -1",
    ),
    "other schema": (
        lambda: (write_table(), write_table("train-1.parquet", label=["cat", "dog"] * 4)),
        "some classes are numbers, such as 0, and some are names, such as cat",
    ),
    "other columns": (
        lambda: (write_table(), write_table("train-1.parquet", label=None, y=[1] * 8)),
        r"train-1.parquet has no column label \(it has image, y\)",
    ),
    "no rows": (
        lambda: (
            Path("others").mkdir(),
            parquet.write_table(table().slice(0, 0), "others/train-0.parquet"),
        ),
        "train-0.parquet has no samples",
    ),
    "replaced": (replaced_table, r"train-0.parquet"),
}


@pytest.mark.parametrize("fault", PARQUET_FAULTS)
def test_faults_of_parquet_shards(fault: str) -> None:
    make, message = PARQUET_FAULTS[fault]
    make()
    with pytest.raises(InputError, match=message):
        read_all("others")


def test_images_of_several_sizes_need_a_size() -> None:
    small = png(3)
    buffer = io.BytesIO()
    picture(size=(5, 5)).save(buffer, "PNG")
    members = {f"{i}.png": [small, buffer.getvalue()][i % 2] for i in range(8)}
    both = dict(members)
    for i in range(8):
        both[f"{i}.cls"] = str(i // 4).encode()
    write_tar(Path("others", SHARD), dict(sorted(both.items())))
    with pytest.raises(
        ConfigError, match=r"8x12 \(train-000000.tar/6.png\).*dataset.image_size=64"
    ):
        _ = shards("others").spec
    assert shards("others", image_size=6).train.samples == 6


def test_no_folder_is_a_problem_of_the_configuration() -> None:
    with pytest.raises(
        ConfigError, match=r"name the folder or URL of the shards: dataset\.path=DIR"
    ):
        read_all(None)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"dataset\.path=nowhere: .* does not exist"):
        read_all("nowhere")
    Path("file").touch()
    with pytest.raises(InputError, match="file is a file; name the folder that holds the shards"):
        read_all("file")
