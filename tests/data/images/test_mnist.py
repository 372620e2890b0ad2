"""Data sets from files: IDX and CIFAR-10's binaries, downloads with checksums."""

from __future__ import annotations

import gzip
import hashlib
import struct
import tarfile
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dltrain.data.images.cifar10 import CIFAR10
from dltrain.data.images.mnist import FILES, MNIST, FashionMNIST, read_idx
from dltrain.data.io.download import Published
from dltrain.errors import InputError

NOWHERE = "http://127.0.0.1:9/"  # the discard port: nobody listens


def idx(array: np.ndarray, kind: int = 8) -> bytes:
    """`array` as an IDX file."""
    return struct.pack(f">HBB{array.ndim}I", 0, kind, array.ndim, *array.shape) + array.tobytes()


def arrays(train: int = 12, test: int = 5) -> dict[str, np.ndarray]:
    """A tiny MNIST, by file name."""
    draw = np.random.default_rng(0)
    counts = {"train": train, "test": test}
    made = {}
    for split, (images, labels) in FILES.items():
        made[images] = draw.integers(0, 256, (counts[split], 28, 28), dtype=np.uint8)
        made[labels] = (np.arange(counts[split]) % 10).astype(np.uint8)
    return made


def lay(raw: Path, ending: str = "", **changed: bytes) -> None:
    """Write a tiny MNIST into `raw`, plain or gzipped."""
    raw.mkdir(parents=True, exist_ok=True)
    for name, array in arrays().items():
        content = changed.get(name.split("-idx")[0].replace("-", "_"), idx(array))
        (raw / f"{name}{ending}").write_bytes(
            gzip.compress(content, mtime=0) if ending else content
        )


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    for source in (MNIST, FashionMNIST, CIFAR10):
        monkeypatch.setattr(source, "mirrors", (NOWHERE,))


# IDX ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(3,), (2, 4), (2, 3, 5)])
@pytest.mark.parametrize("ending", ["", ".gz"])
def test_read_idx(shape: tuple[int, ...], ending: str, tmp_path: Path) -> None:
    """Any number of dimensions, plain or gzipped; the tensor may be written to."""
    array = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    path = tmp_path / f"x-ubyte{ending}"
    path.write_bytes(gzip.compress(idx(array)) if ending else idx(array))
    tensor = read_idx(path)
    assert np.array_equal(tensor.numpy(), array)
    tensor.add_(1)


ODD = {
    "empty": b"",
    "truncated header": idx(np.zeros((2, 2), np.uint8))[:7],
    "truncated data": idx(np.zeros((2, 2), np.uint8))[:-1],
    "too long": idx(np.zeros((2, 2), np.uint8)) + b"x",
    "floats": idx(np.zeros((2, 2), np.float32), kind=13),
    "text": b"<html>404 not found</html>",
    "says that it is large": struct.pack(">HBB4I", 0, 8, 4, *[2**32 - 1] * 4),
}


@pytest.mark.parametrize("kind", ODD)
@pytest.mark.parametrize("ending", ["", ".gz"])
def test_odd_idx_files_are_refused(kind: str, ending: str, tmp_path: Path) -> None:
    """A file that is not a whole IDX file of bytes is named, with what to do."""
    path = tmp_path / f"x{ending}"
    path.write_bytes(gzip.compress(ODD[kind]) if ending else ODD[kind])
    with pytest.raises(InputError, match="downloaded again") as caught:
        read_idx(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("damage", ["truncated", "flipped", "not gzip"])
def test_damaged_gzip_is_refused(damage: str, tmp_path: Path) -> None:
    """A gzip file that is cut, changed or none at all ends in InputError."""
    content = bytearray(gzip.compress(idx(np.arange(200, dtype=np.uint8))))
    if damage == "flipped":
        content[-6] ^= 1  # its checksum
    path = tmp_path / "x.gz"
    path.write_bytes(
        {"truncated": content[:-20], "flipped": content, "not gzip": b"<html>"}[damage]
    )
    with pytest.raises(InputError, match="cannot be read as an IDX file"):
        read_idx(path)


@pytest.mark.parametrize("ending", ["", ".gz"])
@pytest.mark.parametrize("source", [MNIST, FashionMNIST])
def test_reading_the_sets(source: type[MNIST], ending: str, tmp_path: Path, offline: None) -> None:
    """Images (N, 1, 28, 28) in bytes and labels in int64, without a network where the files are."""
    lay(tmp_path / source.folder / "raw", ending)
    sets = source(tmp_path).read()
    for split, (images, labels) in FILES.items():
        x, y = sets[split]
        assert np.array_equal(x.squeeze(1).numpy(), arrays()[images])
        assert np.array_equal(y.numpy(), arrays()[labels])
        assert (x.dtype, y.dtype, x.shape[1:]) == (
            torch.uint8,
            torch.int64,
            source.spec.input_shape,
        )


@pytest.mark.parametrize(
    "changed",
    [
        {"train_labels": idx(np.zeros(11, np.uint8))},
        {"train_labels": idx(np.full(12, 10, np.uint8))},
        {"t10k_images": idx(np.zeros((5, 784), np.uint8))},
        {
            "t10k_images": idx(np.zeros((0, 28, 28), np.uint8)),
            "t10k_labels": idx(np.zeros(0, np.uint8)),
        },
    ],
    ids=["one label less", "an eleventh class", "flat images", "no images"],
)
def test_files_that_do_not_belong_together(changed: dict[str, bytes], tmp_path: Path) -> None:
    """Whole files that make no data set are refused by name."""
    lay(tmp_path / "MNIST" / "raw", **changed)
    with pytest.raises(InputError, match="do not belong together"):
        MNIST(tmp_path).read()


@pytest.mark.parametrize("source", [MNIST, FashionMNIST])
def test_checksums_are_torchvisions(source: type[MNIST]) -> None:
    """The md5 of every file is the one that torchvision checks."""
    torchvision = pytest.importorskip("torchvision")  # here, for it takes seconds to import
    resources = getattr(torchvision.datasets, source.__name__).resources
    assert {f"{name}.gz": known.md5 for name, known in source.files.items()} == dict(resources)


# Downloads ----------------------------------------------------------------------------------------


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[tuple[str, Path, list[str]]]:
    """A server of this machine: its address, the folder that it serves, and the paths that it was
    asked for.
    """
    served, asked = tmp_path / "served", []
    served.mkdir()

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            asked.append(self.path)

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(served)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/", served, asked
    server.shutdown()
    thread.join()
    server.server_close()


def published(path: Path) -> Published:
    return Published(path.stat().st_size, hashlib.md5(path.read_bytes()).hexdigest())


def all_published(served: Path) -> dict[str, Published]:
    return {f.name.removesuffix(".gz"): published(f) for f in served.glob("*.gz")}


def test_an_absent_set_is_downloaded_with_its_checksum(
    mirror: tuple[str, Path, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the second mirror where the first is down; once, for the files are kept."""
    address, served, asked = mirror
    lay(served, ".gz")
    monkeypatch.setattr(MNIST, "mirrors", (NOWHERE, address))
    monkeypatch.setattr(MNIST, "files", all_published(served))
    sets = MNIST(tmp_path / "data").read()
    assert len(sets["train"][0]) == 12
    assert len(set(asked)) == 4
    count = len(asked)
    MNIST(tmp_path / "data").read()
    assert len(asked) == count
    left = {path.name for path in (tmp_path / "data" / "MNIST" / "raw").iterdir()}
    assert left - {".download.lock"} == {f"{name}.gz" for name in MNIST.files}


def test_a_download_with_the_wrong_checksum_is_refused_and_not_kept(
    mirror: tuple[str, Path, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A whole file with another content is no data set, neither now nor at the next try."""
    address, served, _ = mirror
    lay(served, ".gz")
    monkeypatch.setattr(MNIST, "mirrors", (address,))
    files = all_published(served)
    wrong = {"train-images-idx3-ubyte": files["train-images-idx3-ubyte"]._replace(md5="0" * 32)}
    monkeypatch.setattr(MNIST, "files", files | wrong)
    for _ in range(2):
        with pytest.raises(InputError, match="could not be downloaded"):
            MNIST(tmp_path / "data").read()
    assert list((tmp_path / "data").rglob("*train-images*")) == []


@pytest.mark.parametrize("source", [MNIST, FashionMNIST, CIFAR10])
def test_offline_says_which_files_go_where(
    source: Callable[[Path], Any], tmp_path: Path, offline: None
) -> None:
    """Exit 3 with the folder, every file and its checksum, and the key that names another place."""
    with pytest.raises(InputError) as caught:
        source(tmp_path / "data").read()
    text = str(caught.value)
    folder = tmp_path / "data" / (Path(source.folder) / "raw" if issubclass(source, MNIST) else "")
    assert str(folder) in text
    files = (
        {f"{name}.gz": f for name, f in source.files.items()}
        if issubclass(source, MNIST)
        else source.archive
    )
    assert all(
        f"{name}  ({known.size:,} bytes, md5 {known.md5})" in text for name, known in files.items()
    )
    assert "paths.data" in text
    assert "DLTRAIN_DATA" in text
    assert caught.value.exit_code == 3


def test_only_the_files_that_are_missing_are_asked_for(tmp_path: Path, offline: None) -> None:
    """Files that are there, packed or not, are not on the list."""
    raw = tmp_path / "MNIST" / "raw"
    lay(raw)
    (raw / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(InputError) as caught:
        MNIST(tmp_path).read()
    assert [name in str(caught.value) for name in MNIST.files] == [False, False, False, True]


# CIFAR-10 -----------------------------------------------------------------------------------------


def records(count: int, first: int = 0) -> bytes:
    """Binary records whose red plane is 1, green 2 and blue 3, with labels in turn."""
    planes = np.repeat(np.array([1, 2, 3], np.uint8), 1024)
    return b"".join(bytes([(first + i) % 10]) + planes.tobytes() for i in range(count))


def lay_cifar(root: Path, **changed: bytes) -> None:
    folder = root / "cifar-10-batches-bin"
    folder.mkdir(parents=True)
    for i, name in enumerate([*CIFAR10.files["train"], *CIFAR10.files["test"]]):
        (folder / name).write_bytes(changed.get(name.removesuffix(".bin"), records(2, first=2 * i)))


def test_reading_cifar10(tmp_path: Path, offline: None) -> None:
    """Five files make the training set, in order; planes are channels."""
    lay_cifar(tmp_path)
    sets = CIFAR10(tmp_path).read()
    images, labels = sets["train"]
    assert images.shape == (10, 3, 32, 32)
    assert images.dtype == torch.uint8
    assert labels.tolist() == list(range(10))
    assert [images[:, c].unique().tolist() for c in range(3)] == [[1], [2], [3]]
    assert sets["test"][1].tolist() == [0, 1]


@pytest.mark.parametrize(
    "content",
    [b"", records(2)[:-1], bytes([10]) + records(1)[1:]],
    ids=["empty", "cut", "label 10"],
)
def test_odd_cifar10_files_are_refused(content: bytes, tmp_path: Path) -> None:
    """Only whole records with labels 0 to 9."""
    lay_cifar(tmp_path, data_batch_3=content)
    with pytest.raises(InputError, match=r"data_batch_3\.bin is not a whole CIFAR-10 file"):
        CIFAR10(tmp_path).read()


def test_cifar10_is_downloaded_and_unpacked(
    mirror: tuple[str, Path, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The archive is checked, unpacked beside itself, and read."""
    address, served, _ = mirror
    lay_cifar(tmp_path / "content")
    with tarfile.open(served / "cifar-10-binary.tar.gz", "w:gz") as tar:
        tar.add(tmp_path / "content" / "cifar-10-batches-bin", "cifar-10-batches-bin")
    archive = "cifar-10-binary.tar.gz"
    monkeypatch.setattr(CIFAR10, "mirrors", (address,))
    monkeypatch.setattr(CIFAR10, "archive", {archive: published(served / archive)})
    assert len(CIFAR10(tmp_path / "data").read()["train"][0]) == 10
    assert {p.name for p in (tmp_path / "data").iterdir()} == {
        archive,
        "cifar-10-batches-bin",
        ".download.lock",
    }


# The real sets ------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", [MNIST, FashionMNIST])
def test_the_real_sets_are_as_their_spec_says(source: type[MNIST], real_data: Path) -> None:
    """Counts, classes, and mean and standard deviation of the training images within 0.1 of a gray
    level.
    """
    if not (real_data / source.folder).exists():
        pytest.skip(f"{source.folder} is not in the folder of real data")
    sets, spec = source(real_data).read(), source.spec
    assert (
        (len(sets["train"][0]), len(sets["test"][0]))
        == (spec.train_samples, spec.test_samples)
        == (60000, 10000)
    )
    counts = torch.bincount(
        sets["train"][0].flatten(), minlength=256
    ).double()  # of each gray level
    levels = torch.arange(256, dtype=torch.float64)
    mean = float((counts * levels).sum() / counts.sum())
    std = float((counts * (levels - mean) ** 2).sum() / counts.sum()) ** 0.5
    assert mean == pytest.approx(spec.mean[0], abs=0.1)
    assert std == pytest.approx(spec.std[0], abs=0.1)
    assert set(sets["test"][1].tolist()) == set(range(spec.num_classes))
