"""Malformed checkpoints, tables and images through the commands: exit 3, a line or two each, no traceback, soon.

DLTRAIN_FAULTS=full draws more places to damage and prints the figures.
"""

from __future__ import annotations

import contextlib
import copy
import gzip
import io
import json
import os
import pickle
import random
import resource
import shutil
import struct
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import safetensors.torch
import torch
from PIL import Image
from pyarrow import parquet

from dltrain import checkpoint
from dltrain.checkpoint import MANIFEST, RANK, STATE, WEIGHTS, sealed, serialized
from dltrain.cli import main

FULL = os.environ.get("DLTRAIN_FAULTS") == "full"
DRAWS = 12 if FULL else 1  # places that each kind of random damage hits
SECONDS = 5.0
MEMORY = 400_000  # KiB that an input may cost beyond what was in use
COUNTS: dict[str, int] = {}


@pytest.fixture(scope="module", autouse=True)
def figures() -> Any:
    yield
    if FULL:
        for what, count in COUNTS.items():
            print(f"\n{what}: {count} dealt with as they should be", end="")


@pytest.fixture
def refused(dltrain: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command, which must end in exit 3 (or `codes`) with at most `lines` lines, within time and memory."""

    def run(what: str, *argv: str, lines: int = 2, codes: tuple[int, ...] = (3,)) -> Any:
        before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
        outcome = dltrain(*argv)
        took = time.perf_counter() - start
        used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        assert outcome.code in codes, f"{what}: exit {outcome.code}\n{outcome.err}"
        assert "Traceback" not in outcome.err, what
        assert "unexpected failure" not in outcome.err, what
        assert len(outcome.err.strip().splitlines()) <= lines, f"{what}\n{outcome.err}"
        assert max(map(len, outcome.err.splitlines()), default=0) < 1000, f"{what}\n{outcome.err}"
        assert took < SECONDS, f"{what}: {took:.1f} s"
        assert used < MEMORY, f"{what}: {used} KiB"
        return outcome

    return run


def some(cases: dict[str, Any]) -> list[str]:
    """All of them, or in the quick form every fourth."""
    return list(cases)[:: 1 if FULL else 8]


def count(what: str, number: int = 1) -> None:
    COUNTS[what] = COUNTS.get(what, 0) + number


# Damage to any file -----------------------------------------------------------------------------------------------


def truncated(content: bytes, draw: random.Random) -> bytes:
    return content[: draw.randrange(len(content))]


def flipped(content: bytes, draw: random.Random) -> bytes:
    at = draw.randrange(len(content))
    return content[:at] + bytes([content[at] ^ (1 << draw.randrange(8))]) + content[at + 1 :]


def zeroed(content: bytes, draw: random.Random) -> bytes:
    size = min(4096, len(content) // 2)
    at = draw.randrange(len(content) - size)
    return content[:at] + bytes(size) + content[at + size :]


def png() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "PNG")
    return buffer.getvalue()


class Evil:
    """Pickled, it makes the file `hit` where it is loaded."""

    def __reduce__(self) -> Any:
        return (Path.touch, (Path("hit"),))


OTHER_KINDS: dict[str, bytes] = {
    "empty": b"",
    "html": b"<html>404 not found</html>" * 50,
    "png": png(),
    "gzip": gzip.compress(b"something" * 100),
    "zeros": bytes(5000),
    "sqlite": b"SQLite format 3\0" + bytes(1000),
    "pickle": pickle.dumps({"a": 1}),
    "pickle that acts": pickle.dumps(Evil()),
    "json": b'{"a": [1, 2, 3]}',
    "utf-16": "a,b\n1,2\n".encode("utf-16"),
}
PLACES: dict[str, Callable[[Path], Any]] = {
    "gone": lambda path: None,
    "a folder": Path.mkdir,
    "a pipe": os.mkfifo,
    "a link to nowhere": lambda path: path.symlink_to("nowhere"),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a link to another file": lambda path: path.symlink_to("/etc/hosts"),
    "a link to a device": lambda path: path.symlink_to("/dev/zero"),
}


# Checkpoints ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with two checkpoints, of a few kilobytes."""
    root = tmp_path_factory.mktemp("trained")
    with contextlib.redirect_stdout(io.StringIO()):
        argv = [
            "dataset=gates",
            "callbacks=quiet",
            f"paths.output={root}",
            "trainer.epochs=2",
            "trainer.save_every=1ep",
        ]
        assert main(argv) == 0
    (run,) = root.glob("*/*")
    assert len(list((run / "checkpoints").glob("[0-9]*"))) == 2
    (run / "results.json").unlink()  # as if it had been killed at its last step
    return run


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
        name = {"weights": WEIGHTS, "state": STATE, "rank": RANK}[key]
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
        lambda s: s.update(x=torch.sparse_coo_tensor([[0]], [1.0], (10**12,), check_invariants=False))
    ),
    "meta tensor": edited(lambda s: s.update(x=torch.empty(10**12, device="meta"))),
    "zip bomb": hostile(state=compressed({"x": torch.zeros(10**7)})),
    "legacy file": hostile(state=legacy({"a": 1})),
    "pickle that acts": hostile(state=pickle.dumps(Evil())),
    "torch file that acts": hostile(state=acting()),
    "a module": hostile(state=serialized(torch.nn.Linear(1, 1))),
    "rank that acts": hostile(rank=acting()),
    "rank that is a list": hostile(rank=serialized([1])),
    "rank without generators": hostile(rank=serialized({})),
    "rank with other generators": hostile(rank=serialized({"rng": {"torch": torch.zeros(3)}})),
    "a list": hostile(state=serialized([1, 2])),
    "a number": hostile(state=serialized(1)),
    "nothing": hostile(state=serialized({})),
    **{
        f"no {key}": edited(lambda s, key=key: s.pop(key))
        for key in ("index", "name", "step", "epoch", "position", "optims", "callbacks", "batches", "task")
    },
    **{
        f"{key} is {value!r}": edited(lambda s, key=key, value=value: s.update({key: value}))
        for key, value in (
            *(("index", "one"), ("index", 7), ("index", -1), ("name", 3), ("step", "x"), ("step", None)),
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
    "offsets beyond the file": hostile(weights=raw_safetensors({"a": tensor([0, 4 * 10**12], [10**12])}, bytes(4))),
    "offsets backwards": hostile(weights=raw_safetensors({"a": tensor([4, 0], [1])}, bytes(4))),
    "shape that overflows": hostile(weights=raw_safetensors({"a": tensor([0, 4], [2**62, 2**62])}, bytes(4))),
    "unknown type": hostile(weights=raw_safetensors({"a": tensor([0, 4], [1], "F31")}, bytes(4))),
    "gap between tensors": hostile(weights=raw_safetensors({"a": tensor([4, 8], [1])}, bytes(8))),
    "manifest of another format": manifested(lambda m: m.update(format=99)),
    "manifest without files": manifested(lambda m: m.pop("files")),
    "manifest whose files are a list": manifested(lambda m: m.update(files=[STATE])),
    "manifest with a path": manifested(lambda m: m.update(files={f"../{n}": f for n, f in m["files"].items()})),
    "manifest with sizes of text": manifested(lambda m: [f.update(size="1") for f in m["files"].values()]),
    "manifest with negative sizes": manifested(lambda m: [f.update(size=-1) for f in m["files"].values()]),
    "manifest with sums of numbers": manifested(lambda m: [f.update(sha256=5) for f in m["files"].values()]),
    "manifest that is a list": with_content(MANIFEST, lambda c: b"[1, 2]"),
    "manifest that is a number": with_content(MANIFEST, lambda c: b"7"),
    "manifest that is null": with_content(MANIFEST, lambda c: b"null"),
    "deep manifest": with_content(MANIFEST, lambda c: deep()),
    "very deep manifest": with_content(MANIFEST, lambda c: deep(100_000)),
    "manifest with a key twice": with_content(MANIFEST, lambda c: c.replace(b'"files"', b'"files": {}, "files"', 1)),
    "manifest of 2 MB": with_content(MANIFEST, lambda c: c + b" " * 2**21),
    "manifest in UTF-16": with_content(MANIFEST, lambda c: c.decode().encode("utf-16")),
}
NAMES = (WEIGHTS, STATE, RANK, MANIFEST)


def fuzzed() -> dict[str, Damage]:
    cases: dict[str, Damage] = {}
    for name in NAMES:
        for damage in (truncated, flipped, zeroed):
            for seed in range(DRAWS):
                draw = random.Random(f"{name} {seed}")
                label = f"{name} {damage.__name__} {seed}"
                cases[label] = with_content(name, lambda content, d=damage, r=draw: d(content, copy.copy(r)))
    for name in NAMES if FULL else (STATE,):
        cases |= {f"{name} is {kind}": with_content(name, lambda c, new=new: new) for kind, new in OTHER_KINDS.items()}
    for name in NAMES if FULL else (WEIGHTS, MANIFEST):
        cases |= {f"{name} is {kind}": replaced(name, place) for kind, place in PLACES.items()}
    return cases


CHECKPOINTS = {**fuzzed(), **HOSTILE}


@pytest.mark.parametrize("case", some(CHECKPOINTS))
def test_damaged_and_hostile_checkpoints(case: str, trained: Path, refused: Callable[..., Any], tmp_path: Path) -> None:
    """Every checkpoint of a run hurt: evaluate and resume refuse, nothing of it is executed; resume falls back where only
    the newest is hurt."""
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
def test_pointers_that_lead_elsewhere(case: str, trained: Path, refused: Callable[..., Any], tmp_path: Path) -> None:
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
def test_strangers_among_the_checkpoints(case: str, trained: Path, refused: Callable[..., Any], tmp_path: Path) -> None:
    """What dltrain did not write there does not matter."""
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
    "shape of numbers that are none": described(input_shape=[1, "a", None]),
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
def test_manifests_of_a_run_that_are_none(
    case: str, trained: Path, refused: Callable[..., Any], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    (run / "manifest.json").write_bytes(ABOUT[case])
    (tmp_path / "x.png").write_bytes(png())
    refused(case, "evaluate", str(run), codes=(3,))
    refused(case, "predict", str(run), "x.png", codes=(3,))
    count("manifests of runs", 2)


# Tables -----------------------------------------------------------------------------------------------------------


def csv(rows: int = 40) -> bytes:
    lines = ["a,b,kind,y", *(f"{i},{i * i / 7:.3f},{'xyz'[i % 3]},{'no' if i % 2 else 'yes'}" for i in range(rows))]
    return "\n".join(lines).encode() + b"\n"


def at_line(number: int, text: bytes) -> bytes:
    lines = csv().splitlines()
    lines[number] = text
    return b"\n".join(lines)


CSVS: dict[str, bytes] = {
    **{kind: content for kind, content in OTHER_KINDS.items() if kind != "json"},
    "header alone": b"a,b,kind,y\n",
    "newlines": b"\n" * 500,
    "commas": b",,,\n" * 50,
    "byte order mark alone": b"\xef\xbb\xbf",
    "nul bytes": csv().replace(b"1", b"\0"),
    "nul line": at_line(7, b"\0\0\0"),
    "latin-1": at_line(7, b"1,2,\xe9t\xe9,no"),
    "utf-8 cut short": at_line(7, b"1,2,\xe2\x82,no"),
    "surrogates": at_line(7, b"1,2,\xed\xa0\x80,no"),
    "a field less": at_line(7, b"1,2,x"),
    "a field more": at_line(7, b"1,2,x,no,9"),
    "a number that is text": at_line(7, b"1,two,x,no"),
    "a number that is infinite": at_line(7, b"1,1e999,x,no"),
    "a number that is too large": at_line(7, b"1,1e200,x,no"),
    "no number": at_line(7, b"1,,x,no"),
    "no target": at_line(7, b"1,2,x,"),
    "an open quote": at_line(7, b'1,2,"x,no'),
    "a quote in a field": at_line(7, b'1,2,"x"y"z,no'),
    "a column twice": csv().replace(b"a,b,kind,y", b"a,a,kind,y"),
    "a column without a name": csv().replace(b"a,b,kind,y", b"a,,kind,y"),
    "one class": csv().replace(b"yes", b"no"),
    "one row": b"\n".join(csv().splitlines()[:2]),
    "a field of a megabyte": at_line(7, b"1,2,x,no," + b"z" * 2**20),
    "a line of a megabyte": b"a,b,kind,y\n" + b"1" * 2**20,
    "a header of a megabyte": b"a," * 2**19,
    "carriage returns alone": b"a,b,kind,y\r1,2,x\r",
}


def table() -> bytes:
    buffer = io.BytesIO()
    rows = list(range(200))
    columns = {"a": rows, "kind": ["xyz"[i % 3] for i in rows], "y": ["no" if i % 2 else "yes" for i in rows]}
    parquet.write_table(pa.table(columns), buffer)
    return buffer.getvalue()


def as_parquet(**columns: Any) -> bytes:
    buffer = io.BytesIO()
    parquet.write_table(pa.table(columns), buffer)
    return buffer.getvalue()


def footer(change: Callable[[bytes], bytes]) -> bytes:
    """A Parquet file with another footer, which says where everything is."""
    content = table()
    size = int.from_bytes(content[-8:-4], "little")
    return content[: -8 - size] + change(content[-8 - size : -8]) + content[-8:]


Y = ["no", "yes"] * 20
PARQUETS: dict[str, bytes] = {
    **OTHER_KINDS,
    "csv": csv(),
    "magic alone": b"PAR1",
    "magic twice": b"PAR1PAR1",
    "encrypted": table()[:-4] + b"PARE",
    "footer that is absurdly long": table()[:-8] + b"\xff\xff\xff\x7fPAR1",
    "footer that is negative": table()[:-8] + b"\xff\xff\xff\xffPAR1",
    "footer of zeros": footer(lambda f: bytes(len(f))),
    "footer of noise": footer(lambda f: random.Random(0).randbytes(len(f))),
    "no rows": as_parquet(a=pa.array([], pa.float64()), y=pa.array([], pa.string())),
    "a target alone": as_parquet(y=Y),
    "not a number": as_parquet(a=[float("nan")] * 40, y=Y),
    "infinite": as_parquet(a=[float("inf")] * 40, y=Y),
    "lists": as_parquet(a=[[1, 2]] * 40, y=Y),
    "structs": as_parquet(a=[{"b": 1}] * 40, y=Y),
    "bytes": as_parquet(a=[b"\xff\xfe"] * 40, y=Y),
}


def tables() -> dict[str, bytes]:
    """By the names of the files."""
    cases = {f"{kind}.csv": content for kind, content in CSVS.items()}
    cases |= {f"{kind}.parquet": content for kind, content in PARQUETS.items()}
    for seed in range(5 * DRAWS):
        cases[f"truncated {seed}.parquet"] = truncated(table(), random.Random(seed))
    return cases


TABLES = tables()
ON_TABLE = ("dataset=tabular", "dataset.target=y", "model=mlp", "callbacks=quiet")


@pytest.mark.parametrize("name", some(TABLES))
def test_malformed_tables(name: str, refused: Callable[..., Any]) -> None:
    """Training on it: exit 3 (or 2 where it has not the column that was named), and no run folder."""
    Path(name).write_bytes(TABLES[name])
    outcome = refused(name, *ON_TABLE, f"dataset.path='{name}'", codes=(2, 3))
    assert name in outcome.err
    assert outcome.code == 3 or "target" in outcome.err
    assert not Path("outputs").exists()
    assert not Path("hit").exists()
    count("tables")


@pytest.mark.parametrize("kind", some(PLACES))
def test_tables_that_are_no_files(kind: str, refused: Callable[..., Any]) -> None:
    PLACES[kind](Path("x.csv"))
    refused(kind, *ON_TABLE, "dataset.path=x.csv", codes=(2,) if kind == "a link to another file" else (3,))
    count("tables")


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_tables_with_random_damage(ending: str, dltrain: Callable[..., Any]) -> None:
    """Bits and bytes changed anywhere: a table that can still be read, or exit 2 or 3; never an unexpected failure."""
    good = csv() if ending == "csv" else table()
    for seed in range(4 * DRAWS):
        draw = random.Random(seed)
        content = (flipped, zeroed)[seed % 2](good, draw)
        Path(f"x.{ending}").write_bytes(content)
        outcome = dltrain("check", *ON_TABLE, f"dataset.path=x.{ending}")
        assert outcome.code in (0, 2, 3), f"{seed}: {outcome.err}"
        assert len(outcome.err.splitlines()) <= 3
        count("tables with random damage")


def test_a_parquet_bomb_is_refused(refused: Callable[..., Any]) -> None:
    """A few kilobytes that hold 10^9 rows of the same value."""
    part = pa.table({"a": pa.array(np.zeros(10**6)), "y": pa.array(["no"] * 10**6).dictionary_encode()})
    with parquet.ParquetWriter("x.parquet", part.schema) as writer:
        for _ in range(2):
            writer.write_table(part)
    content = Path("x.parquet").read_bytes()
    assert len(content) < 20_000
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("dltrain.data.table_files.free_memory", lambda: 10**6)
        outcome = refused("bomb", *ON_TABLE, "dataset.path=x.parquet")
    assert "2,000,000 rows" in outcome.err
    count("tables")


# Images -----------------------------------------------------------------------------------------------------------


def picture(kind: str, size: int = 64) -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise((size, size), 80).convert("RGB").save(buffer, kind)
    return buffer.getvalue()


def images() -> dict[str, bytes]:
    """By the names of the files: what no reader can take for an image."""
    cases = {f"{kind}.{end}": c for kind, c in OTHER_KINDS.items() if kind != "png" for end in ("png", "jpg")}
    for kind in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"):
        for seed in range(2 * DRAWS):
            content = picture(kind)
            cases[f"cut {seed}.{kind.lower()}"] = content[
                : random.Random(f"{kind} {seed}").randrange(len(content) // 2)
            ]
    for seed in range(2 * DRAWS):
        content, draw = bytearray(picture("PNG")), random.Random(seed)
        for _ in range(3):  # hurt in the compressed part, whose sum then is wrong
            content[draw.randrange(60, len(content) - 20)] ^= 1 + draw.randrange(255)
        cases[f"damaged {seed}.png"] = bytes(content)
    return cases


def test_malformed_images_to_predict(trained: Path, refused: Callable[..., Any]) -> None:
    """A line for each, the good one answered, exit 3 at the end."""
    cases = images()
    Path("in").mkdir()
    for name, content in {**cases, "good.png": png()}.items():
        Path("in", name).write_bytes(content)
    for kind, place in PLACES.items():
        if kind != "gone":
            place(Path("in", f"{kind}.png"))
    names = sorted(str(path) for path in Path("in").iterdir())
    start = time.perf_counter()
    outcome = refused("images", "predict", str(trained), *names, "--json", lines=len(names) + 5)
    assert time.perf_counter() - start < SECONDS + 0.01 * len(names)
    assert outcome.json["predicted"] == 1, outcome.out
    assert all(any(name in problem for problem in outcome.json["problems"]) for name in cases)
    assert not Path("hit").exists()
    count("images", len(names) - 1)


def test_malformed_images_to_train_on(refused: Callable[..., Any]) -> None:
    """All named, or the first ones and how many more."""
    cases = images()
    for name in ("cat", "dog"):
        Path("pets", name).mkdir(parents=True)
        for i in range(10):
            Path("pets", name, f"{i}.png").write_bytes(picture("PNG", 8))
    for name, content in cases.items():
        Path("pets", "cat", name).write_bytes(content)
    argv = ("dataset=image_folder", "dataset.path=pets", "dataset.image_size=8", "model=mlp", "callbacks=quiet")
    for memory in ("true", "false"):
        more = (f"dataset.memory={memory}", "dataset.odd_files=refuse")
        outcome = refused("images", *argv, *more, lines=12)
        assert f"{len(cases)} files in pets cannot be used" in outcome.err
        assert not Path("outputs").exists()
        count("images", len(cases))


def test_images_with_random_damage(trained: Path, dltrain: Callable[..., Any]) -> None:
    """Bits and bytes changed anywhere: an image that can still be read, or a line that names it; no crash."""
    Path("in").mkdir()
    number = 0
    for kind in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"):
        content = picture(kind)
        for seed in range(5 * DRAWS):
            damaged = (flipped, zeroed)[seed % 2](content, random.Random(f"{kind} {seed}"))
            Path("in", f"{seed}.{kind.lower()}").write_bytes(damaged)
            number += 1
    outcome = dltrain("predict", str(trained), "in", "--json")
    assert outcome.code in (0, 3), outcome.err
    assert outcome.json["predicted"] + len(outcome.json["problems"]) == number
    count("images with random damage", number)
