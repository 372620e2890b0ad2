"""Labels of texts are compared as those of tables are: spaces around them do not count, one value
is one class.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from dltrain.data.text.text_files import TextFiles
from dltrain.errors import InputError


def labelled(labels: list[str], name: str = "texts.csv") -> str:
    rows = [f"word {i},{label}" for i, label in enumerate(labels)]
    Path(name).write_text("\n".join(["text,label", *rows]) + "\n")
    return name


def test_labels_of_texts_are_texts_without_the_spaces_around_them() -> None:
    data = TextFiles(Path(), labelled([" a", "a ", "007", "7", "b"] * 4))
    assert data.class_names == ("007", "7", "a", "b")


def test_a_label_in_two_writings_is_refused_by_both_lines() -> None:
    with pytest.raises(
        InputError, match=r"texts.csv:3: the label '1.0' is the same value as '1' \(texts.csv:2\)"
    ):
        _ = TextFiles(Path(), labelled(["1", "1.0", "2"] * 4)).class_names


def test_other_files_may_write_a_label_otherwise() -> None:
    """Numbers and truth values of JSON are those of a csv file."""
    rows = [{"text": f"word {i}", "label": [1.0, 2][i % 2]} for i in range(8)]
    Path("test.jsonl").write_text("\n".join(map(json.dumps, rows)))
    data = TextFiles(Path(), labelled(["1", "2"] * 8), test_path="test.jsonl")
    assert data.loaded.targets[data.loaded.parts["test"]].tolist() == [0, 1] * 4
    description = json.loads(json.dumps(data.description()))
    Path("flags.csv").write_text(Path("texts.csv").read_text().replace(",1\n", ",1.0\n"))
    other = TextFiles(Path(), "flags.csv")
    other.restore(description)
    assert other.loaded.targets.tolist() == [0, 1] * 8


def test_a_label_that_means_no_value_in_tables_is_told(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert TextFiles(Path(), labelled(["NA", "a", "b"] * 4)).class_names == ("NA", "a", "b")
    assert "texts.csv: the label 'NA' (4 times) is a class here" in caplog.text
