"""No sample of a set in shards is left out or gets another class without a word."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet
from shard_files import foreign_members, packed, png, shards, write_tar
from small_pictures import everything

from dltrain.data.shards.index import INDEX
from dltrain.data.shards.readers import TarShard
from dltrain.errors import InputError

BLOCK = 512
TRAIN = Path("others/train-0.tar")


def joined() -> None:
    write_tar(TRAIN, foreign_members(4))
    write_tar(Path("more.tar"), foreign_members(4, 4))
    TRAIN.write_bytes(TRAIN.read_bytes() + Path("more.tar").read_bytes())


def with_hole(blocks: int) -> None:
    write_tar(TRAIN, foreign_members(4))
    content = bytearray(TRAIN.read_bytes())
    content[6 * BLOCK : (6 + blocks) * BLOCK] = bytes(blocks * BLOCK)  # from the second sample on
    TRAIN.write_bytes(content)


def with_junk_at_its_end() -> None:
    write_tar(TRAIN, foreign_members(4))
    TRAIN.write_bytes(TRAIN.read_bytes() + bytes(50_000) + b"x")


AFTER_THE_END: dict[str, tuple[Callable[[], None], str]] = {
    "joined": (joined, "from byte 20,480 on: .* is several tar files joined into one; .*own"),
    "hole of a block": (partial(with_hole, 1), "from byte 3,584 on: it has a hole at byte 3,072"),
    "hole": (partial(with_hole, 5), r"from byte [\d,]+ on: it has a hole at byte 3,072"),
    "junk": (with_junk_at_its_end, "from byte 70,480 on"),
}


@pytest.mark.parametrize("fault", AFTER_THE_END)
def test_nothing_follows_the_end_of_a_tar_file(fault: str) -> None:
    make, message = AFTER_THE_END[fault]
    make()
    with pytest.raises(InputError, match=f"{TRAIN} has content after the end .*{message}"):
        _ = shards("others").index


def test_zeros_may_follow_the_end_of_a_tar_file() -> None:
    write_tar(TRAIN, foreign_members(4))
    TRAIN.write_bytes(TRAIN.read_bytes() + bytes(70_000))
    assert len(shards("others").index.samples) == 4


def write_parquet(
    name: str, labels: list[Any], names: list[str] | None = None, **options: Any
) -> None:
    Path("others").mkdir(exist_ok=True)
    metadata = None
    if names:
        features = {"label": {"_type": "ClassLabel", "names": names}}
        metadata = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
    images = [png(i, ("cat", "dog")[i % 2]) for i in range(len(labels))]
    table = pa.table({"image": images, "label": labels}).replace_schema_metadata(metadata)
    parquet.write_table(table, f"others/{name}.parquet", **options)


def test_parquet_shards_with_classes_in_another_order_keep_their_classes() -> None:
    write_parquet("train-0", [0, 1] * 4, ["cat", "dog"])
    write_parquet("train-1", [1, 0] * 4, ["dog", "cat"])
    write_parquet("test-0", [1, 0] * 4, ["dog", "cat"])
    data = shards("others")
    assert data.spec.class_names == ("cat", "dog")
    assert everything(data.test)[1].tolist() == [0, 1] * 4
    assert data.index.samples["target"].tolist() == [0, 1] * 12


def test_names_of_classes_and_declared_numbers_are_the_same_classes() -> None:
    write_parquet("train-0", [1, 0] * 4, ["dog", "cat"])
    write_parquet("train-1", ["cat", "dog"] * 4)
    data = shards("others")
    assert data.spec.class_names == ("dog", "cat")
    assert data.index.samples["target"].tolist() == [1, 0] * 8


OTHER_CLASSES: dict[str, tuple[tuple[Any, ...], str]] = {
    "other names": (
        ([0, 1] * 4, ["cat", "owl"]),
        "train-0.parquet names the classes cat, dog, but others/train-1.parquet names cat, owl",
    ),
    "no names": (
        ([0, 1] * 4,),
        "some classes are numbers, such as 0, and some are names, such as cat "
        r"\(in others/train-1.parquet and others/train-0.parquet\)",
    ),
    "unknown name": (
        (["cat", "owl"] * 4,),
        "train-1.parquet has the class owl, which is not one of those that "
        "others/train-0.parquet names: cat, dog",
    ),
    "number without a name": (
        ([0, 1, 2], ["dog", "cat"]),
        "train-1.parquet, row 2: the sample is of class 2, but the file names 2 classes, 0 to 1",
    ),
    "the same name twice": (
        ([0, 1] * 4, ["cat", "cat"]),
        "train-1.parquet names a class twice, of the classes cat, cat",
    ),
}


@pytest.mark.parametrize("fault", OTHER_CLASSES)
def test_parquet_shards_with_other_classes_are_refused(fault: str) -> None:
    labels, message = OTHER_CLASSES[fault]
    write_parquet("train-0", [0, 1] * 4, ["cat", "dog"])
    write_parquet("train-1", *labels)
    with pytest.raises(InputError, match=message):
        _ = shards("others").index


def test_large_numbers_of_classes_stay_apart() -> None:
    members = foreign_members(6)
    numbers = [2**53, 2**53 + 1, 2**63]
    members |= {f"a/{i:04}.cls": str(numbers[i % 3]).encode() for i in range(6)}
    write_tar(TRAIN, members)
    data = shards("others")
    assert data.index.class_names == tuple(map(str, numbers))
    assert data.index.samples["target"].tolist() == [0, 1, 2] * 2


@pytest.mark.parametrize("own_test", [True, False])
def test_other_shards_than_the_run_was_trained_on_are_named(
    own_test: bool, caplog: pytest.LogCaptureFixture
) -> None:
    write_tar(TRAIN, foreign_members(20))
    if own_test:
        write_tar(Path("others/test-0.tar"), foreign_members(6, 50))
    description = shards("others").description()
    same = shards("others")
    same.restore(description)
    scored = 6 if own_test else 4
    assert (same.test.samples, same.val.samples) == (scored, 2)
    assert "not those that the run was trained on" not in caplog.text
    TRAIN.rename("others/train-renamed.tar")
    other = shards("others")
    other.restore(description)
    assert other.test.samples == (6 if own_test else 20)
    line = "others: the shards are not those that the run was trained on: "
    assert (line + "all 20 images are scored, also any that" in caplog.text) is not own_test
    if own_test:
        assert line not in caplog.text
        assert other.val.samples == 2
        assert f"{line}the validation images are chosen among all training images" in caplog.text


def test_linked_folders_and_shards_are_followed() -> None:
    write_tar(Path("disk1/a/x.tar"), foreign_members(8))
    write_tar(Path("disk2/y.tar"), foreign_members(4, 20))
    write_tar(Path("disk2/.hidden.tar"), foreign_members(4, 30))
    Path("others").mkdir()
    Path("others/train").symlink_to("../disk1")
    Path("others/test").symlink_to("../disk2")
    Path("disk1/a/circle").symlink_to("../../others")
    Path("others/README").symlink_to("nowhere")
    assert shards("others").index.counts == {"train": 8, "test": 4}


def test_the_same_shard_by_two_links_is_refused() -> None:
    write_tar(TRAIN, foreign_members(8))
    Path("others/test-0.tar").symlink_to("train-0.tar")
    with pytest.raises(InputError, match=r"test-0\.tar and others/train-0\.tar are the same"):
        _ = shards("others").index


@pytest.mark.parametrize("name", ["test", "train-1.tar"])
def test_a_link_that_leads_nowhere_is_refused(name: str) -> None:
    write_tar(TRAIN, foreign_members(8))
    Path("others", name).symlink_to("nowhere")
    with pytest.raises(InputError, match=rf"others/{name} is (a link to nowhere, which|missing)"):
        _ = shards("others").index


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every folder")
def test_a_folder_without_permission_is_refused() -> None:
    write_tar(TRAIN, foreign_members(8))
    Path("others/test").mkdir(mode=0)
    with pytest.raises(InputError, match="others/test cannot be read"):
        _ = shards("others").index


def test_shards_beside_an_index_are_listed_in_it() -> None:
    packed()
    count = len(shards().index.samples)
    write_tar(Path("packed/more/train-9.tar"), foreign_members(8))
    write_tar(Path("packed/unlabeled-9.tar"), foreign_members(8))
    with pytest.raises(
        InputError, match=rf"{INDEX} does not list: more/train-9.tar; .*delete {INDEX}"
    ):
        _ = shards().index
    Path("packed/more/train-9.tar").unlink()
    assert len(shards().index.samples) == count


@pytest.mark.parametrize("member", ["0.cls", "0.json"])
def test_a_negative_number_is_no_class(member: str) -> None:
    label = {"0.cls": b"-1\n", "0.json": b'{"label": "-1"}'}[member]
    write_tar(TRAIN, {"0.png": png(0), member: label})
    with pytest.raises(InputError, match=f"{TRAIN}/0.png: its class is -1, which means"):
        _ = shards("others").index


def test_a_negative_number_as_text_is_no_class_in_parquet() -> None:
    write_parquet("train-0", ["cat", "-1"] * 3)
    with pytest.raises(InputError, match=r"train-0\.parquet/1: its class is -1, which means"):
        _ = shards("others").index
    write_parquet("train-0", ["cat", ""] * 3)
    with pytest.raises(InputError, match=r"train-0\.parquet/1: its class is empty, which means"):
        _ = shards("others").index


def test_shards_without_classes_by_their_names_are_left_out(
    caplog: pytest.LogCaptureFixture,
) -> None:
    write_tar(TRAIN, foreign_members(6))
    for name in ("unlabeled-0.tar", "test_pred-0.tar", "unlabeled/train-0.tar"):
        write_tar(Path("others", name), {"0.png": png(0)})
    assert shards("others").index.counts == {"train": 6}
    left_out = "test_pred-0.tar, unlabeled/train-0.tar, unlabeled-0.tar left out"
    assert f"others: {left_out}" in caplog.text


@pytest.mark.parametrize("compression", ["none", "snappy", "zstd"])
def test_contents_may_be_larger_than_their_compressed_file(compression: str) -> None:
    Path("others").mkdir()
    table = pa.table({"image": [png(i % 2) for i in range(60)], "label": [0, 1] * 30})
    parquet.write_table(table, "others/train-0.parquet", compression=compression)
    data = shards("others")
    content = data.index.samples["length"].sum()
    assert content > Path("others/train-0.parquet").stat().st_size
    assert len(everything(data.train)[1]) == data.train.samples == 44


def test_columns_of_dictionaries_are_read() -> None:
    write_parquet("train-0", ["cat", "dog"] * 4)
    table = parquet.read_table("others/train-0.parquet")
    for column in ("image", "label"):
        table = table.set_column(
            table.schema.get_field_index(column), column, table[column].dictionary_encode()
        )
    parquet.write_table(table, "others/train-0.parquet")
    assert pa.types.is_dictionary(parquet.read_table("others/train-0.parquet")["label"].type)
    data = shards("others", test_fraction=0.25)
    assert data.spec.class_names == ("cat", "dog")
    assert data.index.samples["target"].tolist() == [0, 1] * 4
    assert sorted(everything(data.test)[1].tolist()) == [0, 1]


class SilentHandler(SimpleHTTPRequestHandler):
    """Lists and serves the working folder without a line for each request."""

    def log_message(self, *words: Any) -> None:
        pass


@pytest.fixture
def listing_server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), SilentHandler) as serving:
        thread = threading.Thread(target=serving.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{serving.server_address[1]}"
        serving.shutdown()
        thread.join()


@pytest.mark.parametrize("kind", ["tar", "parquet"])
def test_a_server_that_tells_no_sizes_needs_no_index(kind: str, listing_server: str) -> None:
    if kind == "tar":
        write_tar(TRAIN, foreign_members(8))
    else:
        write_parquet("train-0", [0, 1] * 4)
    data = shards(f"{listing_server}/others", val_fraction=0.0)
    size = Path(f"others/train-0.{kind}").stat().st_size
    assert [shard.bytes for shard in data.index.shards] == [size]
    assert everything(data.train)[1].tolist().count(0) == data.train.samples / 2


def test_hidden_files_at_a_url_are_left_out() -> None:
    import fsspec

    write_tar(TRAIN, foreign_members(6))
    system = fsspec.filesystem("memory")
    system.put("others", "memory://bucket/others", recursive=True)
    system.pipe("/bucket/others/._train-0.tar", b"x" * 100)
    try:
        assert shards("memory://bucket/others").index.counts == {"train": 6}
    finally:
        system.rm("/", recursive=True)


def test_the_size_of_a_tar_file_is_what_was_read_of_it() -> None:
    write_tar(TRAIN, foreign_members(6))
    with TRAIN.open("rb") as file:
        shard = TarShard(file, "x")
        assert len(list(shard.samples())) == 6
        assert shard.size() == TRAIN.stat().st_size


def add(extra: dict[str, bytes]) -> None:
    write_tar(TRAIN, foreign_members() | extra)


def test_an_empty_image_is_named() -> None:
    add({"z.png": b"", "z.cls": b"0"})
    with pytest.raises(InputError, match=f"{TRAIN}: the member z.png is empty, not an image"):
        _ = shards("others").index


@pytest.mark.parametrize("suffix", ["jfif", "jpe", "jp2", "pbm", "pnm", "pfm", "apng"])
def test_every_ending_of_images_is_one_of_a_member(suffix: str) -> None:
    add({f"z.{suffix}": png(1), "z.cls": b"0"})
    assert len(shards("others").index.samples) == 7
