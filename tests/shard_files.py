"""Small sets in shards: packed from a folder of pictures, or written as other programs do."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

from small_pictures import COLORS, lay, picture

from dltrain.data.images.image_folder import ImageFolder
from dltrain.data.shards.index import WEBDATASET
from dltrain.data.shards.pack import Packing, pack
from dltrain.data.shards.shards import Shards

SHARD_BYTES = {"webdataset": 12_000, "parquet": 3_000}  # for about six of the pictures


def folder(path: str = "pets", **more: Any) -> ImageFolder:
    return ImageFolder(Path("data"), path, **more)


def shards(path: str = "packed", **more: Any) -> Shards:
    return Shards(Path("data"), path, **more)


def packed(kind: str = WEBDATASET, to: str = "packed", **counts: int) -> str:
    """Lay out pictures in pets/SET/CLASS, and pack them; return the folder of the shards."""
    for name, count in (counts or {"train": 24, "test": 6}).items():
        lay(Path("pets") / name, count=count)
    return pack_folder("pets", kind, to)


def pack_folder(path: str, kind: str = WEBDATASET, to: str = "packed") -> str:
    Path(to).mkdir()
    pack(folder(path), Path(to), Packing(kind, SHARD_BYTES[kind]))
    return to


def png(seed: int, name: str = "cat") -> bytes:
    buffer = io.BytesIO()
    picture(COLORS[name], seed=seed).save(buffer, "PNG")
    return buffer.getvalue()


def write_tar(path: Path, members: dict[str, bytes]) -> None:
    """Write a tar file as Python does, with members in this order."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            about = tarfile.TarInfo(name)
            about.size = len(content)
            archive.addfile(about, io.BytesIO(content))


def foreign_members(count: int = 6, first: int = 0, label: str = "cls") -> dict[str, bytes]:
    """Members of samples of two classes in turn."""
    members = {}
    for i in range(first, first + count):
        name = ("cat", "dog")[i % 2]
        label_of = {"cls": str(i % 2), "cls.txt": name, "json": f'{{"label": {i % 2}}}'}
        members[f"a/{i:04}.png"] = png(i, name)
        members[f"a/{i:04}.{label}"] = label_of[label].encode()
        members[f"a/{i:04}.caption"] = b"left alone"
    return members
