"""Labels of texts are compared by their values, as in tables; spaces around them do not count."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from dltrain.data.text.text import Text
from dltrain.data.text.text_files import LabeledTextFiles
from dltrain.errors import InputError

ROOT = Path()


def labeled(labels: list[str], name: str = "texts.csv") -> str:
    rows = [f"word {i},{label}" for i, label in enumerate(labels)]
    Path(name).write_text("\n".join(["text,label", *rows]) + "\n")
    return name


def test_spaces_around_labels_do_not_count() -> None:
    data = LabeledTextFiles(ROOT, labeled([" a", "a ", "007", "7", "b"] * 4))
    assert data.class_names == ("007", "7", "a", "b")


def test_a_label_in_two_writings_is_refused_by_both_lines() -> None:
    with pytest.raises(
        InputError, match=r"texts.csv:3: the label '1.0' is the same value as '1' \(texts.csv:2\)"
    ):
        _ = LabeledTextFiles(ROOT, labeled(["1", "1.0", "2"] * 4)).class_names


def test_other_files_may_write_the_value_of_a_label_otherwise() -> None:
    """Numbers and truth values of JSON are those of a csv file."""
    rows = [{"text": f"word {i}", "label": [1.0, 2][i % 2]} for i in range(8)]
    Path("test.jsonl").write_text("\n".join(map(json.dumps, rows)))
    data = Text(ROOT, LabeledTextFiles(ROOT, labeled(["1", "2"] * 8), test_path="test.jsonl"))
    assert data.stored.targets[data.stored.rows["test"]].tolist() == [0, 1] * 4
    description = json.loads(json.dumps(data.description()))
    Path("flags.csv").write_text(Path("texts.csv").read_text().replace(",1\n", ",1.0\n"))
    other = Text(ROOT, LabeledTextFiles(ROOT, "flags.csv"))
    other.restore(description)
    assert other.stored.targets.tolist() == [0, 1] * 8


def test_a_label_that_means_no_value_in_tables_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        source = LabeledTextFiles(ROOT, labeled(["NA", "a", "b"] * 4))
        assert source.class_names == ("NA", "a", "b")
    assert "texts.csv: the label 'NA' (4 times) is a class here" in caplog.text
