"""Shards that other programs wrote, and shards at a URL: found, indexed once, and read."""

from __future__ import annotations

import json
import os
import tarfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pytest
import torch
from PIL import Image
from pyarrow import parquet
from shard_files import foreign_members, packed, png, shards, write_tar
from small_pictures import everything

from dltrain.data.shards import scan
from dltrain.data.shards.index import INDEX, KINDS, WEBDATASET
from dltrain.errors import InputError


@pytest.mark.parametrize("label", ["cls", "cls.txt", "json"])
def test_tar_files_of_others_are_read(label: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "dltrain")
    for i in range(3):
        write_tar(Path(f"others/set-train-{i}.tar"), foreign_members(6, 6 * i, label))
    write_tar(Path("others/set-val-0.tar"), foreign_members(4, 50, label))
    data = shards("others", test_fraction=0.25)
    names = ("cat", "dog") if label == "cls.txt" else ("0", "1")
    assert data.spec.class_names == names
    assert (data.train.samples, data.val.samples, data.test.samples) == (14, 4, 4)
    assert data.test_rule() == (
        "25 % of the images of each class, chosen with dataset.split_seed=0"
    )
    inputs, targets = everything(data.val)
    assert targets.tolist() == [0, 1, 0, 1]
    assert list(data.sample_names("val"))[1] == "set-val-0.tar/a/0051.png"
    assert f"others has no {INDEX}: reading its 4 shards once" in caplog.text
    mean = torch.tensor(data.spec.mean).view(3, 1, 1)
    std = torch.tensor(data.spec.std).view(3, 1, 1)
    Path("x.png").write_bytes(png(51, "dog"))
    pixels = torch.frombuffer(bytearray(Image.open("x.png").tobytes()), dtype=torch.uint8)
    assert torch.allclose(
        inputs[1] * std + mean, pixels.view(8, 12, 3).permute(2, 0, 1).float(), atol=1e-3
    )


def test_the_index_of_others_is_made_once_until_a_shard_changes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = []
    make_index = scan.make_index
    monkeypatch.setattr(scan, "make_index", lambda *a: made.append(1) or make_index(*a))
    write_tar(Path("others/0.tar"), foreign_members(10))
    first = shards("others")
    digest, _ = first.fingerprint(), first.train
    assert shards("others").fingerprint() == digest
    assert len(made) == 1
    write_tar(Path("others/0.tar"), foreign_members(10, 3))
    os.utime("others/0.tar", (1, 1))
    assert shards("others").fingerprint() != digest
    assert len(made) == 2


def test_one_of_several_processes_makes_the_index_and_the_others_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = []
    make_index = scan.make_index

    def slowly(*words: Any) -> None:
        made.append(1)
        time.sleep(0.3)
        make_index(*words)

    monkeypatch.setattr(scan, "make_index", slowly)
    write_tar(Path("others/0.tar"), foreign_members(10))
    with ThreadPoolExecutor(3) as pool:
        digests = list(pool.map(lambda _: shards("others").fingerprint(), range(3)))
    assert len(made) == 1
    assert len(set(digests)) == 1


@pytest.mark.parametrize("labels", ["numbers", "names", "declared"])
@pytest.mark.parametrize("as_struct", [True, False])
def test_parquet_files_of_others_are_read(labels: str, as_struct: bool) -> None:
    contents = [png(i, ("cat", "dog")[i % 2]) for i in range(12)]
    images: Any = pa.array(contents)
    if as_struct:
        images = pa.array([{"bytes": content, "path": "x.png"} for content in contents])
    values = [i % 2 for i in range(12)]
    if labels == "names":
        values = [("cat", "dog")[value] for value in values]  # type: ignore[misc]
    metadata = None
    if labels == "declared":
        features = {"label": {"_type": "ClassLabel", "names": ["cat", "dog", "owl"]}}
        metadata = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
    Path("others").mkdir()
    for name in ("train-00000-of-00001", "test-00000-of-00001"):
        table = pa.table({"extra": list(range(12)), "image": images, "label": values})
        parquet.write_table(table.replace_schema_metadata(metadata), f"others/{name}.parquet")
    data = shards("others")
    expected = {"numbers": ("0", "1"), "names": ("cat", "dog"), "declared": ("cat", "dog", "owl")}
    assert data.spec.class_names == expected[labels]
    assert everything(data.test)[1].tolist() == [0, 1] * 6
    assert next(data.sample_names("test")) == "test-00000-of-00001.parquet/0"


def test_packed_tar_files_are_plain_for_other_programs() -> None:
    """Python's tar module reads them; a key has no dots, and its members follow each other."""
    packed()
    with tarfile.open("packed/train-000000.tar") as archive:
        members = archive.getmembers()
        names = [member.name for member in members]
        assert all(member.isfile() and member.mtime == 0 for member in members)
        content = archive.extractfile(names[1])
        assert content is not None
        label = ("cat", "dog")[int(content.read())]
    assert label in names[0]
    assert [name.split(".") for name in names[:2]] == [
        [names[0][:-4], "png"],
        [names[0][:-4], "cls"],
    ]


def test_packed_shards_are_read_without_their_index() -> None:
    """The scan of a packed set finds the samples that `pack` wrote, under the same names."""
    for kind in KINDS:
        packed(kind, kind)
        known = shards(kind)
        named = {known.index.name_of(row).split("/")[0] for row in range(len(known.index.samples))}
        contents = sorted(map(int, known.index.samples["crc"]))
        for path in Path(kind).glob("shards.*"):
            path.unlink()
        scanned = shards(kind)
        assert sorted(map(int, scanned.index.samples["crc"])) == contents
        assert {shard.name for shard in scanned.index.shards} == named
        expected = ("cat", "dog") if kind != WEBDATASET else ("0", "1")
        assert scanned.spec.class_names == expected


@pytest.fixture
def remote() -> Iterator[Any]:
    """A file system in memory, which stands for one on another machine."""
    system = fsspec.filesystem("memory")
    yield system
    system.rm("/", recursive=True)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("with_index", [True, False])
def test_shards_at_a_url_are_those_in_a_folder(kind: str, with_index: bool, remote: Any) -> None:
    packed(kind)
    if not with_index:
        for path in Path("packed").glob("shards.*"):
            path.unlink()
    remote.put("packed", "memory://bucket/set", recursive=True)
    more: dict[str, Any] = {"shuffle_shards": 2, "batch_size": 5, "seed": 1}
    ours, theirs = shards("memory://bucket/set", **more), shards("packed", **more)
    for start in (0, 4):
        for (x, y), (a, b) in zip(
            ours.train.epoch(1, start), theirs.train.epoch(1, start), strict=True
        ):
            assert torch.equal(x, a)
            assert torch.equal(y, b)
    assert list(ours.sample_names("test")) == list(theirs.sample_names("test"))
    assert not [path for path in Path("data/.dltrain").iterdir() if path.name.startswith("tmp")]


def test_at_most_two_windows_of_a_url_are_copied(remote: Any) -> None:
    packed()
    remote.put("packed", "memory://bucket/set", recursive=True)
    data = shards("memory://bucket/set", shuffle_shards=2, batch_size=3)
    split = data.train
    most = 0
    for _ in split.epoch(0):
        most = max(most, len(split.source.opened.jobs))  # type: ignore[attr-defined]
    assert most == 4 < len(data.index.shards)


class Quiet(SimpleHTTPRequestHandler):
    """Serves the working folder without a line for each request."""

    def log_message(self, *words: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as serving:
        thread = threading.Thread(target=serving.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{serving.server_address[1]}"
        serving.shutdown()
        thread.join()


def test_packed_shards_are_read_over_http(server: str) -> None:
    packed()
    ours, theirs = everything(shards(f"{server}/packed").train), everything(shards().train)
    assert torch.equal(ours[0], theirs[0])
    Path("packed/train-000002.tar").unlink()
    with pytest.raises(InputError, match=r"/packed/train-000002.tar is missing"):
        everything(shards(f"{server}/packed").train)


URL_FAULTS = {
    "missing shard": (
        lambda system: system.rm("/bucket/set/train-000001.tar"),
        "memory://bucket/set/train-000001.tar is missing",
    ),
    "cut short": (
        lambda system: system.pipe("/bucket/set/train-000001.tar", b"x" * 1000),
        r"memory://bucket/set/train-000001.tar has 1,000 bytes, but [\d,]+ when the index was",
    ),
    "broken index": (
        lambda system: system.pipe("/bucket/set/shards.json", b"{"),
        r"memory://bucket/set/shards.json is not a valid index",
    ),
    "missing samples": (
        lambda system: system.rm("/bucket/set/shards.npy"),
        "memory://bucket/set/shards.npy is missing",
    ),
}


@pytest.mark.parametrize("fault", URL_FAULTS)
def test_faults_of_shards_at_a_url(fault: str, remote: Any) -> None:
    packed()
    remote.put("packed", "memory://bucket/set", recursive=True)
    make, message = URL_FAULTS[fault]
    make(remote)
    with pytest.raises(InputError, match=message):
        everything(shards("memory://bucket/set").train)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nope://x/y", "dataset.path=nope://x/y: Protocol not known: nope"),
        ("s3://bucket/set", "s3://bucket/set: Install s3fs"),
        (
            "memory://empty/set",
            "memory://empty/set cannot be reached|memory://empty/set is missing",
        ),
        ("http://127.0.0.1:9/set", "http://127.0.0.1:9/set cannot be reached, has no shards"),
    ],
)
def test_urls_that_cannot_be_read(url: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        _ = shards(url).train


def test_without_fsspec_a_url_needs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "fsspec", None)
    with pytest.raises(InputError, match=r"need fsspec: pip install .dltrain-cli\[shards\]"):
        _ = shards("memory://bucket/set").train
    packed()
    assert shards().train.samples == 44


def test_without_pyarrow_parquet_needs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    packed("parquet")
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(InputError, match=r"need pyarrow: pip install .dltrain-cli\[shards\]"):
        _ = shards().train
