"""Reading YAML that anybody may have written: refusals have file and line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from dltrain.config.groups import conf_dir
from dltrain.config.read import read_mapping
from dltrain.errors import InputError, UsageError


def read(content: str | bytes) -> dict[str, Any]:
    Path("x.yaml").write_bytes(content.encode() if isinstance(content, str) else content)
    return read_mapping(Path("x.yaml"), InputError)


@pytest.mark.parametrize(
    ("content", "value"),
    [
        ("a: 1\nb: [x, 2.5, null, true]\n", {"a": 1, "b": ["x", 2.5, None, True]}),
        ("", {}),
        ("# nothing\n", {}),
        ("\ufeffa: 1\n", {"a": 1}),
        ("a: &a {x: 1}\nb: {<<: *a, y: 2}\n", {"a": {"x": 1}, "b": {"x": 1, "y": 2}}),
        ("a: &a 1\nb: [*a, *a]\n", {"a": 1, "b": [1, 1]}),
        ("x: {a: 1}\ny: {a: 1}\n", {"x": {"a": 1}, "y": {"a": 1}}),
        ("'1': x\n", {"1": "x"}),
        ("a: !!str 3\n", {"a": "3"}),
        ("x:\n- a\n- a\n", {"x": ["a", "a"]}),
    ],
    ids=str,
)
def test_plain_yaml_is_what_it_says(content: str, value: dict[str, Any]) -> None:
    assert read(content) == value


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("a:\n\tb: 1\n", "x.yaml, line 2: no YAML: found character '\\t'"),
        ("a: 1\nb: 2\na: 3\n", "x.yaml, line 3: the key 'a' stands here for the second time"),
        ("x:\n  - {c: 1, d: [c, c], c: 2}\n", "x.yaml, line 2: the key 'c'"),
        ("a: " + "[" * 2000, "x.yaml, line 1: nested more than 50 deep"),
        ("a: &a x\nb: [" + "*a, " * 21 + "]\n", "x.yaml, line 2: more than 20 aliases"),
        ("a: &a [x]\nb: &b [*a, *a]\n", "x.yaml, line 2: *a stands inside of what an anchor names"),
        ("a: &a [*a]\n", "x.yaml, line 1: *a stands inside"),
        ("- 1\n", "x.yaml: expected keys and values, got a list"),
        ("text\n", "x.yaml: expected keys and values, got 'text'"),
        (b"a: 1\nb: \xff\n", "x.yaml, line 2: not UTF-8 text (byte 0xff)"),
        ("a: 1\nb: \0\n", "x.yaml, line 2: no YAML: a character that no text has (code 0)"),
        ("a: !!python/name:os.system\n", "x.yaml, line 1: the tag !!python/name:os.system"),
        ("<<: 3\n", "x.yaml, line 1: no YAML: expected a mapping"),
        ("a: " + "9" * 5000, "x.yaml, line 1: a number of 5000 digits"),
        ("a: 0x" + "f" * 5000, "x.yaml: a is a number of 20000 bits"),
        ("a: 2001-99-99", "x.yaml cannot be read: month must be in 1..12"),
        ("b: {a: [2001-01-01]}", "x.yaml: b.a is a date: write it in quotes"),
        ("x: {1: y}\n", "x.yaml: the key 1 below x is not text: write it in quotes"),
        ("a: 1\n---\nb: 2\n", "x.yaml, line 2: no YAML: but found another document"),
        ("a: " + "x" * 100_000, "x.yaml: more than 100,000 bytes"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_everything_else_is_refused_with_its_line(content: str | bytes, reason: str) -> None:
    with pytest.raises(InputError) as refused:
        read(content)
    assert reason in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1


def test_what_is_no_file_is_refused_by_the_error_that_was_asked_for(tmp_path: Path) -> None:
    (tmp_path / "link.yaml").symlink_to("nowhere")
    (tmp_path / "folder.yaml").mkdir()
    for name in ("link.yaml", "folder.yaml", "absent.yaml"):
        with pytest.raises(UsageError, match=f"{name} cannot be read"):
            read_mapping(tmp_path / name, UsageError)


def test_it_reads_dltrains_own_files_as_they_are() -> None:
    for path in conf_dir().rglob("*.yaml"):
        assert read_mapping(path, UsageError) == (
            yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        )
