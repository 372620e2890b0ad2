"""Malformed tables through the commands: exit 3, a line or two each, no traceback, soon.

DLTRAIN_FAULTS=full draws more places to damage and prints the figures.
"""

from __future__ import annotations

import io
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from malformed import DRAWS, OTHER_KINDS, PLACES, count, flipped, some, truncated, zeroed
from pyarrow import parquet

pytestmark = pytest.mark.usefixtures("figures")


def csv(rows: int = 40) -> bytes:
    lines = [
        "a,b,kind,y",
        *(f"{i},{i * i / 7:.3f},{'xyz'[i % 3]},{'no' if i % 2 else 'yes'}" for i in range(rows)),
    ]
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
    columns = {
        "a": rows,
        "kind": ["xyz"[i % 3] for i in rows],
        "y": ["no" if i % 2 else "yes" for i in rows],
    }
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
    """Return malformed tables by file name."""
    cases = {f"{kind}.csv": content for kind, content in CSVS.items()}
    cases |= {f"{kind}.parquet": content for kind, content in PARQUETS.items()}
    for seed in range(5 * DRAWS):
        cases[f"truncated {seed}.parquet"] = truncated(table(), random.Random(seed))
    return cases


TABLES = tables()
ON_TABLE = ("dataset=tabular", "dataset.target=y", "model=mlp", "callbacks=quiet")


@pytest.mark.parametrize("name", some(TABLES))
def test_malformed_tables(name: str, refused: Callable[..., Any]) -> None:
    """Training exits with 3 (2 if the named column is absent), and leaves no run folder."""
    Path(name).write_bytes(TABLES[name])
    outcome = refused(name, *ON_TABLE, f"dataset.path='{name}'", codes=(2, 3))
    assert name in outcome.err
    assert outcome.code == 3 or "target" in outcome.err or "none of that name" in outcome.err
    assert not Path("outputs").exists()
    assert not Path("hit").exists()
    count("tables")


@pytest.mark.parametrize("kind", some(PLACES))
def test_tables_that_are_no_files(kind: str, refused: Callable[..., Any]) -> None:
    PLACES[kind](Path("x.csv"))
    refused(
        kind,
        *ON_TABLE,
        "dataset.path=x.csv",
        codes=(2,) if kind == "a link to another file" else (3,),
    )
    count("tables")


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_tables_with_random_damage(ending: str, dltrain: Callable[..., Any]) -> None:
    """A table with changed bits and bytes can be read, or ends in exit 2 or 3."""
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
    part = pa.table(
        {"a": pa.array(np.zeros(10**6)), "y": pa.array(["no"] * 10**6).dictionary_encode()}
    )
    with parquet.ParquetWriter("x.parquet", part.schema) as writer:
        for _ in range(2):
            writer.write_table(part)
    content = Path("x.parquet").read_bytes()
    assert len(content) < 20_000
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("dltrain.data.tabular.files.parquet_file.free_memory", lambda: 10**6)
        outcome = refused("bomb", *ON_TABLE, "dataset.path=x.parquet")
    assert "2,000,000 rows" in outcome.err
    count("tables")
