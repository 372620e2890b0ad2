"""Configurations that earlier versions saved for data sets of texts still load."""

from __future__ import annotations

import importlib
import inspect
from typing import Any

import pytest

from dltrain.config.renamed import with_current_names

TEXT = "dltrain.data.text.text.Text"
LANGUAGE = "dltrain.data.text.language.LanguageModeling"
PAIRS = "dltrain.data.text.pairs"


@pytest.mark.parametrize(
    ("saved", "current"),
    [
        (
            {
                "_target_": "dltrain.data.text_files.TextFiles",
                "path": "texts.csv",
                "text": "body",
                "encoding": "cp1252",
                "vocab_size": 9,
            },
            {
                "_target_": TEXT,
                "vocab_size": 9,
                "source": {
                    "_target_": "dltrain.data.text.text_files.LabeledTextFiles",
                    "path": "texts.csv",
                    "text": "body",
                    "encoding": "cp1252",
                },
            },
        ),
        (
            {
                "_target_": "dltrain.data.language.LanguageModeling",
                "path": "book.txt",
                "val_path": None,
                "length": 8,
            },
            {
                "_target_": LANGUAGE,
                "length": 8,
                "source": {
                    "_target_": "dltrain.data.text.prose.ProseFiles",
                    "path": "book.txt",
                    "val_path": None,
                },
            },
        ),
        (
            {
                "_target_": "dltrain.data.text.language.LanguageModeling",
                "source": {"_target_": "dltrain.data.language.Shakespeare"},
            },
            {
                "_target_": LANGUAGE,
                "source": {"_target_": "dltrain.data.text.prose.Shakespeare"},
            },
        ),
        (
            {"_target_": TEXT, "source": {"_target_": "dltrain.data.imdb.IMDB"}},
            {"_target_": TEXT, "source": {"_target_": "dltrain.data.text.sentiment.IMDB"}},
        ),
        ({"_target_": "dltrain.data.multi30k.Multi30k"}, {"_target_": f"{PAIRS}.Multi30k"}),
        ({"_target_": "dltrain.data.reversal.Reversal"}, {"_target_": f"{PAIRS}.Reversal"}),
        (
            {"_target_": "dltrain.data.translation.ParallelFiles", "source": "a", "target": "b"},
            {"_target_": f"{PAIRS}.ParallelFiles", "source": "a", "target": "b"},
        ),
    ],
)
def test_a_saved_configuration_has_its_present_classes(
    saved: dict[str, Any], current: dict[str, Any]
) -> None:
    assert with_current_names(saved) == current
    assert with_current_names(current) == current
    check_signatures(current)


def check_signatures(node: dict[str, Any]) -> None:
    """Every target exists and takes the keys of its node."""
    module, _, name = node["_target_"].rpartition(".")
    parameters = inspect.signature(getattr(importlib.import_module(module), name)).parameters
    assert set(node) - {"_target_"} <= set(parameters)
    for child in node.values():
        if isinstance(child, dict):
            check_signatures(child)
