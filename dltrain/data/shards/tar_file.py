"""Reads the samples of a tar file in WebDataset's layout, one after the other.

Members of a sample have the same name up to the first dot of the base name, its key, and follow
each other: KEY.jpg and KEY.cls, or KEY.json with the class in it.
"""

from __future__ import annotations

import json
import tarfile
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from dltrain.data.io.layout.folders import IMAGE_ENDINGS
from dltrain.errors import InputError

IMAGES = tuple(ending.removeprefix(".") for ending in IMAGE_ENDINGS)
EXPECTED_IMAGES = ".jpg, .png, .webp, .ppm"  # and the others
LABELS = ("cls", "cls.txt", "json")
LABEL_KEYS = ("label", "cls", "class", "target")  # of a JSON member
BLOCK = tarfile.BLOCKSIZE
MAGIC = slice(257, 262)  # the place of "ustar" in the header of a member
REPACK = "make the shard again, or take it out of the folder"


@dataclass
class TarSample:
    """A sample: its image, where that begins in the file, and its class as it is written."""

    key: str
    name: str = ""  # of the member with the image
    image: bytes = b""
    offset: int = 0
    label: int | str | None = None
    members: set[str] = field(default_factory=set)


class Readable(Protocol):
    """A file that can be read from start to end."""

    def read(self, size: int, /) -> bytes:
        """Return the next bytes, at most `size`."""


def tar_samples(file: Readable, name: str) -> Iterator[TarSample]:
    """Yield the samples of a tar file, which is read from start to end.

    Raises InputError, with the file and the member, for one that is no tar file, ends too early,
    has anything after the end of its archive, or has a sample without image or class, or two of
    the same key.
    """
    keys: set[str] = set()
    sample: TarSample | None = None
    for member, content in members(file, name):
        key, extension = split_name(member.name)
        if sample is None or sample.key != key:
            if sample is not None:
                yield complete(sample, name)
            if key in keys:
                raise InputError(
                    f"{name}: the key {key} comes twice; the members of a sample follow each "
                    f"other and no other sample has its key: {REPACK}"
                )
            keys.add(key)
            sample = TarSample(key)
        add_member(sample, member, extension, content, name)
    if sample is None:
        raise InputError(f"{name} has no samples: {REPACK}")
    yield complete(sample, name)


def members(file: Readable, name: str) -> Iterator[tuple[tarfile.TarInfo, bytes]]:
    """Yield the regular files of a tar file with their contents."""
    blocks = LastBlocks(file)
    as_file: Any = blocks
    try:
        with tarfile.open(fileobj=as_file, mode="r|") as archive:
            read_members: Any = archive
            for member in archive:
                read_members.members = []  # else all of them stay in memory
                refuse_link(member, name)
                if not member.isfile():
                    continue
                opened = archive.extractfile(member)
                content = opened.read() if opened else b""
                if len(content) < member.size:
                    raise cut_short(f"{name}: the member {member.name}")
                yield member, content
            end = archive.offset
    except tarfile.ReadError as e:
        if blocks.is_tar:
            raise cut_short(name) from e
        raise InputError(
            f"{name} is not a tar file ({e}); a compressed one has to be decompressed first"
        ) from e
    # Python takes a damaged header, and the end of the file, for the end of the archive.
    if blocks.at(end) != bytes(BLOCK):
        raise cut_short(f"{name}, byte {end:,},")
    require_nothing_after(end, blocks, name)


def require_nothing_after(end: int, blocks: LastBlocks, name: str) -> None:
    """Raise InputError unless all bytes from the `end` of an archive on are zero.

    Python takes a block of zeros for the end. It may also be a hole that a disk has left, or the
    end of the first of several tar files that were joined.
    """
    offset, rest = end, blocks.after(end)
    while rest:
        content = rest.lstrip(b"\0")
        if content:
            first = offset + len(rest) - len(content)
            raise InputError(
                f"{name} has content after the end of its archive, from byte {first:,} on: it has "
                f"a hole at byte {end:,}, or is several tar files joined into one; copy it again, "
                "put each tar file into a file of its own, or take it out of the folder"
            )
        offset += len(rest)
        rest = blocks.read(tarfile.RECORDSIZE)


def refuse_link(member: tarfile.TarInfo, name: str) -> None:
    """Raise InputError for an image or a class that is a link to another member, or sparse."""
    _, extension = split_name(member.name)
    if not (is_image(extension) or extension in LABELS):
        return
    if member.islnk() or member.issym():
        raise InputError(
            f"{name}: the member {member.name} is a link to {member.linkname}, without content of "
            f"its own (GNU tar has --hard-dereference and --dereference): {REPACK}"
        )
    if member.issparse():
        raise InputError(f"{name}: the member {member.name} is a sparse file: {REPACK}")


def cut_short(what: str) -> InputError:
    """Return the error for a file, or a member of one, that ends too early."""
    return InputError(f"{what} is cut short or damaged: copy it again, or {REPACK}")


class LastBlocks:
    """A file that keeps what was read of it last."""

    def __init__(self, file: Readable) -> None:
        self.file = file
        self.total = 0
        self.last: deque[bytes] = deque(maxlen=2)
        self.is_tar = False

    def read(self, size: int) -> bytes:
        """Return the next bytes of the file."""
        block = self.file.read(size)
        if not self.total:
            self.is_tar = block[MAGIC] == b"ustar"
        self.total += len(block)
        self.last.append(block)
        return block

    def at(self, offset: int) -> bytes:
        """Return the block at an offset, if it was among the last that were read."""
        kept = b"".join(self.last)
        start = offset - (self.total - len(kept))
        return kept[start : start + BLOCK] if start >= 0 else b""

    def after(self, offset: int) -> bytes:
        """Return what was read from an offset on, which was among the last that was read."""
        kept = b"".join(self.last)
        return kept[offset - (self.total - len(kept)) :]


def is_image(extension: str) -> bool:
    """Return whether a member with such an extension is an image."""
    return extension.rpartition(".")[2] in IMAGES


def split_name(name: str) -> tuple[str, str]:
    """Return the key of a member and its extension in lower case, as WebDataset does."""
    folder, slash, base = name.rpartition("/")
    stem, _, extension = base.partition(".")
    return f"{folder}{slash}{stem}", extension.lower()


def add_member(
    sample: TarSample, member: tarfile.TarInfo, extension: str, content: bytes, name: str
) -> None:
    """Add a member to its sample; those of other kinds are left alone."""
    if extension in sample.members:
        raise InputError(f"{name}: the member {member.name} comes twice: {REPACK}")
    sample.members.add(extension)
    if is_image(extension):
        if not content:
            raise InputError(f"{name}: the member {member.name} is empty, not an image: {REPACK}")
        if sample.image:
            raise InputError(
                f"{name}: the sample {sample.key} has two images, "
                f".{extension} is the second: {REPACK}"
            )
        sample.image, sample.offset = content, member.offset_data
        sample.name = member.name
    elif extension in LABELS and sample.label is None:
        sample.label = label_of(extension, content, f"{name}: the member {member.name}")


def label_of(extension: str, content: bytes, what: str) -> int | str | None:
    """Return the class in a member: a number or a name; None if JSON has none."""
    try:
        text = content.decode().strip()
        if extension == "json":
            return label_in_json(json.loads(text))
    except ValueError as e:
        raise InputError(f"{what} cannot be read as the class of a sample ({e})") from e
    if not text:
        raise InputError(f"{what} is empty; expected the number or the name of a class")
    return as_label(text)


def as_label(text: str) -> int | str:
    """Return the number of a class, or its name."""
    if text.isdecimal():
        return int(text)
    return text


def label_in_json(values: Any) -> int | str | None:
    """Return the class in a JSON member: under the first of the usual keys, a number or a name."""
    if isinstance(values, dict):
        for key in LABEL_KEYS:
            value = values.get(key)
            if isinstance(value, int | str) and not isinstance(value, bool):
                return value
    return None


def complete(sample: TarSample, name: str) -> TarSample:
    """Return a sample that has an image and a class; InputError for others."""
    if not sample.image:
        members = ", ".join(f".{extension}" for extension in sorted(sample.members))
        raise InputError(
            f"{name}: the sample {sample.key} has no image, only {members}; "
            f"expected {EXPECTED_IMAGES}: {REPACK}"
        )
    if sample.label is None:
        raise InputError(
            f"{name}: the sample {sample.key} has no class; "
            f"expected a member {sample.key}.cls, or a label in {sample.key}.json: {REPACK}"
        )
    return sample
