"""The public API: what `dltrain` exports, lazily, and that documents import from there alone."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from itertools import chain
from pathlib import Path

import pytest

import dltrain

ROOT = Path(__file__).parents[1]
DOCUMENTS = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md"]


def test_every_public_name_is_there() -> None:
    assert {*dltrain.MODULE_OF, "rng"} == set(dltrain.__all__)
    for name in dltrain.__all__:
        assert getattr(dltrain, name).__doc__ or name in dir(dltrain)
    assert set(dltrain.__all__) <= set(dir(dltrain))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Tusk'"):
        _ = dltrain.Tusk  # type: ignore[attr-defined]


def test_the_imports_for_type_checkers_are_the_lazy_ones() -> None:
    tree = ast.parse(Path(dltrain.__file__).read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    imported = {
        alias.name: node.module
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert imported == {**dltrain.MODULE_OF, "rng": "dltrain"}


def test_importing_dltrain_imports_no_torch() -> None:
    code = "import sys, dltrain; assert not {'torch', 'numpy', 'hydra'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("page", DOCUMENTS, ids=lambda page: page.name)
def test_documents_import_from_the_public_api_only(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert re.findall(r"^(?:from dltrain\.|import dltrain\.).*$", text, re.MULTILINE) == []
    for names in re.findall(r"^from dltrain import (.*)$", text, re.MULTILINE):
        assert set(re.split(r",\s*", names)) <= set(dltrain.__all__)


def test_extras_add_up_to_all() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    own = [extras[name] for name in extras if name not in ("all", "test", "bench")]
    assert set(extras["all"]) == set(chain(*own))
    assert project["name"] == "dltrain-cli"  # the package index has a stranger's dltrain


FILES = [
    path
    for folder in ("dltrain", "conf", "docs", "benchmarks")
    for path in (ROOT / folder).rglob("*")
]


@pytest.mark.parametrize("path", [*DOCUMENTS, ROOT / "CONTRIBUTING.md"], ids=lambda path: path.name)
def test_nobody_is_told_to_install_an_extra_of_the_stranger(path: Path) -> None:
    assert "dltrain[" not in path.read_text(encoding="utf-8")


def test_no_message_tells_to_install_an_extra_of_the_stranger() -> None:
    texts = [path for path in FILES if path.suffix in (".py", ".yaml", ".md")]
    assert texts
    assert [path for path in texts if "dltrain[" in path.read_text(encoding="utf-8")] == []


def test_the_version_is_the_same_everywhere() -> None:
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"\nversion: {dltrain.__version__}\n" in citation
    assert re.search(
        rf"^## \[{re.escape(dltrain.__version__)}\] - \d{{4}}-\d\d-\d\d$", changelog, re.MULTILINE
    )
