"""The route from the prompt to an optimizer step is short, and docs/design.md describes it."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest

import dltrain as package
from dltrain.optimizers.direct import DirectSGD

PACKAGE = Path(package.__file__).parent
DESIGN = PACKAGE.parent / "docs" / "design.md"
MAX_FILES = 8
MAX_JUMPS = 12


@pytest.fixture
def route(dltrain: Any, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Return file and function of the calls that lead to an optimizer step, the first one first."""
    stacks: list[list[tuple[str, str]]] = []
    update = DirectSGD.update

    def recorded(self: DirectSGD, *args: Any) -> None:
        own = [f for f in inspect.stack(context=0) if Path(f.filename).is_relative_to(PACKAGE)]
        names = [(Path(f.filename).relative_to(PACKAGE).as_posix(), f.function) for f in own]
        stacks.append(names[::-1])
        update(self, *args)

    monkeypatch.setattr(DirectSGD, "update", recorded)
    assert dltrain("model=mlp", "optimizer=sgd", "debug=smoke").code == 0
    return stacks[0]


def test_the_route_to_an_optimizer_step_is_short(route: list[tuple[str, str]]) -> None:
    assert len({file for file, _ in route}) <= MAX_FILES
    assert len(route) <= MAX_JUMPS


def test_the_design_describes_the_route(route: list[tuple[str, str]]) -> None:
    text = DESIGN.read_text(encoding="utf-8")
    described = text.partition("## One run, step by step")[2].partition("\n## ")[0]
    missing = [
        (file, function)
        for file, function in route
        if f"`{file}`" not in described or f"`{function}`" not in described
    ]
    assert missing == []
