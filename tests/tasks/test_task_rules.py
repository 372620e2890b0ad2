"""Rules for the code of tasks, read from the syntax of every file."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

TASKS = Path(__file__).parents[2] / "dltrain" / "tasks"
FILES = sorted(TASKS.rglob("*.py"))
PROBES = {"getattr", "hasattr", "setattr", "delattr"}


def assigned(tree: ast.AST) -> Iterator[ast.expr]:
    """Yield the targets of all assignments."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            yield from node.targets
        elif isinstance(node, ast.AugAssign | ast.AnnAssign):
            yield node.target


def problems(source: str) -> list[str]:
    """Return the lines in which a task probes an object, or writes into its data."""
    tree = ast.parse(source)
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in PROBES:
            found.append(ast.unparse(node))
    for target in assigned(tree):
        owner = ast.unparse(target).rpartition(".")[0]
        if owner.removeprefix("self.").split(".")[0] == "data":
            found.append(ast.unparse(target))
    return found


@pytest.mark.parametrize("path", FILES, ids=[str(path.relative_to(TASKS)) for path in FILES])
def test_a_task_neither_probes_objects_nor_writes_into_its_data(path: Path) -> None:
    """Abilities of networks are declared in dltrain.types.networks; data offers methods."""
    assert problems(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "source",
    [
        "hasattr(model, 'decode')",
        "getattr(model, 'rbms', ())",
        "self.data.train.memory = replay",
        "data.train.memory = replay",
        "self.data.seed += 1",
    ],
)
def test_a_violation_is_found(source: str) -> None:
    assert problems(source)


@pytest.mark.parametrize(
    "source", ["self.data = data", "self.data.train.save_with(replay)", "metadata.x = 1"]
)
def test_other_code_is_accepted(source: str) -> None:
    assert problems(source) == []
