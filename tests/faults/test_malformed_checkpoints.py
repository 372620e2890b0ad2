"""Malformed checkpoints and run folders: exit 3 in a line or two, without a traceback.

DLTRAIN_FAULTS=full draws more places to damage and prints the figures.
"""

from __future__ import annotations

import copy
import io
import json
import pickle
import random
import shutil
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from malformed import (
    DRAWS,
    FULL,
    OTHER_KINDS,
    PLACES,
    Evil,
    count,
    flipped,
    png,
    some,
    truncated,
    zeroed,
)

from dltrain.runs import checkpoint
from dltrain.runs.checkpoint import GENERATORS, MANIFEST, STATE, WEIGHTS, sealed, serialized

pytestmark = pytest.mark.usefixtures("figures")


def folders(run: Path) -> list[Path]:
    return sorted((run / "checkpoints").glob("[0-9]*"))


Damage = Callable[[Path], Any]


def with_content(name: str, change: Callable[[bytes], bytes]) -> Damage:
    def damage(folder: Path) -> None:
        (folder / name).write_bytes(change((folder / name).read_bytes()))

    return damage


def replaced(name: str, place: Callable[[Path], Any]) -> Damage:
    def damage(folder: Path) -> None:
        (folder / name).unlink()
        place(folder / name)

    return damage


def resealed(folder: Path, **contents: bytes) -> None:
    """Write files, and a manifest that fits them: what someone could do who means it."""
    manifest = json.loads((folder / MANIFEST).read_bytes())
    manifest.pop("seal")
    for key, content in contents.items():
        name = {"weights": WEIGHTS, "state": STATE, "generators": GENERATORS}[key]
        (folder / name).write_bytes(content)
        digest = checkpoint.hashlib.sha256(content).hexdigest()
        manifest["files"][name] = {"size": len(content), "sha256": digest}
    (folder / MANIFEST).write_bytes(sealed(manifest))


def hostile(**contents: bytes) -> Damage:
    return lambda folder: resealed(folder, **contents)


def edited(change: Callable[[dict[str, Any]], Any]) -> Damage:
    """A state with something else in it, sealed."""

    def damage(folder: Path) -> None:
        state = torch.load(folder / STATE, weights_only=True)
        change(state)
        resealed(folder, state=serialized(state))

    return damage


def reweighted(change: Callable[[dict[str, Any]], Any]) -> Damage:
    def damage(folder: Path) -> None:
        weights = safetensors.torch.load_file(folder / WEIGHTS)
        weights = {name: value.clone() for name, value in weights.items()}
        change(weights)
        resealed(folder, weights=safetensors.torch.save(weights))

    return damage


def manifested(change: Callable[[dict[str, Any]], Any]) -> Damage:
    def damage(folder: Path) -> None:
        manifest = json.loads((folder / MANIFEST).read_bytes())
        manifest.pop("seal")
        change(manifest)
        (folder / MANIFEST).write_bytes(sealed(manifest))

    return damage


def raw_safetensors(header: Any, data: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def tensor(offsets: list[int], shape: list[int], dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def compressed(value: Any) -> bytes:
    """A file of torch's whose content is packed."""
    stored = zipfile.ZipFile(io.BytesIO(serialized(value)))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as packed:
        for entry in stored.infolist():
            packed.writestr(entry.filename, stored.read(entry))
    return buffer.getvalue()


def legacy(value: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


def acting() -> bytes:
    """A file of torch's whose pickle calls a function."""
    stored = zipfile.ZipFile(io.BytesIO(serialized({"a": 1})))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as made:
        for entry in stored.infolist():
            acts = entry.filename.endswith("data.pkl")
            made.writestr(entry.filename, pickle.dumps(Evil()) if acts else stored.read(entry))
    return buffer.getvalue()


def deep(levels: int = 2000) -> bytes:
    return b"[" * levels + b"]" * levels


HUGE = torch.zeros(1).expand(10**5, 10**5)  # 40 GB of a single number
HOSTILE: dict[str, Damage] = {
    "shape bomb": edited(lambda s: s.update(bomb=HUGE)),
    "shape bomb in the optimizer": edited(lambda s: s["optims"].append(HUGE)),
    "sparse tensor": edited(
        lambda s: s.update(
            x=torch.sparse_coo_tensor([[0]], [1.0], (10**12,), check_invariants=False)
        )
    ),
    "meta tensor": edited(lambda s: s.update(x=torch.empty(10**12, device="meta"))),
    "zip bomb": hostile(state=compressed({"x": torch.zeros(10**7)})),
    "legacy file": hostile(state=legacy({"a": 1})),
    "pickle that acts": hostile(state=pickle.dumps(Evil())),
    "torch file that acts": hostile(state=acting()),
    "a module": hostile(state=serialized(torch.nn.Linear(1, 1))),
    "generators that acts": hostile(generators=acting()),
    "generators that is a list": hostile(generators=serialized([1])),
    "generators without generators": hostile(generators=serialized({})),
    "generators with other generators": hostile(
        generators=serialized({"rng": {"torch": torch.zeros(3)}})
    ),
    "a list": hostile(state=serialized([1, 2])),
    "a number": hostile(state=serialized(1)),
    "nothing": hostile(state=serialized({})),
    **{
        f"no {key}": edited(lambda s, key=key: s.pop(key))
        for key in (
            "index",
            "name",
            "step",
            "epoch",
            "position",
            "optims",
            "callbacks",
            "batches",
            "task",
        )
    },
    **{
        f"{key} is {value!r}": edited(lambda s, key=key, value=value: s.update({key: value}))
        for key, value in (
            *(
                ("index", "one"),
                ("index", 7),
                ("index", -1),
                ("name", 3),
                ("step", "x"),
                ("step", None),
            ),
            *(("epoch", "x"), ("position", "x"), ("optims", 1), ("optims", []), ("optims", [1])),
            *(("optims", [{}]), ("callbacks", 1), ("callbacks", {"checkpoint": 1}), ("task", [1])),
        )
    },
    "no weights": hostile(weights=safetensors.torch.save({})),
    "another shape": reweighted(lambda w: w.update({name: torch.zeros(3, 3, 3) for name in w})),
    "another name": reweighted(lambda w: w.update(more=torch.zeros(1))),
    "header of 2^63 bytes": hostile(weights=raw_safetensors({}, length=2**63)),
    "header of 2^40 bytes": hostile(weights=raw_safetensors({}, length=2**40)),
    "header that is no JSON": hostile(weights=raw_safetensors(b"not json")),
    "header that is a list": hostile(weights=raw_safetensors([1])),
    "deep header": hostile(weights=raw_safetensors(b'{"a":' + deep() + b"}")),
    "overlapping offsets": hostile(
        weights=raw_safetensors({"a": tensor([0, 4], [1]), "b": tensor([0, 4], [1])}, bytes(4))
    ),
    "offsets beyond the file": hostile(
        weights=raw_safetensors({"a": tensor([0, 4 * 10**12], [10**12])}, bytes(4))
    ),
    "offsets backwards": hostile(weights=raw_safetensors({"a": tensor([4, 0], [1])}, bytes(4))),
    "shape that overflows": hostile(
        weights=raw_safetensors({"a": tensor([0, 4], [2**62, 2**62])}, bytes(4))
    ),
    "unknown type": hostile(weights=raw_safetensors({"a": tensor([0, 4], [1], "F31")}, bytes(4))),
    "gap between tensors": hostile(weights=raw_safetensors({"a": tensor([4, 8], [1])}, bytes(8))),
    "manifest of another format": manifested(lambda m: m.update(format=99)),
    "manifest without files": manifested(lambda m: m.pop("files")),
    "manifest whose files are a list": manifested(lambda m: m.update(files=[STATE])),
    "manifest with a path": manifested(
        lambda m: m.update(files={f"../{n}": f for n, f in m["files"].items()})
    ),
    "manifest with sizes of text": manifested(
        lambda m: [f.update(size="1") for f in m["files"].values()]
    ),
    "manifest with negative sizes": manifested(
        lambda m: [f.update(size=-1) for f in m["files"].values()]
    ),
    "manifest with sums of numbers": manifested(
        lambda m: [f.update(sha256=5) for f in m["files"].values()]
    ),
    "manifest that is a list": with_content(MANIFEST, lambda c: b"[1, 2]"),
    "manifest that is a number": with_content(MANIFEST, lambda c: b"7"),
    "manifest that is null": with_content(MANIFEST, lambda c: b"null"),
    "deep manifest": with_content(MANIFEST, lambda c: deep()),
    "very deep manifest": with_content(MANIFEST, lambda c: deep(100_000)),
    "manifest with a key twice": with_content(
        MANIFEST, lambda c: c.replace(b'"files"', b'"files": {}, "files"', 1)
    ),
    "manifest of 2 MB": with_content(MANIFEST, lambda c: c + b" " * 2**21),
    "manifest in UTF-16": with_content(MANIFEST, lambda c: c.decode().encode("utf-16")),
}
NAMES = (WEIGHTS, STATE, GENERATORS, MANIFEST)


def fuzzed() -> dict[str, Damage]:
    cases: dict[str, Damage] = {}
    for name in NAMES:
        for damage in (truncated, flipped, zeroed):
            for seed in range(DRAWS):
                draw = random.Random(f"{name} {seed}")
                label = f"{name} {damage.__name__} {seed}"
                cases[label] = with_content(
                    name, lambda content, d=damage, r=draw: d(content, copy.copy(r))
                )
    for name in NAMES if FULL else (STATE,):
        cases |= {
            f"{name} is {kind}": with_content(name, lambda c, new=new: new)
            for kind, new in OTHER_KINDS.items()
        }
    for name in NAMES if FULL else (WEIGHTS, MANIFEST):
        cases |= {f"{name} is {kind}": replaced(name, place) for kind, place in PLACES.items()}
    return cases


CHECKPOINTS = {**fuzzed(), **HOSTILE}


@pytest.mark.parametrize("case", some(CHECKPOINTS))
def test_damaged_and_hostile_checkpoints(
    case: str, trained: Path, refused: Callable[..., Any], tmp_path: Path
) -> None:
    """Evaluate and resume refuse a run whose checkpoints are all damaged; nothing is executed.

    A resume falls back if only the newest one is damaged.
    """
    for name in ("all", "newest") if FULL else ("all",):
        run = tmp_path / name
        shutil.copytree(trained, run, symlinks=True)
        for folder in folders(run) if name == "all" else folders(run)[-1:]:
            CHECKPOINTS[case](folder)
        if name == "all":
            refused(case, "evaluate", str(run))
        lines, codes = (4, (3,)) if name == "all" else (4, (0, 3) if case in HOSTILE else (0,))
        refused(case, "resume", str(run), lines=lines, codes=codes)
        count(f"checkpoints, {name} hurt")
    assert not Path("hit").exists()


POINTERS = {
    "leads out": b"../../../outside",
    "leads to a file": b"../config.yaml",
    "absolute": b"/etc",
    "nul": b"0\x000",
    "long": b"x" * 100_000,
    "no text": b"\xff\xfe\xfa",
    "empty": b"",
}


@pytest.mark.parametrize("case", some(POINTERS))
def test_pointers_that_lead_elsewhere(
    case: str, trained: Path, refused: Callable[..., Any], tmp_path: Path
) -> None:
    """They are found again from the folders."""
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    for pointer in ("best", "last"):
        (run / "checkpoints" / pointer).write_bytes(POINTERS[case])
    refused(case, "evaluate", str(run), codes=(0,))
    refused(case, "resume", str(run), codes=(0,))
    count("pointers")


STRANGERS: dict[str, Callable[[Path], Any]] = {
    "file": lambda place: (place / "notes.txt").write_text("notes"),
    "folder": lambda place: (place / "000000abc").mkdir(),
    "folder with a manifest": lambda place: (
        (place / "stage-x").mkdir(),
        (place / "stage-x" / MANIFEST).write_text("{}"),
    ),
    "file like a step": lambda place: (place / "999999999").write_text("x"),
    "loop": lambda place: (place / "999999999").symlink_to("."),
}


@pytest.mark.parametrize("case", some(STRANGERS))
def test_strangers_among_the_checkpoints(
    case: str, trained: Path, refused: Callable[..., Any], tmp_path: Path
) -> None:
    """Files that dltrain did not write do not matter."""
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    STRANGERS[case](run / "checkpoints")
    refused(case, "evaluate", str(run), codes=(0,))
    refused(case, "resume", str(run), codes=(0,))
    count("strangers")


def described(**changed: Any) -> bytes:
    data = {"input_shape": [1, 1, 2], "class_names": ["0", "1"], "mean": [127.5], "std": [127.5]}
    return json.dumps({"data": data | {"class_counts": [3, 1]} | changed}).encode()


ABOUT: dict[str, bytes] = {
    "empty": b"",
    "list": b"[1]",
    "number": b"3",
    "deep": deep(),
    "very deep": deep(100_000),
    "utf-16": "{}".encode("utf-16"),
    "data is a list": b'{"data": [1]}',
    "data of another kind": b'{"data": {"encoder": {}}}',
    "shape is text": described(input_shape="x"),
    "shape is a number": described(input_shape=3),
    "shape with a text and null": described(input_shape=[1, "a", None]),
    "shape that is huge": described(input_shape=[1, 10**6, 10**6]),
    "shape that is negative": described(input_shape=[1, -1, 2]),
    "shape that is empty": described(input_shape=[]),
    "names are numbers": described(class_names=[1, 2]),
    "names are a number": described(class_names=2),
    "other names": described(class_names=["a", "b", "c"]),
    "mean is text": described(mean=["x"]),
    "deviation of zero": described(std=[0.0]),
    "more means than channels": described(mean=[1.0] * 9),
}


@pytest.mark.parametrize("case", some(ABOUT))
def test_malformed_manifests_of_a_run(
    case: str, trained: Path, refused: Callable[..., Any], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    (run / "manifest.json").write_bytes(ABOUT[case])
    (tmp_path / "x.png").write_bytes(png())
    refused(case, "evaluate", str(run), codes=(3,))
    refused(case, "predict", str(run), "x.png", codes=(3,))
    count("manifests of runs", 2)
