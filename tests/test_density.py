"""The density of the package: decisions, conditional expressions, names.

A limit is what the tree holds today, until it is the aim of the project. It only falls.
"""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "dltrain"
SHORT_FUNCTION_LINES = 9  # shorter functions may be all decisions
MANY_VALUES = 3  # on both sides of an assignment
COMPLEX = 10
VAGUE = (
    "found",
    "told",
    "said",
    "seen",
    "listed",
    "given",
    "taken",
)  # say nothing of what they hold
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
BRANCHES = (
    *(ast.If, ast.For, ast.AsyncFor, ast.While, ast.ExceptHandler, ast.IfExp, ast.Assert),
    *(ast.comprehension, ast.match_case),
)


@dataclass
class Figures:
    """Counts over a folder, and what follows from them."""

    lines: int = 0
    conditional_expressions: int = 0
    assignments: int = 0
    assignments_of_many: int = 0
    functions: list[tuple[int, int]] = field(default_factory=list)  # (decisions, lines of code)

    @property
    def decisions_per_100_lines(self) -> float:
        longer = [
            (count, lines) for count, lines in self.functions if lines >= SHORT_FUNCTION_LINES
        ]
        return 100 * sum(count for count, _ in longer) / sum(lines for _, lines in longer)

    @property
    def percent_complex(self) -> float:
        return 100 * sum(count + 1 > COMPLEX for count, _ in self.functions) / len(self.functions)

    @property
    def conditional_expressions_per_1000_lines(self) -> float:
        return 1000 * self.conditional_expressions / self.lines

    @property
    def percent_of_many(self) -> float:
        return 100 * self.assignments_of_many / self.assignments


def decisions(function: ast.AST) -> int:
    """Return how many branches, loops, conditions and operands of `and` and `or` a function has."""
    count = 0
    for node in ast.walk(function):
        count += isinstance(node, BRANCHES)
        if isinstance(node, ast.comprehension):
            count += len(node.ifs)
        if isinstance(node, ast.BoolOp):
            count += len(node.values) - 1
    return count


def code_lines(function: ast.FunctionDef | ast.AsyncFunctionDef, source: list[str]) -> int:
    """Return the number of lines of a function without blank lines, comments and the docstring."""
    stripped = [line.strip() for line in source[function.lineno - 1 : function.end_lineno]]
    lines = [line for line in stripped if line and not line.startswith("#")]
    docstring = ast.get_docstring(function, clean=False) or ""
    return max(1, len(lines) - len(docstring.splitlines()))


def assigns_many(node: ast.Assign) -> bool:
    """Return whether a statement such as `a, b, c = 1, 2, 3` names three or more things at once."""
    target = node.targets[0]
    if not isinstance(target, ast.Tuple) or not isinstance(node.value, ast.Tuple):
        return False
    return len(target.elts) >= MANY_VALUES


@functools.cache
def measure(folder: Path) -> Figures:
    """Return the figures of all modules below a folder."""
    figures = Figures()
    for path in sorted(folder.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        source = text.splitlines()
        figures.lines += len(source)
        for node in ast.walk(ast.parse(text)):
            figures.conditional_expressions += isinstance(node, ast.IfExp)
            if isinstance(node, ast.Assign):
                figures.assignments += 1
                figures.assignments_of_many += assigns_many(node)
            if isinstance(node, FUNCTIONS):
                figures.functions.append((decisions(node), code_lines(node, source)))
    return figures


LIMITS = {  # figure: (limit, aim)
    "decisions_per_100_lines": (24.7, 20.0),
    "percent_complex": (2.0, 2.0),
    "conditional_expressions_per_1000_lines": (10.0, 10.0),
    "percent_of_many": (0.3, 0.3),
}


@pytest.mark.parametrize("figure", LIMITS)
def test_the_package_is_not_denser_than_its_limit(figure: str) -> None:
    limit, aim = LIMITS[figure]
    value = getattr(measure(ROOT), figure)
    assert value <= max(limit, aim)


def test_configuration_is_not_denser_than_its_limit() -> None:
    assert measure(ROOT / "config").decisions_per_100_lines <= 37.7  # the aim is 28


def test_a_dense_function_is_counted(tmp_path: Path) -> None:
    (tmp_path / "dense.py").write_text(
        '''
def dense(values, limit):
    """Return something."""
    # no line of code
    first, second, third = 1, 2, 3
    if limit and values or first:
        return [value for value in values if value]

    for value in values:
        second += value if value else third
    while second:
        second -= 1
    return second
'''
    )
    figures = measure(tmp_path)
    assert figures.functions == [(8, 9)]
    assert figures.decisions_per_100_lines == pytest.approx(800 / 9)
    assert figures.percent_complex == 0
    assert figures.conditional_expressions == figures.assignments_of_many == 1


TWICE = {  # a configuration node each (a task and its model, a setting and its callback), or a type
    "Constant",
    "Dropout",
    "EarlyStopping",
    "Flip",
    "LanguageModeling",
    "Schedule",
    "Seq2Seq",
    "Table",
    "Text",
}


def test_the_name_of_a_class_has_one_meaning() -> None:
    modules = defaultdict(list)
    for path in sorted(ROOT.rglob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                modules[node.name].append(str(path.relative_to(ROOT)))
    several = {name: paths for name, paths in modules.items() if len(paths) > 1}
    assert set(several) == TWICE, several


def test_locals_say_what_they_hold() -> None:
    counts: Counter[str] = Counter()
    for path in sorted(ROOT.rglob("*.py")):
        for function in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(function, FUNCTIONS):
                stored = {
                    node.id
                    for node in ast.walk(function)
                    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
                }
                counts.update(stored.intersection(VAGUE))
    assert counts.total() <= 7, counts


def undescribed_methods() -> list[str]:
    """Return the public methods and properties without a docstring that no base class declares."""
    modules = [importlib.import_module(name) for name in module_names()]
    classes = {
        item
        for module in modules
        for item in vars(module).values()
        if inspect.isclass(item) and item.__module__.startswith("dltrain.")
    }
    protocols = {
        name for item in classes if getattr(item, "_is_protocol", False) for name in vars(item)
    }
    names = []
    for item in classes:
        if item.__name__.startswith("_"):
            continue
        for name, value in vars(item).items():
            inherited = any(name in vars(base) for base in item.__mro__[1:]) or name in protocols
            if name.startswith("_") or inherited or not defines_a_function(value):
                continue
            if not inspect.getdoc(value):
                names.append(f"{item.__module__}.{item.__qualname__}.{name}")
    return sorted(names)


def module_names() -> list[str]:
    paths = [path.relative_to(ROOT.parent).with_suffix("") for path in sorted(ROOT.rglob("*.py"))]
    return [".".join(path.parts) for path in paths if path.name not in ("__init__", "__main__")]


def defines_a_function(value: object) -> bool:
    if isinstance(value, property | functools.cached_property | staticmethod | classmethod):
        return True
    return inspect.isfunction(value)


def test_public_methods_are_described() -> None:
    """Ruff's D102 would also ask for those that a base class or a protocol describes."""
    names = undescribed_methods()
    assert len(names) <= 5, names
