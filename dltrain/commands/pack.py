"""`dltrain pack [overrides] --out FOLDER`: writes images into shards, for sets beyond memory.

The folder appears when it is complete. Until then it has a temporary name, and the next call
removes what a killed one left.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
from importlib.util import find_spec
from pathlib import Path

from dltrain.config.check import raise_all
from dltrain.config.compose import compose
from dltrain.config.groups import groups
from dltrain.data.shards.index import KINDS, PARQUET, WEBDATASET
from dltrain.data.shards.pack import Packing, described
from dltrain.data.shards.pack import pack as write_shards
from dltrain.data.shards.storage import INSTALL
from dltrain.errors import UsageError
from dltrain.experiment.costs import configured_data
from dltrain.files import sweep, sync_directory, temporary_name, writing
from dltrain.options import Options, require_choice
from dltrain.shell import shell_word
from dltrain.types import Packs

log = logging.getLogger("dltrain")
DEFAULT_SIZE = "100MB"
SIZE = re.compile(r"(\d+)\s*([KMG])B?", re.IGNORECASE)
UNITS = {"K": 10**3, "M": 10**6, "G": 10**9}
MAX_SHARD_BYTES = 2**40
PARQUET_LIBRARY = "pyarrow"


def pack(options: Options) -> None:
    """Write the samples of a data set into shards in a new folder."""
    out = folder_to_write(options.out)
    kind = options.format or WEBDATASET
    require_choice("--format", kind, KINDS)
    if kind == PARQUET:
        require_library()
    packing = Packing(kind, bytes_of(options.shard_size or DEFAULT_SIZE))
    composed = compose([*named_dataset(options.names), *options.overrides])
    raise_all(composed)
    data = configured_data(composed)
    if not isinstance(data, Packs):
        raise UsageError(
            "this data set cannot be packed: shards hold images of classes, such as those of "
            "dataset=cifar10 or of dataset=image_folder dataset.path=DIR"
        )
    sweep(out.absolute().parent)
    part = temporary_name(out.absolute())
    try:
        with writing(f"--out {out}"):
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir()
        index = write_shards(data, part, packing)
        with writing(f"--out {out}"):
            part.rename(out.absolute())
            sync_directory(out.absolute().parent)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    log.info(f"{out}: {described(index)}")
    log.info(f"next: dltrain dataset=shards {shell_word(f'dataset.path={out}')}")
    options.outcome |= {
        "out": str(out),
        "samples": dict(index.counts),
        "shards": [shard.name for shard in index.shards],
        "bytes": sum(shard.bytes for shard in index.shards),
    }


def folder_to_write(name: str | None) -> Path:
    """Return the folder that --out names; UsageError unless it is new or empty."""
    if name is None:
        raise UsageError("pack needs a folder for the shards: --out FOLDER")
    out = Path(name).expanduser()
    if os.path.lexists(out) and not out.is_dir():
        raise UsageError(f"--out {out}: is a file; name a new folder")
    if not out.absolute().parent.is_dir():
        raise UsageError(f"--out {out}: there is no folder {out.parent}")
    with writing(f"--out {out}"):
        is_used = out.is_dir() and any(out.iterdir())
    if is_used:
        raise UsageError(f"--out {out}: is not empty; name a new folder, or remove what is in it")
    return out


def bytes_of(text: str) -> int:
    """Return the size that --shard-size names in bytes."""
    match = SIZE.fullmatch(text.strip())
    size = 0
    if match:
        size = int(match[1]) * UNITS[match[2].upper()]
    if not 0 < size <= MAX_SHARD_BYTES:
        raise UsageError(f"--shard-size {text}: expected a size such as 500KB, 100MB or 1GB")
    return size


def named_dataset(names: list[str]) -> list[str]:
    """Return the override for the data set that is named as a bare word, if one is."""
    if not names:
        return []
    if names[0] not in groups()["dataset"]:
        raise UsageError(
            f"{names[0]} is not a data set: dltrain list dataset; for a folder of images it is "
            f"dltrain pack dataset=image_folder {shell_word(f'dataset.path={names[0]}')}"
        )
    return [f"dataset={names[0]}"]


def require_library() -> None:
    """Raise UsageError where the library for Parquet files is missing."""
    if find_spec(PARQUET_LIBRARY) is None:
        raise UsageError(f"--format parquet needs pyarrow: {INSTALL}")
