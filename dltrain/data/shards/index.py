"""The index of a set in shards: which sample is where, of which class, and with which checksum.

An index is three files. `shards.json` describes the set and its shards; `shards.npy` has a row for
each sample, and `shards.keys` their names. The last two are mapped, not read: memory does not grow
with them.
"""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dltrain.errors import InputError
from dltrain.files import replace_file, to_json

INDEX, SAMPLES, KEYS, MOMENTS = "shards.json", "shards.npy", "shards.keys", "shards.moments.npy"
FORMAT, VERSION = "dltrain shards", 1
WEBDATASET, PARQUET = "webdataset", "parquet"
KINDS = (WEBDATASET, PARQUET)
ENDINGS = {WEBDATASET: ".tar", PARQUET: ".parquet"}
SETS = ("train", "val", "test")
SAMPLE = np.dtype(
    [
        ("shard", "<u4"),  # the position in the list of shards
        ("offset", "<u8"),  # of the content: in a tar file, or in the contents of a Parquet file
        ("length", "<u4"),  # of the content in bytes
        ("crc", "<u4"),  # CRC-32 of the content
        ("target", "<i4"),  # the number of the class
        ("key_end", "<u8"),  # the end of the name in the file of names
    ]
)
BLOCK_SAMPLES = 2**20
Samples = NDArray[np.void]


@dataclass(frozen=True)
class Shard:
    """A file of samples of one set (train, val or test)."""

    name: str
    set: str
    samples: int
    bytes: int
    sha256: str = ""


@dataclass(frozen=True)
class Index:
    """The samples (N,) of all sets, those of train first, and the shards that hold them.

    `image_shape` (C, H, W) is that of the images where they were measured. `mean` and `std` are
    those by which the set is known, in 0..255; `pixels` is the rule by which they became bytes.
    """

    kind: str
    class_names: tuple[str, ...]
    counts: Mapping[str, int]  # samples by set, in the order of the rows
    shards: tuple[Shard, ...]
    samples: Samples
    keys: NDArray[np.uint8]
    image_shape: tuple[int, ...] = ()
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    pixels: Mapping[str, Any] = field(default_factory=dict)
    hashes: Mapping[str, str] = field(default_factory=dict)  # sha256 by file of the index

    def first_row(self, name: str) -> int:
        """Return the row of the first sample of a set."""
        names = list(self.counts)
        return sum(self.counts[other] for other in names[: names.index(name)])

    def key(self, row: int) -> str:
        """Return the name of a sample in its shard."""
        start = 0
        if row:
            start = int(self.samples["key_end"][row - 1])
        return self.keys[start : int(self.samples["key_end"][row])].tobytes().decode()

    def name_of(self, row: int) -> str:
        """Return the name of a sample: its shard and its name there."""
        shard = self.shards[int(self.samples["shard"][row])]
        return f"{shard.name}/{self.key(row)}"

    def header(self) -> dict[str, Any]:
        """Return the content of the file INDEX."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "kind": self.kind,
            "class_names": list(self.class_names),
            "image_shape": list(self.image_shape),
            "mean": list(self.mean),
            "std": list(self.std),
            "pixels": dict(self.pixels),
            "samples": dict(self.counts),
            "files": dict(self.hashes),
            "shards": [vars(shard) for shard in self.shards],
        }

    @cached_property
    def digest(self) -> str:
        """A name for the content: equal sets, equal name."""
        return hashlib.sha256(to_json(self.header()).encode()).hexdigest()


def is_shard(name: str) -> bool:
    """Return whether a file is a shard by the ending of its name."""
    return name.lower().endswith(tuple(ENDINGS.values()))


def write_index(index: Index, folder: Path) -> None:
    """Write the file INDEX of samples and keys that are in the folder already."""
    replace_file(folder / INDEX, to_json(index.header(), indent=1).encode())


def read_index(folder: Path, place: str) -> Index:
    """Return the index in a folder; messages say that it is in `place`.

    Raises InputError for one that is incomplete, damaged, or contradicts itself.
    """
    path = f"{place}/{INDEX}"
    try:
        header = json.loads((folder / INDEX).read_bytes())
        index = parsed(header, folder)
    except OSError as e:
        missing = Path(e.filename or path).name
        raise InputError(f"{place}/{missing} cannot be read ({e.strerror or e}); {again()}") from e
    except (KeyError, TypeError, ValueError, AttributeError, EOFError) as e:
        raise InputError(f"{path} is not a valid index of shards ({problem(e)}); {again()}") from e
    for name, expected in index.hashes.items():
        if (folder / name).exists() and file_hash(folder / name) != expected:
            raise InputError(f"{place}/{name} is damaged (its SHA-256 is another); {again()}")
    why = contradiction(index)
    if why:
        raise InputError(f"{path} contradicts its samples: {why}; {again()}")
    return index


def again() -> str:
    """Return what to do about an index that cannot be used."""
    return (
        "make the shards again with `dltrain pack`, or delete "
        f"{INDEX} so that the shards are scanned"
    )


def problem(error: Exception) -> str:
    """Return the text of an error in the content of an index."""
    return f"it has no {error}" if isinstance(error, KeyError) else str(error)


def parsed(header: dict[str, Any], folder: Path) -> Index:
    """Return the index that a header describes; ValueError and the like if it is malformed."""
    if header["format"] != FORMAT or header["version"] != VERSION:
        raise ValueError(f"its format is {header['format']} {header['version']}")
    if header["kind"] not in KINDS:
        raise ValueError(f"kind is {header['kind']}")
    samples = mapped_samples(folder)
    if samples.dtype != SAMPLE or samples.ndim != 1:
        raise ValueError(f"{SAMPLES} has other columns")
    counts = {name: int(header["samples"][name]) for name in SETS if name in header["samples"]}
    return Index(
        kind=header["kind"],
        class_names=tuple(map(str, header["class_names"])),
        counts=counts,
        shards=tuple(Shard(**shard) for shard in header["shards"]),
        samples=samples,
        keys=mapped_bytes(folder / KEYS),
        image_shape=tuple(map(int, header["image_shape"])),
        mean=tuple(map(float, header["mean"])),
        std=tuple(map(float, header["std"])),
        pixels=dict(header["pixels"]),
        hashes={str(name): str(value) for name, value in header["files"].items()},
    )


def mapped_bytes(path: Path) -> NDArray[np.uint8]:
    """Return the content of a file, which is mapped unless it is empty."""
    if not path.stat().st_size:
        return np.zeros(0, dtype=np.uint8)
    # A plain array is a view of the same memory, and faster to index.
    return np.memmap(path, dtype=np.uint8, mode="r").view(np.ndarray)


def mapped_samples(folder: Path) -> Samples:
    """Return the samples in a folder, which are mapped."""
    samples: Samples = np.load(folder / SAMPLES, mmap_mode="r").view(np.ndarray)
    return samples


def contradiction(index: Index) -> str:
    """Return what contradicts itself in an index; "" if nothing does."""
    if sum(index.counts.values()) != len(index.samples):
        return f"{sum(index.counts.values()):,} samples are announced"
    if not index.shards or not len(index.samples):
        return "there are no samples"
    if len(index.class_names) < 1 or len(set(index.class_names)) < len(index.class_names):
        return "its class names are not distinct"
    if int(index.samples["key_end"][-1]) != len(index.keys):
        return "the names of samples are too many or too few"
    sizes = np.full(len(index.shards), np.iinfo(np.uint64).max)
    if index.kind == WEBDATASET:  # the contents of a Parquet file are compressed in it
        sizes = np.array([shard.bytes for shard in index.shards], dtype=np.uint64)
    for start in range(0, len(index.samples), BLOCK_SAMPLES):
        why = contradiction_in(index.samples[start : start + BLOCK_SAMPLES], index, sizes)
        if why:
            return why
    return contradiction_of_sets(index)


def contradiction_in(block: Samples, index: Index, sizes: NDArray[np.uint64]) -> str:
    """Return what contradicts the shards in some samples; "" if nothing does."""
    if int(block["shard"].max()) >= len(index.shards):
        return "a sample is in a shard that is not listed"
    if int(block["target"].min()) < 0 or int(block["target"].max()) >= len(index.class_names):
        return f"a sample's class number is not one of the {len(index.class_names)} of the index"
    ends = block["offset"] + block["length"]
    if bool((ends > sizes[block["shard"]]).any()):
        return "a sample ends after the end of its shard"
    if bool((np.diff(block["key_end"].astype(np.int64)) < 0).any()):
        return "the names of samples overlap"
    return ""


def contradiction_of_sets(index: Index) -> str:
    """Return whether a set has samples in a shard of another set, as text; "" if none has."""
    for name, count in index.counts.items():
        first = index.first_row(name)
        used = np.unique(index.samples["shard"][first : first + count])
        for shard in (index.shards[number] for number in used.tolist()):
            if shard.set != name:
                return f"samples of the {name} set are in {shard.name}, of the {shard.set} set"
    return ""


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class SampleWriter:
    """Writes the samples and the names of an index, in the order of the shards, to a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.records = (folder / f"{SAMPLES}.part").open("wb")
        self.names = (folder / f"{KEYS}.part").open("wb")
        self.count = 0
        self.name_bytes = 0

    def add(self, shard: int, offset: int, content: bytes, target: int, key: str) -> None:
        """Add a sample: its shard, where its content is in it, its class, and its name."""
        name = key.encode("utf-8", "replace")
        self.name_bytes += len(name)
        self.count += 1
        record = (shard, offset, len(content), zlib.crc32(content), target, self.name_bytes)
        self.records.write(np.array(record, dtype=SAMPLE).tobytes())
        self.names.write(name)

    def finish(self, rows: NDArray[np.int64], targets: NDArray[np.int32]) -> dict[str, str]:
        """Write the samples in the order of their `rows` (N,); return the SHA-256 of each file.

        `targets` (K,) are the numbers of the classes that were added as 0 to K - 1.
        """
        self.close()
        records = np.memmap(self.folder / f"{SAMPLES}.part", dtype=SAMPLE, mode="r")
        names = mapped_bytes(self.folder / f"{KEYS}.part")
        ends = records["key_end"].astype(np.int64)
        starts = np.concatenate([[0], ends[:-1]])
        by_row = rows.argsort(kind="stable")
        with (self.folder / KEYS).open("wb") as file:
            for place in by_row.tolist():
                file.write(names[starts[place] : ends[place]].tobytes())
            file.flush()
            os.fsync(file.fileno())
        samples = np.lib.format.open_memmap(
            self.folder / SAMPLES, mode="w+", dtype=SAMPLE, shape=(self.count,)
        )
        name_ends = (ends - starts)[by_row].cumsum()
        for start in range(0, self.count, BLOCK_SAMPLES):
            block = slice(start, start + BLOCK_SAMPLES)
            samples[block] = records[by_row[block]]
            samples["target"][block] = targets[samples["target"][block]]
            samples["key_end"][block] = name_ends[block]
        samples.flush()
        del records, names, samples
        for name in (SAMPLES, KEYS):
            (self.folder / f"{name}.part").unlink()
        return {name: file_hash(self.folder / name) for name in (SAMPLES, KEYS)}

    def close(self) -> None:
        """Close the files."""
        self.records.close()
        self.names.close()
