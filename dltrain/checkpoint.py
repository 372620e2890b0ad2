"""Checkpoints: one folder each, committed whole, verified before it is read.

A folder is written under a temporary name in the same directory; every file is fsynced, a manifest with their sha256
comes last, and a rename makes it appear. A committed folder is never written again. Weights are in safetensors, the rest
in plain types that load with `weights_only=True`.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from dltrain import __version__
from dltrain.errors import InputError

MANIFEST = "manifest.json"
WEIGHTS, STATE = "task.safetensors", "state.pt"
FORMAT = 1


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
    """Write `state` (a snapshot; its "task" holds the weights) as the new folder `folder`, or leave nothing."""
    task = state["task"]
    weights = {name: value for name, value in task.items() if isinstance(value, Tensor)}
    rest = {**state, "task": {name: value for name, value in task.items() if name not in weights}}
    buffer = io.BytesIO()
    torch.save(rest, buffer)
    files = {WEIGHTS: safetensors.torch.save(weights), STATE: buffer.getvalue()}
    manifest = {
        "format": FORMAT,
        "dltrain": __version__,
        "torch": torch.__version__,
        **about,
        "files": {n: {"size": len(c), "sha256": hashlib.sha256(c).hexdigest()} for n, c in files.items()},
    }
    files[MANIFEST] = json.dumps(manifest, indent=1).encode()
    temporary = folder.with_name(f".tmp-{folder.name}-{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        for name, content in files.items():
            write_through(temporary / name, content)
        sync_directory(temporary)
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    sync_directory(folder.parent)


def write_through(path: Path, content: bytes) -> None:
    """Write a file and wait until it is on the disk."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def replace_file(path: Path, content: bytes) -> None:
    """Replace a small file so that a reader sees the old content or the new, never part of it."""
    temporary = path.with_name(f".tmp-{path.name}-{os.getpid()}")
    write_through(temporary, content)
    temporary.replace(path)
    sync_directory(path.parent)


def sync_directory(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def load(folder: Path) -> dict[str, Any]:
    """The state in `folder`, on the CPU, after every file's size and hash was checked (InputError otherwise)."""
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
        contents = {}
        for name in (WEIGHTS, STATE):
            contents[name] = (folder / name).read_bytes()
            if hashlib.sha256(contents[name]).hexdigest() != manifest["files"][name]["sha256"]:
                raise InputError(f"{folder / name} is damaged: its sha256 is not the one in the checkpoint's manifest")
        state: dict[str, Any] = torch.load(io.BytesIO(contents[STATE]), map_location="cpu", weights_only=True)
        state["task"] = {**state["task"], **safetensors.torch.load(contents[WEIGHTS])}
    except (OSError, ValueError, KeyError, TypeError, safetensors.SafetensorError) as e:
        raise InputError(f"{folder} is not a whole checkpoint ({type(e).__name__}: {e})") from e
    return state


def is_committed(folder: Path) -> bool:
    return not folder.name.startswith(".") and (folder / MANIFEST).is_file()


class Store:
    """The checkpoints of one run: `<step>/` folders, `stage-<index>-<step>/` end states, pointers `last` and `best`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def steps(self) -> list[Path]:
        """Committed step folders, oldest first."""
        if not self.folder.is_dir():
            return []
        return sorted(f for f in self.folder.iterdir() if f.name[:1].isdigit() and is_committed(f))

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
        """Where `last` or `best` points; `last` falls back to the newest committed folder."""
        path = self.folder / pointer
        target = self.folder / path.read_text().strip() if path.is_file() else None
        if target and target.parent == self.folder and is_committed(target):
            return target
        return next(reversed(self.steps()), None) if pointer == "last" else None

    def stage_ends(self) -> dict[int, dict[str, Any]]:
        """The end states of finished stages, by index; of a stage that was trained longer after its end, the later."""
        ends = {int(end.name.split("-")[1]): end for end in sorted(self.folder.glob("stage-*")) if is_committed(end)}
        return {index: load(end) for index, end in ends.items()}

    def stage_end(self, index: int, step: int) -> Path:
        """Where the end state of stage `index` goes if it ends at `step`."""
        return self.folder / f"stage-{index}-{step:09d}"

    def prune(self, keep: int) -> None:
        """Remove all but the newest `keep` step folders and the one that `best` points to."""
        best = self.pointed("best")
        for folder in self.steps()[:-keep]:
            if folder != best:
                shutil.rmtree(folder, ignore_errors=True)
