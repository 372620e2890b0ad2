"""Archives that would do harm, are damaged or hold more than was asked for."""

from __future__ import annotations

import gzip
import io
import os
import resource
import shutil
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
from states import left

from dltrain.data.io.archive import unpack
from dltrain.errors import InputError

MOST = 100_000


def tar(
    path: Path, *members: tuple[str, bytes, dict[str, Any]], pax: dict[str, str] | None = None
) -> Path:
    """An archive of (name, content, fields of its header) each."""
    with tarfile.open(path, "w:gz", pax_headers=pax or {}) as file:
        for name, content, fields in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            for field, value in fields.items():
                setattr(member, field, value)
            file.addfile(member, io.BytesIO(content))
    return path


GOOD = ("set/a.bin", b"a" * 5000, {})
EVIL: dict[str, tuple[str, bytes, dict[str, Any]]] = {
    "above": ("../outside", b"evil", {}),
    "above by a detour": ("set/../../outside", b"evil", {}),
    "link to above": ("set/link", b"", {"type": tarfile.SYMTYPE, "linkname": "../../outside"}),
    "link to an absolute place": (
        "set/link",
        b"",
        {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"},
    ),
    "hard link to above": ("set/link", b"", {"type": tarfile.LNKTYPE, "linkname": "../outside"}),
    "pipe": ("set/pipe", b"", {"type": tarfile.FIFOTYPE}),
    "device": ("set/device", b"", {"type": tarfile.CHRTYPE, "devmajor": 1, "devminor": 3}),
    "bomb": ("set/zeros", bytes(4_000_000), {}),
    "bomb under the right name": ("set/a.bin", bytes(4_000_000), {}),
    "link under the right name": ("set/a.bin", b"", {"type": tarfile.SYMTYPE, "linkname": "b.bin"}),
    "folder under the right name": ("set/a.bin", b"", {"type": tarfile.DIRTYPE}),
}


@pytest.mark.parametrize("kind", EVIL)
@pytest.mark.parametrize("first", [True, False])
def test_an_archive_that_would_do_harm_is_refused(kind: str, first: bool, tmp_path: Path) -> None:
    """Whatever else is in it: exit 3, and no file of it anywhere."""
    members = (
        [EVIL[kind]]
        if "right name" in kind
        else [EVIL[kind], GOOD]
        if first
        else [GOOD, EVIL[kind]]
    )
    archive = tar(tmp_path / "evil.tar.gz", *members)
    with pytest.raises(InputError, match=r"cannot be unpacked .*; delete it to download it again"):
        unpack(archive, ["set/a.bin"], tmp_path / "data" / "set", MOST)
    assert left(tmp_path) == {"evil.tar.gz", "data"}
    assert left(tmp_path / "data") == set()


def test_a_bomb_of_headers_or_of_nothing_takes_no_memory(tmp_path: Path) -> None:
    """A gigabyte of a header's text, or of zeros after the end, packed into a megabyte."""
    with gzip.open(tmp_path / "header.tar.gz", "wb", compresslevel=1) as file:
        member = tarfile.TarInfo("x")
        member.type, member.size = tarfile.XHDTYPE, 2**30
        file.write(member.tobuf(tarfile.USTAR_FORMAT))
        for _ in range(64):
            file.write(b"1" * 2**20)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InputError, match="larger than the data set"):
        unpack(tmp_path / "header.tar.gz", ["set/a.bin"], tmp_path / "set", MOST)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 30_000  # KiB


def test_a_zip_bomb_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("set/a.bin", bytes(10_000_000))
    with pytest.raises(InputError, match="larger than the data set"):
        unpack(tmp_path / "x.zip", ["set/a.bin"], tmp_path / "set", MOST)
    assert left(tmp_path) == {"x.zip"}


@pytest.mark.parametrize("kind", [".tar.gz", ".zip"])
def test_only_what_is_asked_for_is_unpacked(kind: str, tmp_path: Path) -> None:
    """All of it or nothing; what a killed process left is swept; other files of the folder stay."""
    archive = tmp_path / f"x{kind}"
    if kind == ".zip":
        with zipfile.ZipFile(archive, "w") as file:
            for name, content in ((GOOD[0], GOOD[1]), ("set/readme.html", b"hello")):
                file.writestr(name, content)
    else:
        tar(
            archive,
            ("set", b"", {"type": tarfile.DIRTYPE}),
            ("set/readme.html", b"hello", {}),
            GOOD,
        )
    folder = tmp_path / "set"
    with pytest.raises(InputError, match=r"it has no set/b\.bin"):
        unpack(archive, ["set/a.bin", "set/b.bin"], folder, MOST)
    assert left(tmp_path) == {archive.name}
    (tmp_path / ".set.part").mkdir()
    (tmp_path / ".set.part" / "half.bin").write_bytes(b"half")
    unpack(archive, ["set/a.bin"], folder, MOST)
    assert left(folder) == {"a.bin"}
    (folder / "a.bin").unlink()
    (folder / "mine.txt").write_text("mine")
    unpack(archive, ["set/a.bin"], folder, MOST)
    assert left(folder) == {"a.bin", "mine.txt"}
    assert (folder / "a.bin").read_bytes() == GOOD[1]
    assert left(tmp_path) == {archive.name, "set"}


@pytest.mark.parametrize("kind", [".tar.gz", ".zip"])
def test_a_damaged_archive_is_refused(kind: str, tmp_path: Path) -> None:
    """An archive cut anywhere, or with a byte changed: exit 3, or the right content."""
    content = os.urandom(3000)
    archive = tmp_path / f"x{kind}"
    if kind == ".zip":
        with zipfile.ZipFile(archive, "w") as file:
            file.writestr("set/a.bin", content)
    else:
        tar(archive, ("set/a.bin", content, {}))
    good = archive.read_bytes()
    damaged = [good[:cut] for cut in range(0, len(good) - 1, 97)]
    damaged += [
        good[:at] + bytes([good[at] ^ 64]) + good[at + 1 :] for at in range(0, len(good), 31)
    ]
    damaged += [b"", b"not an archive", b"<html></html>" * 100]
    refused = 0
    for broken in damaged:
        archive.write_bytes(broken)
        try:
            unpack(archive, ["set/a.bin"], tmp_path / "set", MOST)
            assert (tmp_path / "set" / "a.bin").read_bytes() == content
        except InputError:
            refused += 1
        shutil.rmtree(tmp_path / "set", ignore_errors=True)
    assert refused > 0.9 * len(damaged)
