"""Further image sets from made-up files of their formats: KMNIST, EMNIST, CIFAR-100, SVHN."""

from __future__ import annotations

import gzip
import hashlib
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.io import savemat

from dltrain.data.images.cifar100 import CIFAR100
from dltrain.data.images.emnist import EMNIST, SPLITS
from dltrain.data.images.mnist import KMNIST
from dltrain.data.images.svhn import SVHN
from dltrain.data.io.download import Published
from dltrain.errors import InputError

NOWHERE = "http://127.0.0.1:9/"  # the discard port: nobody listens


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    for source in (KMNIST, EMNIST, CIFAR100, SVHN):
        monkeypatch.setattr(source, "mirrors", (NOWHERE,))


def idx(array: np.ndarray) -> bytes:
    """`array` as an IDX file, gzipped."""
    return gzip.compress(
        struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes(), mtime=0
    )


def lay_emnist(folder: Path, split: str, labels: list[int]) -> np.ndarray:
    """Write a tiny EMNIST of one split; the images of its training set as stored."""
    folder.mkdir(parents=True)
    images = np.random.default_rng(0).integers(0, 256, (len(labels), 28, 28), dtype=np.uint8)
    for part in ("train", "test"):
        (folder / f"emnist-{split}-{part}-images-idx3-ubyte.gz").write_bytes(idx(images))
        (folder / f"emnist-{split}-{part}-labels-idx1-ubyte.gz").write_bytes(
            idx(np.array(labels, np.uint8))
        )
    return images


def published(path: Path) -> Published:
    return Published(path.stat().st_size, hashlib.md5(path.read_bytes()).hexdigest())


# EMNIST -------------------------------------------------------------------------------------------


def test_emnist_stands_upright(tmp_path: Path) -> None:
    """Stored with rows and columns exchanged; as images, a stored column is a row."""
    images = lay_emnist(tmp_path / "EMNIST/raw", "balanced", [0, 46])
    x, y = EMNIST(tmp_path).read()["train"]
    assert np.array_equal(x[0, 0].numpy(), images[0].T)
    assert y.tolist() == [0, 46]
    assert (x.dtype, y.dtype, tuple(x.shape)) == (torch.uint8, torch.int64, (2, 1, 28, 28))


def test_letters_of_emnist_count_from_zero(tmp_path: Path) -> None:
    """The files count A as 1; labels 0 and 27 are invalid."""
    lay_emnist(tmp_path / "EMNIST/raw", "letters", [1, 26])
    source = EMNIST(tmp_path, "letters")
    assert [source.spec.class_names[k] for k in source.read()["test"][1]] == ["A", "Z"]
    lay_emnist(tmp_path / "other/EMNIST/raw", "letters", [0, 26])
    with pytest.raises(InputError, match="letters train do not belong together"):
        EMNIST(tmp_path / "other", "letters").read()


@pytest.mark.parametrize("split", SPLITS)
def test_classes_of_emnist_are_torchvisions(split: Any) -> None:
    """Names and order, but for the class that no letter has."""
    torchvision = pytest.importorskip("torchvision")  # here, for it takes seconds to import
    expected = [
        name for name in torchvision.datasets.EMNIST.classes_split_dict[split] if name != "N/A"
    ]
    assert [
        name.lower() if split == "letters" else name
        for name in EMNIST(Path(), split).spec.class_names
    ] == expected


def test_emnist_is_read_from_its_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the needed part of the zip file is unpacked; it is fetched once."""
    raw = tmp_path / "EMNIST/raw"
    lay_emnist(tmp_path / "made", "digits", [3, 4])
    lay_emnist(tmp_path / "unused", "mnist", [3, 4])
    raw.mkdir(parents=True)
    with zipfile.ZipFile(raw / "gzip.zip", "w") as archive:
        for path in sorted([*(tmp_path / "made").iterdir(), *(tmp_path / "unused").iterdir()]):
            archive.write(path, f"gzip/{path.name}")
    monkeypatch.setattr(EMNIST, "archive", {"gzip.zip": published(raw / "gzip.zip")})
    assert EMNIST(tmp_path, "digits").read()["test"][1].tolist() == [3, 4]
    assert sorted({path.name.split("-")[1] for path in (raw / "gzip").iterdir()}) == ["digits"]
    (raw / "gzip.zip").unlink()
    assert EMNIST(tmp_path, "digits").read()["train"][1].tolist() == [3, 4]
    with pytest.raises(InputError, match="could not be downloaded"):
        EMNIST(tmp_path, "letters").read()


def test_an_archive_without_the_files_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = tmp_path / "EMNIST/raw"
    raw.mkdir(parents=True)
    for content, match in (
        (b"no zip", "cannot be unpacked"),
        (None, "cannot be unpacked .*digits-train-images"),
    ):
        if content is None:
            zipfile.ZipFile(raw / "gzip.zip", "w").close()
        else:
            (raw / "gzip.zip").write_bytes(content)
        monkeypatch.setattr(EMNIST, "archive", {"gzip.zip": published(raw / "gzip.zip")})
        with pytest.raises(InputError, match=match):
            EMNIST(tmp_path, "digits").read()


# CIFAR-100 ----------------------------------------------------------------------------------------


def records(fine: list[int]) -> bytes:
    """Binary records of coarse label 19 whose red plane is 1, green 2 and blue 3."""
    planes = np.repeat(np.array([1, 2, 3], np.uint8), 1024).tobytes()
    return b"".join(bytes([19, label]) + planes for label in fine)


def test_reading_cifar100(tmp_path: Path) -> None:
    """Planes are channels, fine labels the classes."""
    folder = tmp_path / "cifar-100-binary"
    folder.mkdir()
    (folder / "train.bin").write_bytes(records([0, 99, 5]))
    (folder / "test.bin").write_bytes(records([19]))
    sets = CIFAR100(tmp_path).read()
    images, labels = sets["train"]
    assert (images.dtype, tuple(images.shape)) == (torch.uint8, (3, 3, 32, 32))
    assert [images[:, c].unique().tolist() for c in range(3)] == [[1], [2], [3]]
    assert [CIFAR100.spec.class_names[k] for k in labels] == ["apple", "worm", "bed"]
    assert CIFAR100.spec.class_names[int(sets["test"][1])] == "cattle"
    assert len(set(CIFAR100.spec.class_names)) == 100
    assert list(CIFAR100.spec.class_names) == sorted(CIFAR100.spec.class_names)


@pytest.mark.parametrize(
    "content", [b"", records([1, 2])[:-1], records([100])], ids=["empty", "cut", "label 100"]
)
def test_odd_cifar100_files_are_refused(content: bytes, tmp_path: Path) -> None:
    folder = tmp_path / "cifar-100-binary"
    folder.mkdir()
    (folder / "train.bin").write_bytes(content)
    (folder / "test.bin").write_bytes(records([1]))
    with pytest.raises(InputError, match=r"train\.bin is not a whole CIFAR-100 file"):
        CIFAR100(tmp_path).read()


# SVHN ---------------------------------------------------------------------------------------------


def lay_svhn(root: Path, labels: list[int], **changed: np.ndarray) -> np.ndarray:
    images = np.random.default_rng(0).integers(0, 256, (32, 32, 3, len(labels)), dtype=np.uint8)
    content = {"X": images, "y": np.array(labels, np.uint8).reshape(-1, 1)}
    for split in ("train", "test"):
        savemat(root / f"{split}_32x32.mat", content | (changed if split == "train" else {}))
    return images


def test_reading_svhn(tmp_path: Path) -> None:
    """The stored order is (H, W, C, N); class 10 is the digit 0."""
    images = lay_svhn(tmp_path, [10, 1, 9])
    x, y = SVHN(tmp_path).read()["train"]
    assert (x.dtype, y.dtype, tuple(x.shape)) == (torch.uint8, torch.int64, (3, 3, 32, 32))
    assert np.array_equal(x[1, 2].numpy(), images[:, :, 2, 1])
    assert y.tolist() == [0, 1, 9]


@pytest.mark.parametrize(
    "changed",
    [
        {"y": np.array([[1], [0]], np.uint8)},
        {"y": np.array([[1], [11]], np.uint8)},
        {"y": np.array([[1]], np.uint8)},
        {"X": np.zeros((32, 32, 3, 2))},
    ],
    ids=["label 0", "label 11", "one label less", "floats"],
)
def test_odd_svhn_files_are_refused(changed: dict[str, np.ndarray], tmp_path: Path) -> None:
    lay_svhn(tmp_path, [1, 2], **changed)
    with pytest.raises(InputError, match=r"train_32x32\.mat is not a whole SVHN file"):
        SVHN(tmp_path).read()


@pytest.mark.parametrize("content", [b"", b"no mat file" * 50])
def test_a_file_of_another_format_is_refused(content: bytes, tmp_path: Path) -> None:
    lay_svhn(tmp_path, [1, 2])
    (tmp_path / "train_32x32.mat").write_bytes(content)
    with pytest.raises(InputError, match=r"train_32x32\.mat cannot be read as a \.mat file"):
        SVHN(tmp_path).read()


# All ----------------------------------------------------------------------------------------------

FILES: dict[Callable[[Path], Any], tuple[str, dict[str, Published]]] = {
    KMNIST: ("KMNIST/raw", {f"{name}.gz": known for name, known in KMNIST.files.items()}),
    EMNIST: ("EMNIST/raw", EMNIST.archive),
    CIFAR100: ("", CIFAR100.archive),
    SVHN: ("", SVHN.files),
}


@pytest.mark.parametrize("source", FILES)
def test_offline_says_which_files_go_where(source: Callable[[Path], Any], tmp_path: Path) -> None:
    """Exit 3 with the folder, every file and its checksum."""
    folder, files = FILES[source]
    with pytest.raises(InputError) as caught:
        source(tmp_path / "data").read()
    text = str(caught.value)
    assert str(tmp_path / "data" / folder) in text
    assert all(
        f"{name}  ({known.size:,} bytes, md5 {known.md5})" in text for name, known in files.items()
    )
    assert caught.value.exit_code == 3


def test_checksums_are_torchvisions() -> None:
    """The md5 of every file that torchvision knows is the one that it checks."""
    torchvision = pytest.importorskip("torchvision")
    assert dict(torchvision.datasets.KMNIST.resources) == {
        n: known.md5 for n, known in FILES[KMNIST][1].items()
    }
    assert [known.md5 for known in EMNIST.archive.values()] == [torchvision.datasets.EMNIST.md5]
    known = {name: md5 for _, name, md5 in torchvision.datasets.SVHN.split_list.values()}
    assert {name: published.md5 for name, published in SVHN.files.items()}.items() <= known.items()


@pytest.mark.parametrize("name", ["kmnist", "emnist", "cifar100", "svhn"])
def test_the_command_ends_in_exit_3_for_an_absent_set(
    name: str, dltrain: Callable[..., Any]
) -> None:
    """A set that is absent and cannot be fetched: exit 3, no run folder."""
    outcome = dltrain(f"dataset={name}", "model=mlp")
    assert outcome.code == 3
    assert "could not be downloaded" in outcome.err
    assert not Path("outputs").exists()
