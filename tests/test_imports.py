"""Imports that each part may have, and calls that no file may make, read from the syntax."""

from __future__ import annotations

import ast
import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "dltrain"
FILES = sorted(PACKAGE.rglob("*.py"))
RUN = [*FILES, *sorted((PACKAGE.parent / "benchmarks").rglob("*.py"))]
HYDRA = {"hydra", "omegaconf", "antlr4"}
NUMERIC = {"torch", "numpy"}
EVERYWHERE = {"dltrain", "dltrain.errors", "dltrain.types", "dltrain.rng"}

# For each part of the package: the libraries and the parts of dltrain that it may import.
RULES: dict[str, set[str]] = {
    "types": {"annotated_types", "torch", "dltrain.types"},
    "terminal": {"rich"},
    "errors": {"dltrain.terminal"},
    "rng": NUMERIC,
    "models": {"torch", "torchvision", "dltrain.types", "dltrain.models"},
    "losses": {"torch", "dltrain.types"},
    "metrics": {"torch", "torchmetrics", "dltrain.types", "dltrain.losses"},
    "data": {
        *NUMERIC,
        "torchvision",
        "PIL",
        "pyarrow",
        "filelock",
        "fsspec",
        "tokenizers",
        "gymnasium",
        "yaml",
        "dltrain.data",
        "dltrain.errors",
        "dltrain.files",
        "dltrain.rng",
        "dltrain.shell",
        "dltrain.types",
    },
    "optim": {"torch", "dltrain.weights", "dltrain.rng", "dltrain.optim"},
    "engine": {"torch", "dltrain", "dltrain.rng", "dltrain.optim"},
    "preprocessing": {"torch", "dltrain.types", "dltrain.preprocessing"},
    "initialization": {"torch", "dltrain.types", "dltrain.initialization"},
    "optimizers": {"torch", "dltrain.types", "dltrain.optimizers"},
    "schedules": {"torch", "dltrain.types", "dltrain.schedules"},
    "regularization": {"torch", "dltrain.types", "dltrain.regularization", "dltrain.callbacks"},
    "tasks": {
        *(
            "torch",
            "dltrain",
            "dltrain.engine",
            "dltrain.errors",
            "dltrain.optim",
            "dltrain.losses",
            "dltrain.metrics",
        ),
        *(
            "dltrain.rng",
            "dltrain.types",
            "dltrain.tasks",
            "dltrain.weights",
            "sacrebleu",
            "faster_coco_eval",
            "torch_pruning",
        ),
    },
}

# What a part may not import, where it may import the rest.
NEVER: dict[str, set[str]] = {
    "api": {*HYDRA, "dltrain.commands", "dltrain.cli"},
    "weights": {*HYDRA, "dltrain.commands", "dltrain.cli"},
    "runs": {*HYDRA, "dltrain.commands", "dltrain.cli"},
    "callbacks": {
        *HYDRA,
        "dltrain.tasks",
        "dltrain.models",
        "dltrain.data",
        "dltrain.experiment",
        "dltrain.config",
    },
    "report": {
        *HYDRA,
        "dltrain.tasks",
        "dltrain.models",
        "dltrain.experiment",
        "dltrain.config",
        "dltrain.commands",
    },
}
KNOW_HYDRA = {"experiment", "config", "commands", "cli"}
WITHOUT_TORCH = [
    "cli.py",
    "options.py",
    "usage.py",
    "verb_pages.py",
    "verbs.py",
    "config/compose.py",
    "config/check.py",
    "config/policy.py",
    "config/schema.py",
    "commands/list.py",
    "commands/completion.py",
]


def part_of(path: Path) -> str:
    """The first name below the package: engine, models, ..."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """Yield every import of a file, lazy ones too, with its line; of dltrain two names."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}:{node.lineno}: a relative import"
            module = node.module or ""
            names = [f"{module}.{a.name}" for a in node.names] if module == "dltrain" else [module]
        else:
            continue
        for name in names:
            parts = name.split(".")
            yield ".".join(parts[: 2 if parts[0] == "dltrain" else 1]), node.lineno


def violations(path: Path) -> list[str]:
    """The imports of a file that the rules do not allow."""
    part, found = part_of(path), []
    for name, line in imports(path):
        top = name.split(".")[0]
        allowed = part not in RULES or top in sys.stdlib_module_names or name in RULES[part]
        if not allowed or name in NEVER.get(part, ()) or (top in HYDRA and part not in KNOW_HYDRA):
            found.append(f"{path.relative_to(PACKAGE)}:{line} imports {name}")
    return found


# Calls, names and modules that run text or bytes as code, or may.
CALLS = {
    *(
        "eval",
        "exec",
        "compile",
        "__import__",
        "builtins.eval",
        "builtins.exec",
        "os.system",
        "os.popen",
        "pty.spawn",
    ),
    *(
        "yaml.load",
        "yaml.load_all",
        "yaml.unsafe_load",
        "yaml.full_load",
        "pd.read_pickle",
        "pandas.read_pickle",
    ),
    *("torch.jit.load", "torch.export.load", "torch.package.PackageImporter"),
    *("shutil.unpack_archive", "ctypes.CDLL", "torch.utils.cpp_extension.load", "runpy.run_path"),
}
NAMES = {*CALLS, "torch.load", "torch.hub", "torch.serialization.load", "numpy.load"}
PICKLES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
ARCHIVES = (".pt2", ".pkl", ".pickle")  # files that hold code


def dotted(node: ast.expr) -> str:
    """Return a.b.c as it is written; `?` for any other expression that a name is taken from."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else "?"


def is_constant(node: ast.expr | None, value: object) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


def forbidden(source: str) -> list[str]:
    """Calls, names and imports that run text or bytes as code, or write where an archive says."""
    nodes, found = list(ast.walk(ast.parse(source))), []
    calls = [node for node in nodes if isinstance(node, ast.Call)]
    called = {id(call.func) for call in calls}
    for call in calls:
        name = dotted(call.func)
        given = {keyword.arg: keyword.value for keyword in call.keywords}
        where = f"line {call.lineno}: {name}"
        if name == "torch.load" and not is_constant(given.get("weights_only"), True):
            found.append(f"{where} without weights_only=True")
        itself = name == "ctypes.CDLL" and len(call.args) == 1 and is_constant(call.args[0], None)
        if name in CALLS and not itself:  # that is the process that runs: no file is loaded
            found.append(where)
        if "shell" in given and not is_constant(given["shell"], False):
            found.append(f"{where} with shell=")
        if "allow_pickle" in given and not is_constant(given["allow_pickle"], False):
            found.append(f"{where} with allow_pickle=")
        filtered = isinstance(given.get("filter"), ast.Constant) and given["filter"].value == "data"
        if name.endswith((".extractall", ".extract")) and not filtered:
            found.append(f'{where} without filter="data"')
    for node in nodes:
        line = f"line {getattr(node, 'lineno', 0)}:"
        if (
            isinstance(node, ast.Attribute)
            and (name := dotted(node)) in NAMES
            and id(node) not in called
        ):
            found.append(f"{line} {name} by another name")
        if (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and node.value.endswith(ARCHIVES)
        ):
            found.append(f"{line} a file {node.value}")
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        found += [f"{line} imports {n}" for n in names if n.split(".")[0] in PICKLES or n in NAMES]
    return found


def test_the_rules_name_parts_that_exist() -> None:
    parts = {part_of(path) for path in FILES}
    assert (RULES.keys() | NEVER.keys() | KNOW_HYDRA) <= parts


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_a_file_imports_only_what_its_part_may(path: Path) -> None:
    assert violations(path) == []


def imports_of_commands(path: Path) -> list[str]:
    """Return the imports of `dltrain.commands` in a file, with their lines."""
    return [f"line {line}" for name, line in imports(path) if name == "dltrain.commands"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_no_file_imports_a_command(path: Path) -> None:
    """Commands do not import each other, nothing below knows one; the CLI finds them by name."""
    assert imports_of_commands(path) == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_nothing_below_imports_the_python_api(path: Path) -> None:
    """It is on top, as the commands are; `dltrain/__init__.py` exports it."""
    if part_of(path) in ("api", "__init__"):
        return
    assert [f"line {line}" for name, line in imports(path) if name == "dltrain.api"] == []


def test_an_import_of_a_command_is_found(tmp_path: Path) -> None:
    path = tmp_path / "evaluate.py"
    for line in (
        "from dltrain.commands.train import train",
        "from dltrain.commands import train",
        "import dltrain.commands.train",
        "from dltrain import commands",
    ):
        path.write_text(f"def f():\n    {line}\n", encoding="utf-8")
        assert imports_of_commands(path) == ["line 2"]


@pytest.mark.parametrize("path", RUN, ids=lambda path: path.relative_to(PACKAGE.parent).as_posix())
def test_a_file_runs_no_text_or_pickle_as_code(path: Path) -> None:
    assert forbidden(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_a_file_says_first_what_it_holds(path: Path) -> None:
    first = path.read_text(encoding="utf-8").partition("\n")[0]
    assert first.startswith('"""')
    assert len(first) > 10


@pytest.mark.parametrize("name", WITHOUT_TORCH)
def test_what_answers_at_once_imports_no_torch_at_its_top(name: str) -> None:
    tree = ast.parse((PACKAGE / name).read_text(encoding="utf-8"))
    for node in tree.body:
        modules = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        modules += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        assert not [m for m in modules if m.split(".")[0] in (*HYDRA, "torch", "torchvision")], (
            f"{name}:{node.lineno}"
        )


@pytest.mark.parametrize(
    "source",
    [
        "import torch\ntorch.load(path)",
        "torch.load(path, weights_only=False)",
        "torch.load(path, weights_only=flag)",
        "import pickle",
        "from pickle import loads",
        "eval(text)",
        "subprocess.run(text, shell=True)",
        "yaml.load(text)",
        "os.system(text)",
        "torch.jit.load(path)",
        "torch.hub.load(repository, name)",
        "from torch import hub",
        "from torch import load",
        "import torch.hub",
        "load = torch.load",
        "torch.export.load(path)",
        'path = folder / "model.pt2"',
        "yaml.unsafe_load(text)",
        "archive.extractall(folder)",
        'archive.extractall(folder, filter="fully_trusted")',
        "np.load(path, allow_pickle=True)",
        "exec(text)",
        "import joblib",
        "archives[0].extractall(folder)",
        "opened(path).extract(name)",
        "ctypes.CDLL(path)",
        "load = ctypes.CDLL",
    ],
)
def test_the_lint_sees_what_it_forbids(source: str) -> None:
    assert forbidden(source)


@pytest.mark.parametrize(
    "source",
    [
        "torch.load(path, weights_only=True)",
        "model.eval()",
        "yaml.safe_load(text)",
        "network.compile()",
        "np.load(path, allow_pickle=False)",
        'archive.extractall(folder, filter="data")',
        "subprocess.run(words, shell=False)",
        'torch.save(state, "weights.pt")',
    ],
)
def test_the_lint_lets_the_rest_be(source: str) -> None:
    assert forbidden(source) == []


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("models/x.py", "from dltrain.data.images.mnist import MNIST"),
        ("models/x.py", "import omegaconf"),
        ("tasks/x.py", "def f():\n    from dltrain.models.images.cnn import CNN"),
        ("tasks/x.py", "from dltrain import models"),
        ("engine.py", "from dltrain.errors import InputError"),
        ("callbacks/x.py", "from omegaconf import DictConfig"),
        ("callbacks/x.py", "from dltrain.tasks.classification import Classification"),
        ("data/x.py", "from dltrain.engine import Engine"),
        ("run.py", "import hydra"),
    ],
)
def test_the_walk_sees_what_it_forbids(
    name: str, source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules[__name__], "PACKAGE", tmp_path)
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(source, encoding="utf-8")
    assert len(violations(path)) == 1


def test_heavy_libraries_are_imported_where_they_are_needed() -> None:
    """Scoring imports no heavy library that it does not use; plots need no screen.

    That saves seconds and 250 MB. pyplot would look for a screen.
    """
    code = (
        "import sys, torch; from dltrain import metrics;"
        "metrics.classification(torch.eye(9), torch.arange(9));"
        "unwanted = {'torchmetrics', 'torchvision', 'scipy', 'sklearn', 'matplotlib'};"
        "assert not unwanted & set(sys.modules);"
        "from dltrain.report.plots import plot; from dltrain.types import Plot;"
        "assert 'matplotlib' not in sys.modules; plot(Plot({}));"
        "assert 'matplotlib' in sys.modules and 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_package_under_test_is_this_checkout() -> None:
    spec = importlib.util.find_spec("dltrain")
    assert spec is not None
    assert Path(str(spec.origin)).parent == PACKAGE


def test_the_lint_lets_the_process_itself_be_asked() -> None:
    assert forbidden("ctypes.CDLL(None).mallopt") == []
