"""JSON that every reader accepts: an undefined figure is null in files, a word on the screen."""

from __future__ import annotations

import csv
import json
import math
import re
from pathlib import Path
from typing import Any

import pytest

import dltrain as package
from dltrain.files import replacing, to_json
from dltrain.report.text import number

SOURCES = Path(package.__file__).parent
NOT_WRITTEN = (
    "data/detection/coco.py",
    "data/rl/environments.py",
)  # make a label of a value, and a text to take its hash


def strict(text: str) -> Any:
    """Parse JSON; ValueError for Infinity and NaN, which JSON does not have."""

    def refuse(token: str) -> None:
        raise ValueError(token)

    return json.loads(text, parse_constant=refuse)


def test_numbers_that_json_lacks_become_null_however_deep() -> None:
    content = {"a": math.inf, "b": [1.5, -math.inf, {"c": (math.nan, "x")}], 1.5: True}
    assert strict(to_json(content)) == {
        "a": None,
        "b": [1.5, None, {"c": [None, "x"]}],
        "1.5": True,
    }
    assert to_json({"ü": [1]}, ensure_ascii=False) == '{"ü": [1]}'


def test_json_is_written_in_one_place() -> None:
    found = [
        p
        for p in SOURCES.rglob("*.py")
        if re.search(r"\bjson\.dumps?\(", p.read_text(encoding="utf-8"))
    ]
    assert {p.relative_to(SOURCES).as_posix() for p in found} - {*NOT_WRITTEN} == {"files.py"}


@pytest.mark.parametrize("value", [None, math.nan, math.inf])
def test_a_figure_without_a_value_is_shown_as_a_word(value: float | None) -> None:
    assert number(value) == "undefined"


def test_json_infinity(dltrain) -> None:
    """Case json-infinity: the naive forecast of a series with a flat end has no error to compare
    with.
    """
    pytest.importorskip("pyarrow")
    values = [f"{20 + 10 * math.sin(i / 6):.3f}" for i in range(150)] + ["3.000"] * 60
    Path("flat_end.csv").write_text("\n".join(["v", *values]) + "\n")
    settings = (
        "dataset=timeseries",
        "dataset.path=flat_end.csv",
        "trainer.epochs=1",
        "callbacks=quiet",
    )
    expected = "expect={test/relative_error: '<1'}"
    outcome = dltrain("-m", "launcher=inline", *settings, "dataset.window=12", expected, "--json")
    assert outcome.code == 0, outcome.err
    jobs = strict(outcome.stdout)["jobs"]
    assert [job["metrics"]["test/relative_error"] for job in jobs] == [None]
    run, sweep = Path(jobs[0]["run"]), Path(jobs[0]["run"]).parent
    assert strict((run / "results.json").read_text())["metrics"]["test/relative_error"] is None
    assert (
        strict((run / "results.json").read_text())["expect"]["test/relative_error"]["met"] is False
    )
    end = strict((sweep / "sweep.jsonl").read_text().splitlines()[-1])
    assert end["row"]["metrics"]["test/relative_error"] is None
    (row,) = csv.DictReader((sweep / "results.csv").read_text().splitlines())
    assert row["test/relative_error"] == ""
    for line in (run / "metrics.jsonl").read_text().splitlines():
        strict(line)
    outcome = dltrain("evaluate", str(run), "--json")
    assert strict(outcome.stdout)["metrics"]["test/relative_error"] is None
    assert "undefined" in outcome.out
    assert (
        "flat_end.csv:180: from here on the test part of the series is 3 throughout"
        in outcome.out + outcome.err
    )
    assert dltrain("resume", str(run), "trainer.epochs=2", "--json").code == 0


def test_a_name_that_is_not_utf8_is_written_with_escapes(tmp_path: Path) -> None:
    """Names of files are bytes: one of another encoding reaches Python as lone surrogates."""
    name = b"caf\xe9.png".decode("utf-8", "surrogateescape")
    assert to_json({name: "größe"}, ensure_ascii=False) == '{"caf\\udce9.png": "gr\\u00f6\\u00dfe"}'
    assert to_json({"x": "größe"}, ensure_ascii=False) == '{"x": "größe"}'
    with replacing(tmp_path / "names.csv", "names") as file:
        file.write(f"{name},größe\n")
    assert (tmp_path / "names.csv").read_text(encoding="utf-8") == "caf\\udce9.png,größe\n"
