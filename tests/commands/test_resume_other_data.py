"""Resuming on data whose tokens have other numbers than the run's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any


def test_a_text_with_another_vocabulary_is_refused(dltrain: Callable[..., Any]) -> None:
    """Exit 3: the same numbers would mean other tokens. The run continues with its own text."""
    for name, text in (("one", "abc def "), ("two", "xyz uvw ")):
        Path(f"{name}.txt").write_text(text * 200, encoding="utf-8")
    chosen = (
        "dataset=language_modeling",
        "dataset.path=one.txt",
        "dataset.length=8",
        "model=gru_lm",
        "model.hidden_size=8",
    )
    run = dltrain(*chosen, "trainer.steps=2", "callbacks=quiet", "--json").json["run"]
    outcome = dltrain("resume", run, "trainer.steps=3", "dataset.path=two.txt")
    assert (outcome.code, "another vocabulary" in outcome.err) == (3, True), outcome.err
    assert dltrain("resume", run, "trainer.steps=3").code == 0
