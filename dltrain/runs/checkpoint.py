"""Checkpoints: one folder each, committed whole, verified before it is read.

A folder is written under a temporary name in the same directory. Every file is fsynced, a manifest
with their sha256 comes last, and a rename makes the folder appear. A committed folder is never
written again, and is renamed before it is removed: under its own name it is whole or absent.

Weights are stored as safetensors, the rest in plain types that load with `weights_only=True`.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import re
import shutil
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import count
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
WEIGHTS = "task.safetensors"
STATE = "state.pt"
GENERATORS = "rank-0.pt"  # of random numbers; the name is that of format 2
GENERATORS_KEY = "rng"  # of a state
FILES = (WEIGHTS, STATE, GENERATORS)
FORMAT = 2
MAX_MANIFEST_BYTES = 2**20
MAX_REASON_CHARS = 200
MAX_POINTER_CHARS = 64
EPOCH = "epoch:"  # begins the name of the checkpoint at the end of an epoch
STEP_NAME = re.compile(r"\d+(\.\d+)?")
RANKED = re.compile(r"best-([1-9]\d{0,8})")
DAMAGED = "damaged-"  # begins the name of a folder that nobody reads
MAX_READ_ATTEMPTS = 20  # while the run trains, which may remove the checkpoint meanwhile


def snapshot(value: Any) -> Any:
    """Return a copy of `value` with all tensors on the CPU, which training does not change."""
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
    if isinstance(value, dict):
        return {key: snapshot(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return type(value)(snapshot(item) for item in value)
    return value


def commit(folder: Path, state: dict[str, Any], about: dict[str, Any]) -> None:
    """Write `state` as the new folder `folder`, or leave nothing.

    `state` is a snapshot, whose "task" holds the weights; `about` are further keys of the manifest.
    Raises SaveError, with the space needed and free, if the folder cannot be written.
    """
    files = state_files(state)
    manifest = {
        "format": FORMAT,
        "dltrain": __version__,
        "torch": torch.__version__,
        **about,
        "files": {name: _fingerprint(content) for name, content in files.items()},
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


def state_files(state: dict[str, Any]) -> dict[str, bytes]:
    """Return the content of a checkpoint's files by name, without the manifest."""
    weights: dict[str, Tensor] = {}
    other_task_keys: dict[str, Any] = {}
    for name, value in state["task"].items():
        if isinstance(value, Tensor):
            weights[name] = value
        else:
            other_task_keys[name] = value
    rest = {name: value for name, value in state.items() if name != GENERATORS_KEY}
    generators = {name: value for name, value in state.items() if name == GENERATORS_KEY}
    return {
        WEIGHTS: safetensors.torch.save(weights),
        STATE: serialized({**rest, "task": other_task_keys}),
        GENERATORS: serialized(generators),
    }


def _fingerprint(content: bytes) -> dict[str, Any]:
    return {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def serialized(value: Any) -> bytes:
    """Return plain types and tensors as the content of a file."""
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def load(folder: Path) -> dict[str, Any]:
    """Return the state in `folder`, on the CPU; InputError if a file is not as it was written."""
    try:
        contents = read(folder)
        state = {
            **unpickled(folder / STATE, contents[STATE]),
            **unpickled(folder / GENERATORS, contents[GENERATORS]),
        }
        state["task"] = {**state["task"], **safetensors.torch.load(contents[WEIGHTS])}
        check_tensors(state)
    except InputError:
        raise
    except Exception as e:  # a manifest may fit, and the files may still hold anything
        reason = " ".join(str(e).split())[:MAX_REASON_CHARS]
        raise InputError(
            f"{folder} is not a whole checkpoint ({type(e).__name__}: {reason})"
        ) from e
    return state


def read(folder: Path) -> dict[str, bytes]:
    """Return the content of a checkpoint's files, compared to the manifest.

    Raises InputError for files that differ from it, and any error that a strange manifest causes.
    """
    manifest = read_manifest(folder)
    if manifest["format"] != FORMAT:
        raise InputError(
            f"{folder} has format {manifest['format']}; this dltrain reads format {FORMAT}"
        )
    return {name: read_verified(folder / name, manifest["files"][name]) for name in FILES}


def read_verified(path: Path, written: dict[str, Any]) -> bytes:
    """Return the content of a file; InputError unless it has the size and hash that it had."""
    require_regular(path)
    size = path.stat().st_size
    if size != written["size"]:
        raise InputError(f"{path} is damaged: {size:,} bytes, and {written['size']:,} were written")
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != written["sha256"]:
        raise InputError(
            f"{path} is damaged: its sha256 is not the one in the checkpoint's manifest"
        )
    return content


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest of a checkpoint; InputError if it is damaged."""
    path = folder / MANIFEST
    require_regular(path)
    size = path.stat().st_size
    if size > MAX_MANIFEST_BYTES:
        raise InputError(f"{path} is not a checkpoint's manifest: it has {size:,} bytes")
    content = path.read_bytes()
    manifest: dict[str, Any] = json.loads(content)
    if manifest.pop("seal", None) is None or sealed(manifest) != content:
        raise InputError(f"{path} is damaged: its seal does not fit its content")
    return manifest


def require_regular(path: Path) -> None:
    """Raise InputError for an absent file, and for a pipe or device, which might never end."""
    if not path.is_file():
        raise InputError(f"{path} is absent or not a regular file")


def sealed(manifest: dict[str, Any]) -> bytes:
    """Return a manifest as JSON, with the sha256 of the rest of it as its last key."""
    seal = hashlib.sha256(to_json(manifest, indent=1).encode()).hexdigest()
    return to_json({**manifest, "seal": seal}, indent=1).encode()


def unpickled(path: Path, content: bytes) -> Any:
    """Return the plain types and tensors in a file.

    Compressed content is refused: dltrain writes none, and a small file could fill the memory.
    """
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
            raise InputError(f"{path} is not a file of dltrain's: its content is compressed")
    return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)


def check_tensors(value: Any) -> None:
    """Raise ValueError for a tensor that claims more numbers than are stored.

    One stored number, repeated by a stride of 0, can be given any size.
    """
    if isinstance(value, Tensor):
        _check_tensor(value)
        return
    items: Iterable[Any] = ()
    if isinstance(value, dict):
        items = value.values()
    elif isinstance(value, tuple | list):
        items = value
    for item in items:
        check_tensors(item)


def _check_tensor(value: Tensor) -> None:
    is_plain = value.layout == torch.strided and value.device.type == "cpu"
    needed = value.numel() * value.element_size()
    if not is_plain or needed > value.untyped_storage().nbytes():
        raise ValueError(f"a tensor of shape {tuple(value.shape)} has not as many numbers")


def is_committed(folder: Path) -> bool:
    """Tell if a folder is a checkpoint with a manifest."""
    return not folder.name.startswith(".") and (folder / MANIFEST).is_file()


@dataclass(frozen=True)
class SavedCheckpoint:
    """A committed checkpoint, and its place in training and its evaluation by its manifest.

    `rank` is the watched metric with the sign that makes higher better; None if the state was not
    evaluated. `kept` is True for a checkpoint that is never removed.
    """

    folder: Path
    about: dict[str, Any] = field(default_factory=dict)

    @property
    def step(self) -> int:
        """The number of steps made."""
        return int(self.folder.name.partition(".")[0])

    @property
    def epochs_done(self) -> int | None:
        """The number of the epoch that just ended; None within an epoch."""
        epoch = self.about.get("epoch")
        if not isinstance(epoch, int) or self.about.get("position") != 0:
            return None
        return epoch

    @property
    def rank(self) -> float | None:
        """The watched metric, higher is better; None without an evaluation."""
        rank = self.about.get("rank")
        return rank if isinstance(rank, float) else None

    @property
    def contest(self) -> tuple[Any, Any]:
        """The stage and the metric; ranks of others cannot be compared."""
        return self.about.get("stage"), self.about.get("metric")

    @property
    def kept(self) -> bool:
        """True if it is never removed."""
        return self.about.get("kept") is True


class Store:
    """The checkpoints of one run.

    There are `<step>/` folders, `stage-<index>-<step>/` folders of end states, and the pointers
    `last`, `best`, and `best-2` and so on where `keep_best` is the number of best ones to keep.
    Lost pointers are restored from the manifests, which say what each folder was saved as.
    """

    def __init__(self, folder: Path, keep_best: int = 1) -> None:
        self.folder = folder
        self.keep_best = keep_best
        self._manifests: dict[str, dict[str, Any]] = {}  # of committed folders, which never change

    def steps(self) -> list[Path]:
        """Return the committed step folders, oldest first."""
        return [folder for folder in self.step_folders() if is_committed(folder)]

    def step_folders(self) -> list[Path]:
        """Return all step folders, oldest first, also those without a manifest."""
        if not self.folder.is_dir():
            return []
        numbered = (path for path in self.folder.iterdir() if path.name[:1].isdigit())
        return sorted(path for path in numbered if path.is_dir())

    def saved(self) -> list[SavedCheckpoint]:
        """Return the committed checkpoints, oldest first; folders with other names are nobody's."""
        named = [folder for folder in self.steps() if STEP_NAME.fullmatch(folder.name)]
        return [SavedCheckpoint(folder, self._manifest(folder)) for folder in named]

    def _manifest(self, folder: Path) -> dict[str, Any]:
        """Return a folder's manifest; empty if it cannot be read."""
        if folder.name not in self._manifests:
            self._manifests[folder.name] = manifest_or_nothing(folder)
        return self._manifests[folder.name]

    def ranked(self, contest: tuple[Any, Any] | None = None) -> list[SavedCheckpoint]:
        """Return the evaluated checkpoints of a stage and metric, the best first.

        By default these are those of the newest evaluation. Of equal ones the later is better; a
        step that was saved twice counts once.
        """
        evaluated = [saved for saved in self.saved() if saved.rank is not None]
        if contest is None and evaluated:
            contest = evaluated[-1].contest
        by_step = {saved.step: saved for saved in evaluated if saved.contest == contest}
        return sorted(by_step.values(), key=lambda saved: (saved.rank, saved.step), reverse=True)

    def new_name(self, step: int) -> str:
        """Return a free name for a checkpoint at `step`, in order after those at the same step."""
        return free_path(self.folder / f"{step:09d}").name

    def point(self, pointer: str, name: str) -> None:
        """Let `last` or `best` point to a folder."""
        replace_file(self.folder / pointer, name.encode())

    def pointed(self, pointer: str) -> Path | None:
        """Return the folder that `last` or `best` points to; from the manifests if that is lost.

        `best-2` and so on always follow from the manifests.
        """
        place = RANKED.fullmatch(pointer)
        if place:
            following = self.ranked()[int(place[1]) - 1 :]
            return following[0].folder if following else None
        path = self.folder / pointer
        if path.is_file():
            name = path.read_text(errors="replace").strip()[:MAX_POINTER_CHARS]
            target = self.folder / name
            if target.parent == self.folder and is_committed(target):
                return target
        return self.derived(pointer)

    def derived(self, pointer: str) -> Path | None:
        """Return the newest folder, or the newest that was saved as the best, by the manifests."""
        for folder in reversed(self.steps()):
            if pointer == "last" or pointer in saved_as(folder):
                return folder
        return None

    def read(self, pointer: str) -> tuple[Path, dict[str, Any]] | None:
        """Return the folder that `last` or `best` means and its state; None if there is none.

        It also works while the run trains, and removes old checkpoints.
        """
        for attempt in range(MAX_READ_ATTEMPTS):
            folder = self.pointed(pointer)
            if folder is None:
                return None
            try:
                return folder, load(folder)
            except InputError:
                if folder.exists() or attempt == MAX_READ_ATTEMPTS - 1:
                    raise
        return None

    def recover(self) -> Path | None:
        """Repair the store for a new writer, and return the newest whole folder, if there is one.

        Unfinished files are removed, damaged folders are set aside with a warning, and pointers are
        restored. Raises InputError if there are checkpoints, and none is whole.
        """
        sweep(self.folder)
        steps = self.step_folders()
        whole = [folder for folder in steps if self.is_whole_or_set_aside(folder)]
        if steps and not whole:
            names = ", ".join(folder.name for folder in steps)
            raise InputError(f"{self.folder}: every checkpoint is damaged ({names})")
        self.restore_pointers()
        newest = self.derived("last")
        if newest is not None and newest != steps[-1]:
            log.warning(f"falling back to the checkpoint before: {newest.name}")
        return newest

    def restore_pointers(self) -> None:
        """Let `last`, `best` and those after it point to what the manifests say."""
        for pointer in ("last", "best"):
            target = self.derived(pointer)
            if target is not None:
                self.point(pointer, target.name)
            else:
                (self.folder / pointer).unlink(missing_ok=True)
        for path in self._ranked_pointers():
            target = self.pointed(path.name)
            if target is not None:
                self.point(path.name, target.name)
            else:
                path.unlink(missing_ok=True)

    def _ranked_pointers(self) -> list[Path]:
        """Return the files best-2 and so on."""
        return [path for path in self.folder.glob("best-*") if RANKED.fullmatch(path.name)]

    def point_to_ranked(self) -> None:
        """Let `best-2` and so on point to the checkpoints after the best one."""
        targets = {
            f"best-{number}": saved.folder.name
            for number, saved in enumerate(self.ranked()[: self.keep_best], 1)
        }
        targets.pop("best-1", None)  # that is `best`
        now = {path.name: path.read_text(errors="replace") for path in self._ranked_pointers()}
        for name in now.keys() - targets.keys():
            (self.folder / name).unlink(missing_ok=True)
        for name, target in targets.items() - now.items():
            self.point(name, target)

    def is_whole_or_set_aside(self, folder: Path) -> bool:
        """Tell if a folder is whole; rename a damaged one so that nobody reads it."""
        try:
            load(folder)
        except InputError as e:
            log.warning(str(e))
            folder.rename(free_path(folder.with_name(DAMAGED + folder.name)))
            return False
        return True

    def stage_ends(self, before: int | None = None) -> dict[int, dict[str, Any]]:
        """Return the end states of finished stages by index, only those of stages `before` one.

        If a stage was trained longer after its end, its later end state counts.
        """
        folders = {stage_of(end): end for end in self.stage_end_folders() if is_committed(end)}
        ends = {}
        for index, folder in folders.items():
            if before is None or index < before:
                ends[index] = load(folder)
        return ends

    def stage_end_folders(self) -> list[Path]:
        """Return the folders of end states, in order."""
        folders = self.folder.glob("stage-*")
        return sorted(path for path in folders if re.fullmatch(r"stage-\d+-\d+", path.name))

    def stage_end(self, index: int, step: int) -> Path:
        """Return the folder for the end state of stage `index` that ends at `step`."""
        return self.folder / f"stage-{index}-{step:09d}"

    def forget_stage_ends(self, index: int) -> None:
        """Remove the end states of stage `index` and later ones, which will be trained again."""
        for folder in self.stage_end_folders():
            if stage_of(folder) >= index:
                self.remove(folder)

    def named(self, name: str) -> Path | None:
        """Return the newest checkpoint of a name; None if there is none.

        A name is last, best, best-2 and so on, a step such as 300, or epoch:3 for the end of that
        epoch.
        """
        if name.isdecimal():
            fitting = [saved for saved in self.saved() if saved.step == int(name)]
        elif name.startswith(EPOCH):
            number = name.removeprefix(EPOCH)
            fitting = [saved for saved in self.saved() if str(saved.epochs_done) == number]
        else:
            return self.pointed(name)
        return fitting[-1].folder if fitting else None

    def names(self) -> list[str]:
        """Return the names by which checkpoints can be loaded."""
        pointers = ["best", "last", *(f"best-{number}" for number in self._places())]
        existing = [name for name in pointers if self.pointed(name) is not None]
        return [*existing, *unique(self._step_names()), *unique(self._epoch_names())]

    def _places(self) -> range:
        """Return the numbers of the checkpoints after the best one, from 2 on."""
        return range(2, len(self.ranked()) + 1)

    def _step_names(self) -> list[str]:
        return [str(saved.step) for saved in self.saved()]

    def _epoch_names(self) -> list[str]:
        return [f"{EPOCH}{saved.epochs_done}" for saved in self.saved() if saved.epochs_done]

    def prune(self, keep: int) -> None:
        """Remove all but the newest `keep` step folders, the best ones, and those kept forever."""
        saved = self.saved()
        lasting = {self.pointed("best"), *(each.folder for each in saved if each.kept)}
        if self.keep_best > 1:
            lasting.update(each.folder for each in self.ranked()[: self.keep_best])
        for each in saved[:-keep]:
            if each.folder not in lasting:
                self.remove(each.folder)

    def remove(self, folder: Path) -> None:
        """Remove a folder; it is renamed first, so that a folder with its own name is whole."""
        aside = temporary_name(folder, OLD)
        folder.rename(aside)
        shutil.rmtree(aside, ignore_errors=True)


def stage_of(folder: Path) -> int:
    """Return the index of the stage whose end state is in `folder`."""
    return int(folder.name.split("-")[1])


def free_path(path: Path) -> Path:
    """Return `path`, with a number at its end if that name is taken."""
    candidate = path
    numbers = count(1)
    while candidate.exists():
        candidate = path.with_name(f"{path.name}.{next(numbers)}")
    return candidate


def unique(names: Iterable[str]) -> list[str]:
    """Return each of the names once, in their order."""
    return list(dict.fromkeys(names))


def saved_as(folder: Path) -> list[str]:
    """Return the pointers that a folder was saved for; none if its manifest cannot be read."""
    points = manifest_or_nothing(folder).get("points", [])
    return points if isinstance(points, list) else []


def manifest_or_nothing(folder: Path) -> dict[str, Any]:
    """Return a checkpoint's manifest; empty if it cannot be read."""
    try:
        return read_manifest(folder)
    except (OSError, ValueError, AttributeError, KeyError, TypeError, InputError, RecursionError):
        return {}
