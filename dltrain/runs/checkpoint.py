"""Checkpoints: one folder each, committed whole, verified before it is read.

A folder is written under a temporary name in the same directory; every file is fsynced, a manifest with their sha256
comes last, and a rename makes it appear. A committed folder is never written again, and is renamed before it is removed:
under its own name it is whole or not there. Weights are in safetensors, the rest in plain types that load with
`weights_only=True`; what each process has of its own lies in a file a rank.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import re
import shutil
import zipfile
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from dltrain import __version__
from dltrain.errors import InputError, SaveError
from dltrain.files import (
    OLD,
    replace_file,
    sweep,
    sync_directory,
    temporary_name,
    to_json,
    write_through,
)

log = logging.getLogger("dltrain")

MANIFEST = "manifest.json"
WEIGHTS, STATE, RANK = "task.safetensors", "state.pt", "rank-0.pt"
OWN = ("rng",)  # the parts of a state that are one process's
FORMAT = 2
LARGEST_MANIFEST = 2**20  # bytes
DAMAGED = "damaged-"
ATTEMPTS = 20  # to read a checkpoint of a run that is going on, which may remove it meanwhile


def snapshot(value: Any) -> Any:
    """A copy on the CPU of all tensors in `value`: what a writer may take its time over while training goes on."""
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
    if isinstance(value, dict):
        return {key: snapshot(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return type(value)(snapshot(item) for item in value)
    return value


def commit(folder: Path, state: dict[str, Any], about: dict[str, Any]) -> None:
    """Write `state` (a snapshot; its "task" holds the weights) as the new folder `folder`, or leave nothing.

    SaveError, which says how much room it needs and how much there is, where it cannot be written.
    """
    task = state["task"]
    weights = {name: value for name, value in task.items() if isinstance(value, Tensor)}
    rest = {name: value for name, value in state.items() if name not in OWN}
    rest["task"] = {name: value for name, value in task.items() if name not in weights}
    own = {name: state[name] for name in OWN if name in state}
    files = {
        WEIGHTS: safetensors.torch.save(weights),
        STATE: serialized(rest),
        RANK: serialized(own),
    }
    manifest = {
        "format": FORMAT,
        "dltrain": __version__,
        "torch": torch.__version__,
        "world_size": 1,
        **about,
        "files": {
            n: {"size": len(c), "sha256": hashlib.sha256(c).hexdigest()} for n, c in files.items()
        },
    }
    files[MANIFEST] = sealed(manifest)
    temporary = temporary_name(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary.mkdir()
        for name, content in files.items():
            write_through(temporary / name, content)
        sync_directory(temporary)
        temporary.rename(folder)
        sync_directory(folder.parent)
    except OSError as e:
        raise SaveError(folder, e, sum(map(len, files.values()))) from e
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def serialized(value: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def load(folder: Path) -> dict[str, Any]:
    """The state in `folder`, on the CPU, after every file's size and hash was checked (InputError otherwise)."""
    try:
        contents = read(folder)
        state = {
            **unpickled(folder / STATE, contents[STATE]),
            **unpickled(folder / RANK, contents[RANK]),
        }
        state["task"] = {**state["task"], **safetensors.torch.load(contents[WEIGHTS])}
        check_tensors(state)
    except InputError:
        raise
    except Exception as e:  # a manifest may fit and the files still hold anything at all
        first = " ".join(str(e).split())[:200]
        raise InputError(f"{folder} is not a whole checkpoint ({type(e).__name__}: {first})") from e
    return state


def read(folder: Path) -> dict[str, bytes]:
    """The files of a checkpoint; InputError, or whatever a strange manifest leads to, where they are not as that says."""
    manifest = read_manifest(folder)
    if manifest["format"] != FORMAT:
        raise InputError(
            f"{folder} has format {manifest['format']}; this dltrain reads format {FORMAT}"
        )
    contents = {}
    for name in (WEIGHTS, STATE, RANK):
        wanted = manifest["files"][name]
        require_regular(folder / name)
        size = (folder / name).stat().st_size
        if size != wanted["size"]:
            raise InputError(
                f"{folder / name} is damaged: {size:,} bytes, and {wanted['size']:,} were written"
            )
        contents[name] = (folder / name).read_bytes()
        if hashlib.sha256(contents[name]).hexdigest() != wanted["sha256"]:
            raise InputError(
                f"{folder / name} is damaged: its sha256 is not the one in the checkpoint's manifest"
            )
    return contents


def read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    require_regular(path)
    if path.stat().st_size > LARGEST_MANIFEST:
        raise InputError(
            f"{path} is no checkpoint's manifest: it has {path.stat().st_size:,} bytes"
        )
    content = path.read_bytes()
    manifest: dict[str, Any] = json.loads(content)
    if manifest.pop("seal", None) is None or sealed(manifest) != content:
        raise InputError(f"{path} is damaged: its seal does not fit its content")
    return manifest


def require_regular(path: Path) -> None:
    """InputError for a file that is not there, or is a pipe or a device, which might never end."""
    if not path.is_file():
        raise InputError(f"{path} is not there, or is no regular file")


def sealed(manifest: dict[str, Any]) -> bytes:
    """A manifest as text, with the sha256 of the rest of it at its end."""
    seal = hashlib.sha256(to_json(manifest, indent=1).encode()).hexdigest()
    return to_json({**manifest, "seal": seal}, indent=1).encode()


def unpickled(path: Path, content: bytes) -> Any:
    """Plain types and tensors. Compressed content is refused: dltrain writes none, and little of it may become a lot."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
            raise InputError(f"{path} is no file of dltrain's: its content is compressed")
    return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)


def check_tensors(value: Any) -> None:
    """ValueError for a tensor that claims more than is stored: one number, repeated, can be given any size."""
    if isinstance(value, Tensor):
        plain = value.layout == torch.strided and value.device.type == "cpu"
        if not plain or value.numel() * value.element_size() > value.untyped_storage().nbytes():
            raise ValueError(f"a tensor of shape {tuple(value.shape)} has not as many numbers")
    elif isinstance(value, dict):
        for item in value.values():
            check_tensors(item)
    elif isinstance(value, tuple | list):
        for item in value:
            check_tensors(item)


def is_committed(folder: Path) -> bool:
    return not folder.name.startswith(".") and (folder / MANIFEST).is_file()


class Store:
    """The checkpoints of one run: `<step>/` folders, `stage-<index>-<step>/` end states, pointers `last` and `best`.

    The pointers are for readers: they can be found again from the manifests, which say what each folder was saved as.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def steps(self) -> list[Path]:
        """Committed step folders, oldest first."""
        if not self.folder.is_dir():
            return []
        return sorted(f for f in self.folder.iterdir() if f.name[:1].isdigit() and is_committed(f))

    def begun(self) -> list[Path]:
        """All step folders, oldest first, also those that have lost their manifest."""
        found = self.folder.iterdir() if self.folder.is_dir() else ()
        return sorted(f for f in found if f.name[:1].isdigit() and f.is_dir())

    def new_name(self, step: int) -> str:
        """A name for a checkpoint at `step` that no committed one has, in order after those at the same step."""
        name, again = f"{step:09d}", 0
        while (self.folder / name).exists():
            again += 1
            name = f"{step:09d}.{again}"
        return name

    def point(self, pointer: str, name: str) -> None:
        replace_file(self.folder / pointer, name.encode())

    def pointed(self, pointer: str) -> Path | None:
        """Where `last` or `best` points; where the pointer is lost, the newest that it can have been."""
        path = self.folder / pointer
        target = (
            self.folder / path.read_text(errors="replace").strip()[:64] if path.is_file() else None
        )
        if target and target.parent == self.folder and is_committed(target):
            return target
        return self.derived(pointer)

    def derived(self, pointer: str) -> Path | None:
        """The newest folder, or the newest that was saved as the best, whatever the pointers say."""
        steps = self.steps()
        if pointer == "last":
            return steps[-1] if steps else None
        return next((folder for folder in reversed(steps) if pointer in saved_as(folder)), None)

    def read(self, pointer: str) -> tuple[Path, dict[str, Any]] | None:
        """The folder that `last` or `best` means and its state, also while a run goes on that removes old ones."""
        for attempt in range(ATTEMPTS):
            folder = self.pointed(pointer)
            if folder is None:
                return None
            try:
                return folder, load(folder)
            except InputError:
                if folder.exists() or attempt == ATTEMPTS - 1:
                    raise
        return None

    def recover(self) -> Path | None:
        """Make the store whole after whatever happened to its writer, and say where it stands: the newest whole folder.

        For the one who writes from now on. Leftovers are removed and damaged folders set aside, with a line; pointers are
        found again. InputError if there are checkpoints, and none is whole.
        """
        sweep(self.folder)
        steps, whole = self.begun(), []
        for folder in steps:
            try:
                load(folder)
                whole.append(folder)
            except InputError as e:
                log.warning(str(e))
                self.set_aside(folder)
        if steps and not whole:
            raise InputError(
                f"{self.folder}: every checkpoint is damaged ({', '.join(f.name for f in steps)})"
            )
        if steps and whole[-1] != steps[-1]:
            log.warning(f"falling back to the checkpoint before: {whole[-1].name}")
        for pointer in ("last", "best"):
            found = self.derived(pointer)
            if found is not None:
                self.point(pointer, found.name)
            else:
                (self.folder / pointer).unlink(missing_ok=True)
        return whole[-1] if whole else None

    def set_aside(self, folder: Path) -> None:
        """Keep a damaged folder under a name that nobody reads."""
        aside, again = folder.with_name(DAMAGED + folder.name), 0
        while aside.exists():
            again += 1
            aside = folder.with_name(f"{DAMAGED}{folder.name}.{again}")
        folder.rename(aside)

    def stage_ends(self, before: int | None = None) -> dict[int, dict[str, Any]]:
        """The end states of finished stages, by index (only those `before` one, if it is given); of a stage that was
        trained longer after its end, the later."""
        ends = {int(end.name.split("-")[1]): end for end in self.ended() if is_committed(end)}
        return {index: load(end) for index, end in ends.items() if before is None or index < before}

    def ended(self) -> list[Path]:
        """The folders of end states."""
        return sorted(
            end for end in self.folder.glob("stage-*") if re.fullmatch(r"stage-\d+-\d+", end.name)
        )

    def stage_end(self, index: int, step: int) -> Path:
        """Where the end state of stage `index` goes if it ends at `step`."""
        return self.folder / f"stage-{index}-{step:09d}"

    def forget_stage_ends(self, index: int) -> None:
        """Remove the end states of stage `index` and later ones: they are going to end anew."""
        for end in self.ended():
            if int(end.name.split("-")[1]) >= index:
                self.remove(end)

    def prune(self, keep: int) -> None:
        """Remove all but the newest `keep` step folders and the one that `best` points to."""
        best = self.pointed("best")
        for folder in self.steps()[:-keep]:
            if folder != best:
                self.remove(folder)

    def remove(self, folder: Path) -> None:
        """Take a folder away under another name first: what has its own name is whole."""
        aside = temporary_name(folder, OLD)
        folder.rename(aside)
        shutil.rmtree(aside, ignore_errors=True)


def saved_as(folder: Path) -> list[str]:
    """The pointers that a folder was saved for; none if its manifest cannot be read."""
    try:
        points: list[str] = read_manifest(folder).get("points", [])
    except (OSError, ValueError, AttributeError, KeyError, TypeError, InputError, RecursionError):
        return []
    return points
