"""Fetching data sets that are absent: with a checksum, or a clear word on which files go where."""

from __future__ import annotations

import tarfile
from pathlib import Path

from dltrain.errors import InputError


def fetch(mirrors: tuple[str, ...], files: dict[str, str], folder: Path, instead: str = "") -> None:
    """Download each of `files` ({name: md5}) into `folder` from the first mirror that has it.

    Files already there with the right checksum are kept. InputError, naming the files and the folder, where a file
    cannot be had.
    """
    from torchvision.datasets.utils import check_integrity, download_url  # only those who download wait for it

    for name, md5 in files.items():
        reasons, part = [], folder / f".{name}.part"
        for mirror in mirrors:
            if check_integrity(str(folder / name), md5):
                break
            try:
                folder.mkdir(parents=True, exist_ok=True)
                download_url(mirror + name, str(folder), part.name, md5)
                part.replace(folder / name)
            except (OSError, RuntimeError, ValueError) as e:
                reasons.append(f"{mirror}: {e}")
            finally:
                part.unlink(missing_ok=True)  # a file with the wrong content is never left under the right name
        if not check_integrity(str(folder / name), md5):
            wanted = "\n".join(f"  {n}  (md5 {m})" for n, m in files.items())
            raise InputError(
                f"the data set is not here and could not be downloaded ({'; '.join(reasons)}).\n"
                f"Put these files into {folder.resolve()}{' ' + instead if instead else ''}\n{wanted}\n"
                "or point paths.data (or the environment's DLTRAIN_DATA) at the folder that holds the data sets"
            )


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a tar file into `folder`; members that would leave it are refused (InputError)."""
    try:
        with tarfile.open(archive) as tar:
            tar.extractall(folder, filter="data")
    except (tarfile.TarError, OSError, EOFError) as e:
        raise InputError(f"{archive} cannot be unpacked ({e}); delete it to download it again") from e
